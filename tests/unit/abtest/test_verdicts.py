"""Verdicts of several fitted worlds: where they contradict each other there is none."""

from __future__ import annotations

import pytest

from hisac_lab.abtest.estimate import Estimate
from hisac_lab.abtest.records import ABTest, Check, Lift, Part
from hisac_lab.abtest.statistics import two_sided
from hisac_lab.abtest.verdicts import agreed, verdicts

ERROR, DEGREES = 0.01, 200.0


def _tests(*lifts: float, holds: bool = True) -> dict[str, ABTest]:
    estimates = {}
    for name, value in zip("abc", lifts, strict=False):
        lift = Lift(value=value, low=value - 0.02, high=value + 0.02, p_value=two_sided(value, ERROR, DEGREES))
        estimates[name] = Estimate(lift, {"users": Part(error=ERROR, degrees=DEGREES)}, ERROR, DEGREES)
    checks = [Check(name="support", holds=holds, says="x")]
    return verdicts(estimates, {name: {"metrics": {}} for name in estimates}, checks, 0.005, 0.95)


def test_worlds_that_contradict_each_other_give_no_verdict_on_that_treatment_with_the_reason() -> None:
    factors, trees = _tests(0.1, 0.1, 0.1), _tests(-0.1, 0.08, 0.0)
    assert [test.verdict for test in trees.values()] == ["worse", "better", "undecided"]
    found = agreed(factors, {"factors": factors, "trees": trees})
    assert [test.verdict for test in found.values()] == ["no verdict", "better", "better"]
    assert "better in the world of factors, worse in the world of trees" in found["a"].contradiction
    assert found["b"].contradiction == found["c"].contradiction == ""
    assert {family: lift.value for family, lift in found["a"].worlds.items()} == {"factors": 0.1, "trees": -0.1}


def test_a_single_world_contradicts_nobody() -> None:
    tests = _tests(0.1, -0.1)
    found = agreed(tests, {"trees": tests})
    assert [test.verdict for test in found.values()] == ["better", "worse"]
    assert all(set(test.worlds) == {"trees"} for test in found.values())


@pytest.mark.parametrize("lift", [0.1, -0.1])
def test_where_nothing_may_judge_there_is_nothing_to_contradict(lift: float) -> None:
    one, other = _tests(lift, holds=False), _tests(-lift, holds=False)
    (found,) = agreed(one, {"factors": one, "trees": other}).values()
    assert (found.verdict, found.contradiction) == ("no verdict", "")
