"""Residual k-means: nested, deterministic, no empty cells, and the stage's refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Stages, says
from tokenizing import OPEN, tokenize_vectors, unit_vectors

from hisac_lab.base.artifacts import load_array, read_manifest, save_arrays, sha256_tree
from hisac_lab.config.tokens import RQVAEConfig, TokenizeConfig, TokenizeLimits
from hisac_lab.tokens import kmeans
from hisac_lab.tokens.methods import open_quantizer, sample
from hisac_lab.tokens.quantizer import ResidualQuantizer, depth_of, fit, fit_mini_batch
from hisac_lab.tokens.tokenize import tokenize


@given(seed=st.integers(0, 1000), depth=st.integers(1, 3), count=st.integers(12, 80))
@settings(max_examples=25, deadline=None)
def test_codes_of_a_shallow_quantizer_are_the_first_levels_of_a_deep_one(seed: int, depth: int, count: int) -> None:
    vectors, widths = unit_vectors(count, seed), (5, 4, 3, 2)
    deep, shallow = fit(vectors, widths, 20, seed), fit(vectors, widths[:depth], 20, seed)
    np.testing.assert_array_equal(deep.encode(vectors)[:, :depth], shallow.encode(vectors))


def test_fitting_twice_gives_the_same_codewords_and_another_seed_others() -> None:
    vectors = unit_vectors()
    one, two, other = (fit(vectors, (8, 4), 20, seed) for seed in (0, 0, 1))
    for level in range(2):
        np.testing.assert_array_equal(one.codewords[level], two.codewords[level])
    assert not np.array_equal(one.codewords[0], other.codewords[0])


def test_the_global_generator_is_neither_used_nor_disturbed() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    fit(unit_vectors(), (4, 4), 20, 0)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], before)  # noqa: NPY002


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_each_level_takes_the_codeword_nearest_to_what_is_left(seed: int) -> None:
    vectors = unit_vectors(40, seed)
    quantizer = fit(vectors, (5, 3), 20, seed)
    for vector, codes in zip(vectors, quantizer.encode(vectors), strict=True):
        left = vector.astype(np.float64)
        for level, code in enumerate(codes):
            distance = ((quantizer.codewords[level] - left) ** 2).sum(axis=1)
            assert distance[code] <= distance.min() + 1e-6
            left -= quantizer.codewords[level][code]


def test_decoding_sums_codewords_and_encoding_finds_them_again() -> None:
    first = np.array([[10, 0], [0, 10], [-10, 0]], np.float32)
    second = np.array([[1, 0], [0, 1]], np.float32)
    quantizer = ResidualQuantizer((first, second))
    codes = np.array([[a, b] for a in range(3) for b in range(2)], np.int32)
    decoded = quantizer.decode(codes)
    np.testing.assert_array_equal(decoded[1], [10, 1])
    np.testing.assert_array_equal(quantizer.encode(decoded), codes)
    np.testing.assert_array_equal(quantizer.decode(codes[:, :1]), first[codes[:, 0]])


def test_ties_go_to_the_lower_code() -> None:
    quantizer = ResidualQuantizer((np.array([[1, 0], [-1, 0], [1, 0]], np.float32),))
    assert quantizer.encode(np.array([[0, 0], [1, 0]], np.float32)).tolist() == [[0], [0]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("start", ["k-means++", "all in one place"])
def test_no_code_of_the_first_level_is_empty(seed: int, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the worst start all cells but one are empty; the repair gives each the worst-served vector."""
    if start == "all in one place":
        monkeypatch.setattr(kmeans, "plus_plus", lambda vectors, width, random: np.tile(vectors[0], (width, 1)))
    random = np.random.default_rng(seed)
    places = np.repeat(random.normal(size=(8, 4)) * 10, [200, 100, 5, 4, 3, 2, 1, 1], axis=0)
    vectors = (places + random.normal(0, 0.01, places.shape)).astype(np.float32)
    fitted = fit(vectors, (8,), 50, seed)
    assert np.isfinite(fitted.codewords[0]).all()
    assert len(np.unique(fitted.encode(vectors))) == 8


