"""From lifts to verdicts: the same rule for every kind of evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hisac_lab.abtest.estimate import Estimate
from hisac_lab.abtest.evidence import CAVEATS
from hisac_lab.abtest.records import NO_VERDICT, ABTest, ABTests, Check, Difference, Lift, NothingToJudge
from hisac_lab.abtest.statistics import decide, detectable, differences, power_of
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import ABTestConfig, EvidenceKind, Family
from hisac_lab.config.model import ExperimentConfig
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


def beside_the_lift(
    read: Mapping[str, Mapping[str, Array]], control: Mapping[str, Array], confidence: float
) -> dict[str, dict[str, Difference]]:
    """Metrics of each treatment beside the lift, which is primary: these are corrected among themselves alone.

    Args:
        read: Of each treatment, values of each user by metric; (T,).
        control: The same of the control.
        confidence: One less the chance of any false alarm.
    """
    pairs = {(name, metric): (ours, control[metric]) for name, one in read.items() for metric, ours in one.items()}
    found = differences(pairs, confidence)
    return {name: {metric: found[name, metric] for metric in one} for name, one in read.items()}


def by_slice(found: Mapping[str, Mapping[str, Estimate]], confidence: float) -> dict[str, dict[str, Lift]]:
    """Lifts of each treatment in slices of the users, corrected over all slices of all treatments.

    Args:
        found: Of each treatment, the lift in every slice.
        confidence: One less the chance of any false alarm.
    """
    every = {(name, label): one for name, slices in found.items() for label, one in slices.items()}
    p_holm = holm([one.lift.p_value for one in every.values()])
    lifts = {key: one.corrected(p, len(every), confidence) for (key, one), p in zip(every.items(), p_holm, strict=True)}
    return {name: {label: lifts[name, label] for label in slices} for name, slices in found.items()}


def untested(
    config: ABTestConfig, experiment: ExperimentConfig, kind: EvidenceKind, nothing: NothingToJudge
) -> ABTests:
    """No test and no verdict, with the reason."""
    return ABTests(
        control=config.control,
        evidence=kind,
        checks=(Check(name="data", holds=False, says=nothing.what),),
        tests={},
        aa=None,
        seeds=dict.fromkeys(experiment.models, experiment.seeds),
        margin=config.margin,
        caveat=CAVEATS[kind],
    )


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
