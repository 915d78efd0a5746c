"""The treemap's rectangles: areas in proportion, filling the box, none over another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisac_lab.report.sections.tokens import squarify

BOX = (10.0, 20.0, 300.0, 100.0)


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_rectangles_fill_the_box_in_proportion(sizes: list[int]) -> None:
    sizes = sorted(sizes, reverse=True)
    boxes = squarify(sizes, BOX)
    assert len(boxes) == len(sizes)
    for size, (left, bottom, width, height) in zip(sizes, boxes, strict=True):
        assert width * height == pytest.approx(size / sum(sizes) * 30_000)
        assert left >= 10 - 1e-6
        assert bottom >= 20 - 1e-6
        assert left + width <= 310 + 1e-6
        assert bottom + height <= 120 + 1e-6
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
            high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
            assert min(wide, high) <= 1e-6


def test_equal_sizes_become_squares_where_they_can() -> None:
    assert all(width / height == pytest.approx(1) for _, _, width, height in squarify([1] * 3, BOX))


def test_nothing_has_no_rectangles() -> None:
    assert squarify([], BOX) == []