def test_every_level_explains_more() -> None:
    vectors = unit_vectors(200)
    quantizer = fit(vectors, (6, 6, 6), 50, 0)
    codes = quantizer.encode(vectors)
    errors = [((vectors - quantizer.decode(codes[:, :depth])) ** 2).sum() for depth in range(1, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_the_stage_writes_codes_codewords_and_quality(stages: Stages, tmp_path: Path) -> None:
    quantizer = ResidualQuantizer.load(stages.tokenize)
    codes = load_array(stages.tokenize, "codes")
    manifest = read_manifest(stages.tokenize)
    assert codes.shape == (80, 3)
    assert quantizer.depth == depth_of(stages.tokenize) == manifest["depth"] == 3
    assert [words.shape[0] for words in quantizer.codewords] == manifest["widths"] == [8, 8, 8]
    np.testing.assert_array_equal(quantizer.encode(np.asarray(load_array(stages.embed, "embeddings"))), codes)
    config = TokenizeConfig(widths=(8, 8, 8), flat=(6,))
    tokenize(config, prepared=stages.prepare, embedded=stages.embed, out=tmp_path)
    assert sha256_tree(tmp_path) == sha256_tree(stages.tokenize)


def test_items_without_an_embedding_get_no_id(tmp_path: Path) -> None:
    vectors = unit_vectors()
    vectors[[4, 40]] = 0
    codes = load_array(tokenize_vectors(tmp_path, vectors, TokenizeConfig(widths=(8, 4), limits=OPEN)), "codes")
    assert np.flatnonzero((codes < 0).any(axis=1)).tolist() == [4, 40]
    assert (codes[[4, 40]] == -1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_told_by_its_row(tmp_path: Path, value: float) -> None:
    vectors = unit_vectors()
    vectors[7, 3] = value
    with says("embeddings.npy", "row 7 is not finite"):
        tokenize_vectors(tmp_path, vectors, TokenizeConfig(widths=(4,)))


def test_more_codes_than_distinct_vectors_are_refused(tmp_path: Path) -> None:
    vectors = np.tile(unit_vectors(5), (20, 1))
    with says("settings", "tokenize.widths", "6 codes", "5 distinct"):
        tokenize_vectors(tmp_path, vectors, TokenizeConfig(widths=(2, 6), limits=OPEN))
    tokenize_vectors(tmp_path, vectors, TokenizeConfig(widths=(2, 5), limits=OPEN))


def test_items_without_any_embedding_are_refused(tmp_path: Path) -> None:
    with says("embeddings.npy", "no item has an embedding", "texts or vectors"):
        tokenize_vectors(tmp_path, np.zeros((9, 4), np.float32), TokenizeConfig(widths=(2,)))


def test_embeddings_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    with says("embeddings.npy", "all embeddings are equal", "differ"):
        tokenize_vectors(tmp_path, np.ones((9, 4), np.float32), TokenizeConfig(widths=(2,)))


@pytest.mark.parametrize("shape", [(8, 4), (10, 4), (9,)])
def test_embeddings_of_other_items_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tokenize_vectors(tmp_path, unit_vectors(9), TokenizeConfig(widths=(2,), limits=OPEN))
    save_arrays(tmp_path / "embed", {"embeddings": np.ones(shape, np.float32)})
    with says("embeddings.npy", " x ".join(map(str, shape)), "there are 9 items", "stage embed"):
        tokenize(
            TokenizeConfig(widths=(2,)),
            prepared=tmp_path / "prepare",
            embedded=tmp_path / "embed",
            out=tmp_path / "tokenize",
        )


def test_the_gate_stops_the_stage(tmp_path: Path) -> None:
    with says("settings", "tokenize.limits.min_occupancy", "the limit is 2.0"):
        tokenize_vectors(
            tmp_path, unit_vectors(), TokenizeConfig(widths=(4, 2), limits=TokenizeLimits(min_occupancy=2))
        )


@pytest.mark.parametrize("method", ["residual_kmeans", "rqvae", "random"])
def test_every_method_goes_through_the_stage(tmp_path: Path, method: Any) -> None:
    config = TokenizeConfig(method=method, widths=(4, 3), limits=OPEN, rqvae=RQVAEConfig(latent=3, steps=20))
    vectors = unit_vectors()
    vectors[5] = 0
    out = tokenize_vectors(tmp_path, vectors, config)
    manifest, quantizer = read_manifest(out), open_quantizer(out)
    assert (manifest["method"], manifest["items_without_id"], manifest["refit"]) == (method, 1, {})
    codes = load_array(out, "codes")
    np.testing.assert_array_equal(quantizer.encode(vectors[:5]), codes[:5])
    table = pd.read_parquet(out / "ids.parquet")
    np.testing.assert_array_equal(table[["code_1", "code_2"]], codes)
    assert (out / "latents.npy").exists() == (method == "rqvae")
    if method == "rqvae":
        latents = np.asarray(load_array(out, "latents"))
        assert not latents[5].any()
        np.testing.assert_allclose(latents[:5], quantizer.project(vectors[:5]), atol=1e-6)
    assert not (out / "known.npy").exists()


def test_a_refit_keeps_code_numbers_and_tells_what_changed(tmp_path: Path) -> None:
    vectors, config = unit_vectors(606), TokenizeConfig(widths=(8, 6), limits=OPEN)
    first = tokenize_vectors(tmp_path, vectors[:600], config, "first")
    refit = config.model_copy(update={"previous": str(first)})
    second = tokenize_vectors(tmp_path, vectors, refit, "second")
    facts = read_manifest(second)["refit"]
    assert (facts["new_items"], facts["old_items"]) == (6, 600)
    before, after = load_array(first, "codes"), load_array(second, "codes")[:600]
    assert facts["changed_ids"] == pytest.approx((before != after).any(axis=1).mean(), abs=1e-6)
    assert facts["changed_by_level"][0] == pytest.approx((before != after)[:, 0].mean(), abs=1e-6)
    assert facts["changed_ids"] <= 0.02
    moved = [one.codewords[0] - other.codewords[0] for one, other in [(open_quantizer(first), open_quantizer(second))]]
    assert 0 < np.abs(moved[0]).max() < 0.1


@pytest.mark.parametrize("method", ["residual_kmeans", "rqvae"])
def test_frozen_codewords_give_older_items_their_ids_and_new_ones_the_nearest(method: str, tmp_path: Path) -> None:
    vectors = unit_vectors(260)
    config = TokenizeConfig(method=method, widths=(8, 6), limits=OPEN, flat=(5,), rqvae=RQVAEConfig(steps=20))
    first = tokenize_vectors(tmp_path, vectors[:200], config, "first")
    frozen = config.model_copy(update={"previous": str(first), "frozen": True})
    second = tokenize_vectors(tmp_path, vectors, frozen, "second")
    for name in ("codewords_0", "codewords_1", "flat_5_vectors"):
        np.testing.assert_array_equal(load_array(second, name), load_array(first, name))
    for name in ("codes", "flat_5_nodes"):
        np.testing.assert_array_equal(load_array(second, name)[:200], load_array(first, name))
    np.testing.assert_array_equal(load_array(second, "codes")[200:], open_quantizer(first).encode(vectors[200:]))
    facts = read_manifest(second)["refit"]
    assert (facts["new_items"], facts["changed_ids"]) == (60, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": (8, 4)}, ("tokenize.widths", "[8, 4]", "[8, 6]", "make them equal")),
        ({"method": "random"}, ("tokenize.method", "random", "residual_kmeans", "make them equal")),
        ({"previous": "nowhere"}, ("nowhere", "does not exist")),
    ],
)
def test_an_earlier_fit_that_does_not_match_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    config = TokenizeConfig(widths=(8, 6), limits=OPEN)
    first = tokenize_vectors(tmp_path, unit_vectors(200), config, "first")
    refit = config.model_copy(update={"previous": str(first)} | changes)
    with says(*words):
        tokenize_vectors(tmp_path, unit_vectors(200), refit, "second")


def test_an_earlier_fit_of_other_embeddings_is_refused(tmp_path: Path) -> None:
    config = TokenizeConfig(widths=(8, 6), limits=OPEN)
    first = tokenize_vectors(tmp_path, unit_vectors(200), config, "first")
    with says("tokenize.previous", "5 wide", "6", "set it null"):
        tokenize_vectors(
            tmp_path, unit_vectors(200)[:, :5], config.model_copy(update={"previous": str(first)}), "second"
        )


def test_a_code_far_from_the_rest_does_not_swallow_all_when_codes_are_balanced() -> None:
    """Its price was made for where it stood: once it stands among the others, it would be the cheapest for all."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(600, 32)) + random.normal(size=(6, 32))[random.integers(6, size=600)]
    groups = random.integers(3, 12)
    vectors[: 2 * groups] = random.normal(size=(groups, 32)).repeat(2, axis=0) * random.choice([1, 2, 3])
    vectors[-1] *= random.choice([2, 4, 8])
    codes = fit(vectors.astype(np.float32), (16, 16, 16), 30, 0, balanced=True).encode(vectors.astype(np.float32))
    assert max(np.bincount(codes[:, level]).max() for level in range(3)) < 2 * 600 / 16


def test_balanced_codes_are_more_even() -> None:
    random = np.random.default_rng(0)
    places = np.repeat(random.normal(size=(6, 5)), [400, 100, 50, 30, 10, 10], axis=0)
    vectors = (places + random.normal(0, 0.2, places.shape)).astype(np.float32)
    largest = {}
    for balanced in (False, True):
        codes = fit(vectors, (6, 6), 30, 0, balanced).encode(vectors)
        largest[balanced] = [int(np.bincount(codes[:, level]).max()) for level in range(2)]
    assert largest[True][0] < 0.7 * largest[False][0]
    assert largest[True][1] < largest[False][1]


def test_mini_batches_come_near_full_passes_and_read_only_their_rows() -> None:
    vectors = unit_vectors(3000)

    def error(quantizer: ResidualQuantizer) -> float:
        return float(((vectors - quantizer.decode(quantizer.encode(vectors))) ** 2).sum())

    class Watched:
        """Says how many rows were asked for at once."""

        most = 0

        def __len__(self) -> int:
            return len(vectors)

        def __getitem__(self, rows: np.ndarray) -> np.ndarray:
            Watched.most = max(Watched.most, len(rows))
            taken: np.ndarray = vectors[rows]
            return taken

    found = kmeans.mini_batch_kmeans(Watched(), 5, 40, 100, np.random.default_rng(0))
    assert found.shape == (5, 6)
    assert Watched.most <= max(100, 5 * kmeans.START_PER_CODE)
    full, small = fit(vectors, (8, 8), 50, 0), fit_mini_batch(vectors, (8, 8), 60, 256, 0)
    assert error(small) < 1.1 * error(full)


def test_a_sample_is_as_large_as_asked_and_never_the_same_row_twice() -> None:
    vectors = unit_vectors(500)
    config = TokenizeConfig(widths=(4, 8), sample_per_code=10)
    drawn = sample(vectors, config, 0)
    assert len(drawn) == len(np.unique(drawn, axis=0)) == 80
    np.testing.assert_array_equal(sample(vectors[:60], config, 0), vectors[:60])
