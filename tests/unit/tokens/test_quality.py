"""Quality of semantic IDs on a case counted by hand, and the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import says
from short_texts import short_texts
from sklearn.metrics import adjusted_rand_score

from hisac_lab.config.tokens import TokenizeConfig, TokenizeLimits
from hisac_lab.tokens.prefixes import prefixes
from hisac_lab.tokens.quality import agreement, check_limits, evener, measure, overlap, purity, uneven
from hisac_lab.tokens.quantizer import ResidualQuantizer, fit
from hisac_lab.tokens.random_codes import fit_random

QUANTIZER = ResidualQuantizer(
    (np.array([[4, 0], [-4, 0], [0, 99], [99, 0]], np.float32), np.array([[0, 1], [0, -1]], np.float32))
)
CODES = np.array([[0, 0], [0, 0], [0, 1], [1, 0]])
VECTORS = np.array([[4, 1], [4, 1], [4, -1], [-4, 1]], np.float32)


def _quality(**changes: Any) -> dict[str, Any]:
    level = {"use": 0.9, "evenness": 0.6, "fan_out": 3.0, "seed_agreement": 0.4}
    good = {"levels": [level, level | {"use": 0.8}], "occupancy": 0.3, "max_bucket_share": 0.02, "fair_share": 0.001}
    return good | {"explained_variance": 0.5, "neighbor_overlap": 0.3, "purity_lift": 4.0} | changes


def _level(**changes: float) -> dict[str, Any]:
    return {"levels": [_quality()["levels"][0] | changes, _quality()["levels"][1] | changes]}


def test_quality_of_four_items_is_what_one_counts_by_hand() -> None:
    quality = measure(VECTORS, CODES, QUANTIZER, 1, 10)
    first, second = quality["levels"]
    assert (first["width"], first["use"], first["prefixes"], first["fan_out"]) == (4, 0.5, 2, 2)
    assert (second["width"], second["use"], second["prefixes"], second["fan_out"]) == (2, 1.0, 3, 1.5)
    # Three items on one code, one on the other: exp(H(3/4, 1/4)).
    even = 4 * 3**-0.75
    assert first["perplexity"] == second["perplexity"] == pytest.approx(even, abs=1e-4)
    assert first["evenness"] == pytest.approx(even / 4, abs=1e-4)
    assert first["entropy_bits"] == pytest.approx(0.811278, abs=1e-5)
    # Variance: x is 4, 4, 4, -4 (sum of squares 48), y is 1, 1, -1, 1 (3); level 1 leaves y as it is (4).
    assert first["explained_variance"] == pytest.approx(1 - 4 / 51, abs=1e-6)
    assert second["explained_variance"] == quality["explained_variance"] == 1
    assert quality["mean_squared_error"] == 0
    assert quality["cosine"] == pytest.approx(1)
    assert quality["ids"] == 3
    assert quality["collision_rate"] == 0.5
    # Three distinct embeddings at random on eight IDs take 8 (1 - (7/8)^3) on average.
    assert quality["occupancy"] == pytest.approx(3 / (8 - 8 * (7 / 8) ** 3), abs=1e-6)
    assert quality["fair_share"] == pytest.approx(1 / 3, abs=1e-6)
    assert quality["largest_bucket"] == 2
    assert quality["max_bucket_share"] == 0.5
    assert "purity_lift" not in quality
    assert "seed_agreement" not in first


def test_full_use_does_not_hide_that_all_items_share_few_ids() -> None:
    codes = np.repeat([[0, 0], [1, 1]], 50, axis=0)
    quality = measure(np.repeat(VECTORS[:2], 50, axis=0), codes, cut(2), 3, 10)
    assert quality["levels"][1]["use"] == 1
    assert quality["collision_rate"] == 1
    assert quality["largest_bucket"] == 50


def cut(width: int) -> ResidualQuantizer:
    return ResidualQuantizer((QUANTIZER.codewords[0][:width], QUANTIZER.codewords[1]))


def test_equal_vectors_count_as_explained() -> None:
    quality = measure(np.ones((3, 2), np.float32), np.zeros((3, 2), int), QUANTIZER, 1, 10)
    assert [level["explained_variance"] for level in quality["levels"]] == [1, 1]


@given(
    groups=st.lists(st.integers(0, 4), min_size=2, max_size=30),
    kinds=st.lists(st.integers(0, 2), min_size=30, max_size=30),
)
@settings(max_examples=80, deadline=None)
def test_purity_is_the_share_of_pairs(groups: list[int], kinds: list[int]) -> None:
    pairs = [(a, b) for a in range(len(groups)) for b in range(a) if groups[a] == groups[b]]
    expected = np.mean([kinds[a] == kinds[b] for a, b in pairs]) if pairs else None
    found = purity(np.array(groups), np.array(kinds[: len(groups)]))
    assert found == (pytest.approx(expected) if pairs else None)


@given(
    one=st.lists(st.integers(0, 4), min_size=2, max_size=30),
    other=st.lists(st.integers(0, 4), min_size=30, max_size=30),
)
@settings(max_examples=80, deadline=None)
def test_agreement_is_the_adjusted_rand_index(one: list[int], other: list[int]) -> None:
    expected = adjusted_rand_score(one, other[: len(one)])
    assert agreement(np.array(one), np.array(other[: len(one)])) == pytest.approx(expected, abs=1e-9)


def _overlap_by_hand(vectors: np.ndarray, codes: np.ndarray, quantizer: ResidualQuantizer, k: int) -> float:
    """For each item: its k nearest by ID, the last ties weighed by their chance; how many are as near as the k-th."""
    places, kept = quantizer.decode(codes).astype(float), 0.0
    for item in range(len(vectors)):
        others = [other for other in range(len(vectors)) if other != item]
        true = {other: float(((vectors[item].astype(float) - vectors[other]) ** 2).sum()) for other in others}
        limit = sorted(true.values())[k - 1] + 1e-6
        ids = sorted(
            {tuple(codes[other]) for other in others},
            key=lambda path: (
                path != tuple(codes[item]),
                float(((places[item] - quantizer.decode(np.array([path]))[0]) ** 2).sum()),
            ),
        )
        wanted = k
        for path in ids:
            own = [other for other in others if tuple(codes[other]) == path]
            taken = min(wanted, len(own))
            kept += taken * float(np.mean([true[other] <= limit for other in own]))
            wanted -= taken
    return kept / (k * len(vectors))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("widths", [(3, 2), (12, 6)])
def test_neighbor_overlap_is_what_a_plain_count_says(k: int, widths: tuple[int, int]) -> None:
    vectors = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    quantizer = fit(vectors, widths, 20, 0)
    codes = quantizer.encode(vectors)
    found = overlap(vectors, prefixes(codes)[-1], codes, quantizer, k, 1000)
    assert found == pytest.approx(_overlap_by_hand(vectors, codes, quantizer, k), abs=1e-6)


def test_codes_keep_neighbors_and_categories_that_random_codes_lose() -> None:
    random = np.random.default_rng(0)
    kinds = np.arange(300) % 6
    vectors = (random.normal(size=(6, 16))[kinds] + random.normal(0, 0.4, (300, 16))).astype(np.float32)
    found = {}
    for name, quantizer in (("kmeans", fit(vectors, (8, 8), 20, 0)), ("random", fit_random(vectors, (8, 8), 0))):
        codes = quantizer.encode(vectors)
        found[name] = measure(vectors, codes, quantizer, 10, 1000, kinds, codes)
    assert found["kmeans"]["neighbor_overlap"] > 4 * found["random"]["neighbor_overlap"]
    assert found["kmeans"]["purity_lift"] > 3
    assert found["random"]["purity_lift"] < 1.3
    assert [level["seed_agreement"] for level in found["kmeans"]["levels"]] == [1, 1]


def test_the_gate_is_open_on_its_limits() -> None:
    limits = TokenizeLimits(min_use=0.8, min_occupancy=0.3, max_bucket_share=0.02, min_evenness=0.6)
    check_limits(_quality(), TokenizeConfig(limits=limits))


def test_the_gate_judges_what_it_says() -> None:
    check_limits(_quality(occupancy=0.04996), TokenizeConfig())
    with says("min_occupancy", "reach 0.0499, the limit is 0.05"):
        check_limits(_quality(occupancy=0.04994), TokenizeConfig())


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("min_use", _level(use=0.25), "0.250", "lower tokenize.widths"),
    ("min_evenness", _level(evenness=0.01), "0.010", "set tokenize.balanced: true"),
    ("min_fan_out", _level(fan_out=0.5), "0.500", "lower the first of tokenize.widths"),
    ("min_occupancy", {"occupancy": 0.01}, "0.010", "set tokenize.balanced: true"),
    ("max_bucket_share", {"max_bucket_share": 0.5}, "0.500", "texts that differ"),
    ("min_explained_variance", {"explained_variance": 0.01}, "0.010", "add a level"),
    ("min_neighbor_overlap", {"neighbor_overlap": 0.01}, "0.010", "add a level"),
    ("min_purity_lift", {"purity_lift": 0.9}, "0.900", "embed.method"),
    ("min_seed_agreement", _level(seed_agreement=-0.1), "-0.100", "lower the first"),
]


@pytest.mark.parametrize(("limit", "changes", "value", "hint"), CASES, ids=[case[0] for case in CASES])
def test_the_gate_closes_with_measure_limit_and_mend(
    limit: str, changes: dict[str, Any], value: str, hint: str
) -> None:
    config = TokenizeConfig()
    limits = config.limits.model_dump(exclude_none=True)
    with says("settings", f"tokenize.limits.{limit}", value, str(limits.get(limit, 0.05)), hint):
        check_limits(_quality(**changes), config)


def test_every_limit_is_tried() -> None:
    assert {case[0] for case in CASES} == set(TokenizeLimits.model_fields)


def test_a_measure_that_was_not_taken_is_not_judged() -> None:
    quality = _quality(purity_lift=None)
    for level in quality["levels"]:
        del level["seed_agreement"]
    check_limits(quality, TokenizeConfig(limits=TokenizeLimits(min_seed_agreement=1.0, min_purity_lift=100.0)))


def test_random_codes_are_judged_by_use_and_crowding_alone() -> None:
    poor = _quality(explained_variance=0.0, neighbor_overlap=0.0, purity_lift=0.5)
    check_limits(poor, TokenizeConfig(method="random"))
    with says("min_occupancy", "tokenize.method: residual_kmeans"):
        check_limits(poor | {"occupancy": 0.0}, TokenizeConfig(method="random"))


def test_crowding_is_judged_by_the_items_an_id_would_have_at_best() -> None:
    """Sixteen IDs cannot hold a twentieth each of the items: the limit follows."""
    check_limits(_quality(max_bucket_share=0.2, fair_share=1 / 16), TokenizeConfig())
    with says("max_bucket_share", "the limit is 0.25", "texts that differ", "tokenize.balanced: true"):
        check_limits(_quality(max_bucket_share=0.3, fair_share=1 / 16), TokenizeConfig())
    strict = TokenizeConfig(limits=TokenizeLimits(max_bucket_share=0.1))
    with says("max_bucket_share", "the limit is 0.1"):
        check_limits(_quality(max_bucket_share=0.2, fair_share=1 / 16), strict)


@pytest.mark.parametrize("widths", [(32, 32, 32), (64, 64, 64), (48, 48), (8, 8, 8, 8), (128, 128)])
def test_short_texts_pass_or_the_advice_works(widths: tuple[int, ...]) -> None:
    vectors = short_texts()

    def judged(limits: TokenizeLimits, balanced: bool = False) -> dict[str, Any]:
        quantizer = fit(vectors, widths, 50, 0, balanced)
        quality = measure(vectors, quantizer.encode(vectors), quantizer, 10, 100)
        check_limits(quality, TokenizeConfig(widths=widths, limits=limits, balanced=balanced))
        return quality

    strict = TokenizeLimits(min_evenness=0.98, min_occupancy=0.93)
    with says("settings", "set tokenize.balanced: true"):
        judged(strict)
    even = judged(strict, balanced=True)
    assert uneven(even) is None
    if widths == (32, 32, 32):  # 95 IDs for 2,800 texts
        with says("min_occupancy", "set tokenize.balanced: true"):
            judged(TokenizeLimits())
    else:  # up to 98 % of the texts share their ID
        plain = judged(TokenizeLimits())
        assert (uneven(plain) is None) == (min(level["evenness"] for level in plain["levels"]) >= 0.2)


def test_many_items_on_few_ids_are_stopped_whatever_their_collisions() -> None:
    random = np.random.default_rng(0)
    places = random.normal(size=(250, 8))[random.integers(250, size=20_000)]
    vectors = (places + random.normal(0, 1e-4, (20_000, 8))).astype(np.float32)
    codes = np.column_stack([np.unique(places[:, 0], return_inverse=True)[1] // 16 % 16] * 3)
    quantizer = ResidualQuantizer(tuple(random.normal(size=(16, 8)).astype(np.float32) for _ in range(3)))
    with says("min_occupancy"):
        check_limits(measure(vectors, codes, quantizer, 10, 10), TokenizeConfig())


def test_the_mend_for_uneven_codes_is_a_setting_that_can_be_made() -> None:
    assert evener(TokenizeConfig(fit="mini_batch")) == "set tokenize.fit: full and tokenize.balanced: true"
    assert evener(TokenizeConfig(method="rqvae")).startswith("set tokenize.method: residual_kmeans and")
    assert evener(TokenizeConfig(balanced=True)) == "lower tokenize.widths"
    for settings_ in ({"fit": "mini_batch"}, {"method": "rqvae"}):
        with pytest.raises(ValueError, match="balanced"):
            TokenizeConfig(balanced=True, **settings_)  # type: ignore[arg-type]


@given(seed=st.integers(0, 100), width=st.integers(1, 40))
@settings(max_examples=20)
def test_prefixes_are_the_same_counted_by_a_table_and_by_a_sort(seed: int, width: int) -> None:
    codes = np.random.default_rng(seed).integers(width, size=(60, 3))
    found = []
    for roomy in (0, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hisac_lab.tokens.prefixes.ROOMY", roomy)
            found.append(prefixes(codes))
    for one, other in zip(*found, strict=True):
        for name in ("node", "parent", "code", "count"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype == np.int64
