"""The gates in front of the alias `champion`: each compares what it says, a rounded value, with its limit."""

from __future__ import annotations

from typing import NamedTuple

from hisac_lab.abtest.records import NO_VERDICT
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.ops.choice import DIGITS, rounded
from hisac_lab.registry.records import Evidence


class Gate(NamedTuple):
    """One gate and what it said.

    Attributes:
        name: The setting in the section `promotion`, or `fingerprints`.
        holds: Whether it lets the model through.
        says: Value and limit in words.
    """

    name: str
    holds: bool
    says: str


def check_gates(evidence: Evidence, champion: Evidence | None, config: PromotionConfig) -> list[Gate]:
    """Asks every gate.

    Args:
        evidence: Of the candidate version.
        champion: Of the present champion, if there is one.
        config: The section `promotion`.
    """
    return [
        _ab(evidence, config),
        _below("max_calibration_error", "calibration error", evidence.calibration_error, DIGITS, config),
        _below("max_candidate_cost", "multiply-adds per candidate", evidence.cost.candidate_macs, 0, config),
        _below("max_state_bytes", "bytes of user state", evidence.cost.state_bytes, 0, config),
        _fingerprints(evidence, champion),
    ]


def _ab(evidence: Evidence, config: PromotionConfig) -> Gate:
    test = evidence.abtest
    if test is None:
        return Gate("min_ab_lift", False, "it was in no A/B test as the treatment (it is the control)")
    if test.verdict == NO_VERDICT:
        return Gate("min_ab_lift", False, f"the A/B test gives no verdict: {'; '.join(test.reasons)}")
    low, high = rounded(test.lift.low), rounded(test.lift.high)
    words = f"A/B lift over {test.control} is {low:+.2%} to {high:+.2%}, its lower end must be above"
    return Gate("min_ab_lift", low > config.min_ab_lift, f"{words} {100 * config.min_ab_lift:.6g}%")


def _below(name: str, what: str, value: float, digits: int, config: PromotionConfig) -> Gate:
    limit, value = getattr(config, name), rounded(value, digits)
    return Gate(name, value <= limit, f"{what} is {value:,.{digits}f}, the limit is {limit:,.10g}")


def _fingerprints(evidence: Evidence, champion: Evidence | None) -> Gate:
    fingerprint = evidence.fingerprint
    test = evidence.abtest
    if test is not None and test.fingerprint != fingerprint:
        return Gate("fingerprints", False, f"evaluated under {fingerprint}, A/B-tested under {test.fingerprint}")
    if champion is not None and champion.fingerprint != fingerprint:
        theirs = champion.fingerprint
        words = f"evaluated under {fingerprint}, the champion under {theirs}: evaluate both under one protocol"
        return Gate("fingerprints", False, words)
    return Gate("fingerprints", True, f"evaluation, A/B test and champion share {fingerprint}")
