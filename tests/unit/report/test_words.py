"""How numbers are written."""

from __future__ import annotations

from hisac_lab.report.words import excludes_zero, times


def test_what_is_shown_as_zero_is_zero() -> None:
    assert excludes_zero((0.0001, 0.01))
    assert excludes_zero((-0.01, -0.0001))
    assert not excludes_zero((0.00004, 0.01))
    assert not excludes_zero((-0.01, -0.00004))


def test_a_cost_is_told_as_a_multiple_and_where_the_other_costs_nothing_as_both_numbers() -> None:
    assert times(2600, 2000, "its") == "1.3 times its"
    assert times(2600, 0, "its") == "2,600 against 0"
