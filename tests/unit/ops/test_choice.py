"""Choices on rounded values: ties by the stated order, whatever the order of the choices and the noise."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.choice import DIGITS, higher, highest, rounded


def test_values_are_rounded_to_four_decimals_unless_told_and_zero_has_no_sign() -> None:
    assert DIGITS == 4
    assert rounded(0.71236) == 0.7124
    assert rounded(0.71236, 3) == 0.712
    assert rounded(12345.6, 0) == 12346
    assert math.copysign(1, rounded(-0.00001)) == 1


@pytest.mark.parametrize(
    ("value", "other", "answer"),
    [(0.7002, 0.7001, True), (0.70014, 0.70011, False), (0.7001, 0.7001, False), (0.7, 0.8, False), (0.5, -1.0, True)],
)
def test_only_what_is_higher_as_rounded_is_higher(value: float, other: float, answer: bool) -> None:
    assert higher(value, other) == answer


def test_equals_go_by_the_tie_in_any_order() -> None:
    values = {"c": 0.70002, "a": 0.70001, "b": 0.69998, "d": 0.6}
    for order in itertools.permutations(values):
        assert highest(order, values.__getitem__, str) == "a"
        assert highest(order, values.__getitem__, lambda name: -ord(name)) == "c"
    assert highest(values, values.__getitem__, str, digits=5) == "c"


@given(st.lists(st.tuples(st.integers(0, 9999), st.floats(-4e-5, 4e-5)), min_size=1, max_size=8))
def test_noise_inside_the_rounding_never_changes_the_choice(points: list[tuple[int, float]]) -> None:
    """Values stand on the grid of the rounding, so that noise of less than half its step crosses no edge."""
    places = range(len(points))
    still = highest(places, lambda place: points[place][0] / 1e4, int)
    noisy = highest(places, lambda place: points[place][0] / 1e4 + points[place][1], int)
    assert still == noisy
