"""From lifts to verdicts: the same rule for every kind of evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hisac_lab.abtest.estimate import Estimate
from hisac_lab.abtest.records import NO_VERDICT, ABTest, Check
from hisac_lab.abtest.statistics import decide, detectable, power_of
from hisac_lab.config.abtest import Family
from hisac_lab.evaluation.metrics import holm


def verdicts(
    found: Mapping[str, Estimate],
    beside: Mapping[str, Mapping[str, Any]],
    checks: Sequence[Check],
    margin: float,
    confidence: float,
) -> dict[str, ABTest]:
    """Every treatment's test; p-values are corrected for their number.

    Args:
        found: Lift of each treatment.
        beside: What else its record holds: metrics, and what a kind of evidence adds.
        checks: Where one does not hold there is no verdict.
        margin: Lifts within it are as good as none.
        confidence: Level of the intervals.
    """
    p_holm = holm([one.lift.p_value for one in found.values()])
    p_same = holm([round(one.not_within(margin), 6) for one in found.values()])
    may_judge = all(check.holds for check in checks)
    tests = {}
    for (name, one), p_zero, p_within in zip(found.items(), p_holm, p_same, strict=True):
        tests[name] = ABTest(
            lift=one.lift,
            corrected=one.corrected(p_zero, len(found), confidence),
            parts=one.parts,
            p_holm=round(p_zero, 6),
            p_equivalence=round(p_within, 6),
            detectable=round(detectable(one.error, one.degrees, confidence), 6),
            power=round(power_of(margin, one.error, one.degrees, confidence), 6),
            verdict=decide(one.lift.value, p_zero, p_within, confidence) if may_judge else NO_VERDICT,
            **beside[name],
        )
    return tests


def agreed(tests: Mapping[str, ABTest], worlds: Mapping[Family, Mapping[str, ABTest]]) -> dict[str, ABTest]:
    """The tests beside those of each fitted world alone: no verdict where one says better and another worse.

    Args:
        tests: By treatment.
        worlds: By family of the world, by treatment.
    """
    found = {}
    for name, test in tests.items():
        said = {family: alone[name].verdict for family, alone in worlds.items()}
        update: dict[str, Any] = {"worlds": {family: alone[name].lift for family, alone in worlds.items()}}
        if {"better", "worse"} <= set(said.values()):
            told = ", ".join(f"{verdict} in the world of {family}" for family, verdict in said.items())
            update |= {"contradiction": f"fitted worlds contradict each other on it: {told}", "verdict": NO_VERDICT}
        found[name] = test.model_copy(update=update)
    return found
