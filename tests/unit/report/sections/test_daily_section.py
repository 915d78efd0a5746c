"""A test of several days in the report: chart, table, and the day on which it may be called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finished import ab_result, build, edit, texts

from hisac_lab.base.stages import Artifacts


def _day(day: int, lift: float) -> dict[str, Any]:
    spans = {"once": 0.01, "bound": 0.015, "sequence": 0.02}
    ends = {name: {"low": lift - reach, "high": lift + reach} for name, reach in spans.items()}
    return {"day": day, "today": lift - 0.001, "lift": lift, **ends}


def test_a_test_of_several_days_has_its_chart_and_the_day_it_is_called(inputs: Artifacts, tmp_path: Path) -> None:
    days = [_day(1, 0.012), _day(2, 0.024), _day(3, 0.03)]
    edit(inputs.abtest / "abtest.json", tests={"new": ab_result(0.012, "better") | {"days": days}})
    _, twin, _, figures = build(inputs, tmp_path)
    assert "| new | +3.00 % | [+2.00 %, +4.00 %] | [+1.50 %, +4.50 %] | [+1.00 %, +5.00 %] | +1.10 %" in twin
    assert "| +2.90 % | day 2 |" in twin
    assert "95 % intervals" in twin
    assert "Lift in clicks till the day" in texts(figures["lift_by_day"])


def test_a_test_that_no_daily_look_decides_is_called_on_no_day(inputs: Artifacts, tmp_path: Path) -> None:
    edit(inputs.abtest / "abtest.json", tests={"new": ab_result(0.012, "better") | {"days": [_day(1, 0.012)]}})
    assert "| on no day |" in build(inputs, tmp_path)[1]


def test_a_test_of_one_day_says_nothing_of_days(inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _, figures = build(inputs, tmp_path)
    assert "on no day" not in twin
    assert "lift_by_day" not in figures
