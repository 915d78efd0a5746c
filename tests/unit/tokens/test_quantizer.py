"""Residual k-means: nested, deterministic, no empty cells, and the stage's refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Stages, says

from hisac_lab.base.artifacts import load_array, read_manifest, save_arrays, sha256_tree
from hisac_lab.config.tokens import TokenizeConfig, TokenizeLimits
from hisac_lab.tokens import quantizer
from hisac_lab.tokens.quantizer import ResidualQuantizer, depth_of, fit
from hisac_lab.tokens.run import tokenize

OPEN = TokenizeLimits(min_use=0, max_collision_rate=1, max_bucket_share=1)


def _vectors(count: int = 100, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _tokenize(home: Path, vectors: np.ndarray, config: TokenizeConfig) -> Path:
    for name in ("embed", "tokenize"):
        (home / name).mkdir(exist_ok=True)
    save_arrays(home / "embed", {"embeddings": vectors})
    tokenize(config, home / "embed", home / "tokenize")
    return home / "tokenize"


@given(seed=st.integers(0, 1000), depth=st.integers(1, 3), count=st.integers(12, 80))
@settings(max_examples=25, deadline=None)
def test_codes_of_a_shallow_quantiser_are_the_first_levels_of_a_deep_one(seed: int, depth: int, count: int) -> None:
    vectors, widths = _vectors(count, seed), (5, 4, 3, 2)
    deep, shallow = fit(vectors, widths, 20, seed), fit(vectors, widths[:depth], 20, seed)
    np.testing.assert_array_equal(deep.encode(vectors)[:, :depth], shallow.encode(vectors))


def test_fitting_twice_gives_the_same_codewords_and_another_seed_others() -> None:
    vectors = _vectors()
    one, two, other = (fit(vectors, (8, 4), 20, seed) for seed in (0, 0, 1))
    for level in range(2):
        np.testing.assert_array_equal(one.codewords[level], two.codewords[level])
    assert not np.array_equal(one.codewords[0], other.codewords[0])


def test_the_global_generator_is_neither_used_nor_disturbed() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fit(_vectors(), (4, 4), 20, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_each_level_takes_the_codeword_nearest_to_what_is_left(seed: int) -> None:
    vectors = _vectors(40, seed)
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
        monkeypatch.setattr(quantizer, "_plus_plus", lambda vectors, width, random: np.tile(vectors[0], (width, 1)))
    random = np.random.default_rng(seed)
    places = np.repeat(random.normal(size=(8, 4)) * 10, [200, 100, 5, 4, 3, 2, 1, 1], axis=0)
    vectors = (places + random.normal(0, 0.01, places.shape)).astype(np.float32)
    fitted = fit(vectors, (8,), 50, seed)
    assert np.isfinite(fitted.codewords[0]).all()
    assert len(np.unique(fitted.encode(vectors))) == 8


def test_every_level_explains_more() -> None:
    vectors = _vectors(200)
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
    tokenize(TokenizeConfig(widths=(8, 8, 8)), stages.embed, tmp_path)
    assert sha256_tree(tmp_path) == sha256_tree(stages.tokenize)


def test_items_without_an_embedding_get_no_id(tmp_path: Path) -> None:
    vectors = _vectors()
    vectors[[4, 40]] = 0
    codes = load_array(_tokenize(tmp_path, vectors, TokenizeConfig(widths=(8, 4), limits=OPEN)), "codes")
    assert np.flatnonzero((codes < 0).any(axis=1)).tolist() == [4, 40]
    assert (codes[[4, 40]] == -1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_told_by_its_row(tmp_path: Path, value: float) -> None:
    vectors = _vectors()
    vectors[7, 3] = value
    with says("embeddings.npy", "row 7 is not finite"):
        _tokenize(tmp_path, vectors, TokenizeConfig(widths=(4,)))


def test_more_codes_than_distinct_vectors_are_refused(tmp_path: Path) -> None:
    vectors = np.tile(_vectors(5), (20, 1))
    with says("params.yaml", "tokenize.widths", "6 codes", "5 distinct"):
        _tokenize(tmp_path, vectors, TokenizeConfig(widths=(2, 6), limits=OPEN))
    _tokenize(tmp_path, vectors, TokenizeConfig(widths=(2, 5), limits=OPEN))


def test_items_without_any_embedding_are_refused(tmp_path: Path) -> None:
    with says("params.yaml", "tokenize.widths", "0 distinct"):
        _tokenize(tmp_path, np.zeros((9, 4), np.float32), TokenizeConfig(widths=(2,)))


def test_the_gate_stops_the_stage(tmp_path: Path) -> None:
    with says("params.yaml", "tokenize.limits.max_collision_rate", "the limit is 0.8"):
        _tokenize(tmp_path, _vectors(), TokenizeConfig(widths=(4, 2)))
