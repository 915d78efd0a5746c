"""Quality of semantic IDs on a case counted by hand, and the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kit import says

from hisac_lab.config.tokens import TokenizeLimits
from hisac_lab.tokens.quality import check_limits, measure
from hisac_lab.tokens.quantizer import ResidualQuantizer

QUANTIZER = ResidualQuantizer(
    (np.array([[4, 0], [-4, 0], [0, 99], [99, 0]], np.float32), np.array([[0, 1], [0, -1]], np.float32))
)
CODES = np.array([[0, 0], [0, 0], [0, 1], [1, 0]])
VECTORS = np.array([[4, 1], [4, 1], [4, -1], [-4, 1]], np.float32)


def _quality(**changes: Any) -> dict[str, Any]:
    good = {"levels": [{"use": 0.9}, {"use": 0.8}], "collision_rate": 0.3, "max_bucket_share": 0.02}
    return good | changes


def test_quality_of_four_items_is_what_one_counts_by_hand() -> None:
    quality = measure(VECTORS, CODES, QUANTIZER.decode, (4, 2))
    first, second = quality["levels"]
    assert (first["width"], first["use"], first["prefixes"]) == (4, 0.5, 2)
    assert (second["width"], second["use"], second["prefixes"]) == (2, 1.0, 3)
    # Three items on one code, one on the other: exp(H(3/4, 1/4)).
    even = 4 * 3**-0.75
    assert first["perplexity"] == second["perplexity"] == pytest.approx(even, abs=1e-4)
    # Variance: x is 4, 4, 4, -4 (sum of squares 48), y is 1, 1, -1, 1 (3); level 1 leaves y as it is (4).
    assert first["explained_variance"] == pytest.approx(1 - 4 / 51, abs=1e-6)
    assert second["explained_variance"] == 1
    assert quality["ids"] == 3
    assert quality["collision_rate"] == 0.5
    assert quality["largest_bucket"] == 2
    assert quality["max_bucket_share"] == 0.5


def test_full_use_does_not_hide_that_all_items_share_few_ids() -> None:
    codes = np.repeat([[0, 0], [1, 1]], 50, axis=0)
    quality = measure(np.repeat(VECTORS[:2], 50, axis=0), codes, QUANTIZER.decode, (2, 2))
    assert [level["use"] for level in quality["levels"]] == [1, 1]
    assert quality["collision_rate"] == 1
    assert quality["largest_bucket"] == 50


def test_equal_vectors_count_as_explained() -> None:
    quality = measure(np.ones((3, 2), np.float32), np.zeros((3, 2), int), QUANTIZER.decode, (4, 2))
    assert [level["explained_variance"] for level in quality["levels"]] == [1, 1]


def test_the_gate_is_open_on_its_limits() -> None:
    check_limits(_quality(), TokenizeLimits(min_use=0.8, max_collision_rate=0.3, max_bucket_share=0.02))


@pytest.mark.parametrize(
    ("limit", "changes", "value", "mend"),
    [
        ("min_use", {"levels": [{"use": 0.9}, {"use": 0.25}]}, "0.250", "lower tokenize.widths"),
        ("max_collision_rate", {"collision_rate": 0.81}, "0.810", "raise tokenize.widths"),
        ("max_bucket_share", {"max_bucket_share": 0.5}, "0.500", "different texts"),
    ],
)
def test_the_gate_closes_with_measure_limit_and_mend(
    limit: str, changes: dict[str, Any], value: str, mend: str
) -> None:
    limits = TokenizeLimits()
    with says("params.yaml", f"tokenize.limits.{limit}", value, str(getattr(limits, limit)), mend):
        check_limits(_quality(**changes), limits)
