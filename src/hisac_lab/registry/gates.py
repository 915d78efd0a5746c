"""The gates in front of the alias `champion`: each compares what it says, a rounded value, with its limit.

Quality is the paired AUC difference to the champion on the same users; before there is one, to the baseline that the
evidence names. The A/B test decides where it can: better passes, worse fails, and anything else passes only where the
quality is better by its whole interval.
"""

from __future__ import annotations

from typing import NamedTuple

from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import SLATE
from hisac_lab.ops.choice import DIGITS, rounded
from hisac_lab.registry.records import ABEvidence, Comparison, Evidence


class Gate(NamedTuple):
    """One gate and what it said.

    Attributes:
        name: The setting in the section `promotion`, or what is looked at.
        holds: Whether it lets the model through.
        says: Value and limit in words.
    """

    name: str
    holds: bool
    says: str


class Rival(NamedTuple):
    """What a candidate has to hold its own against.

    Attributes:
        name: In words.
        comparison: The candidate's paired difference to it; None: there is none.
        begins: Whether there is nothing to be compared with: the candidate is the baseline itself.
    """

    name: str
    comparison: Comparison | None
    begins: bool = False

    @property
    def beaten(self) -> bool:
        """Whether the whole interval of the difference is above zero; what begins has nobody to beat."""
        return self.begins or (self.comparison is not None and rounded(self.comparison.interval[0]) > 0)


def check_gates(evidence: Evidence, champion: Evidence | None, config: PromotionConfig) -> list[Gate]:
    """Asks every gate.

    Args:
        evidence: Of the candidate version.
        champion: Of the present champion, if there is one.
        config: The section `promotion`.
    """
    rival = rival_of(evidence, champion)
    test = evidence.abtest
    cost = evidence.cost
    return [
        _quality(evidence, champion, rival, config),
        _ab(evidence, champion, rival),
        _instrument(test),
        _below("max_calibration_error", "calibration error", evidence.calibration_error, DIGITS, config),
        _below("max_request_cost", f"multiply-adds of {SLATE} candidates", cost.request_macs, 0, config),
        _below("max_state_bytes", "bytes of user state", cost.state_bytes, 0, config),
        _fingerprints(evidence),
    ]


def rival_of(evidence: Evidence, champion: Evidence | None) -> Rival:
    """What the candidate is compared with: the champion, found on its board by the weights, else the baseline."""
    if champion is None:
        name = evidence.baseline
        return Rival("nothing", None, begins=True) if name is None else Rival(name, evidence.comparisons.get(name))
    met = (one for one in evidence.comparisons.values() if one.weights == champion.weights)
    return Rival(f"the champion, {champion.model}", next(met, None))


def _quality(evidence: Evidence, champion: Evidence | None, rival: Rival, config: PromotionConfig) -> Gate:
    name = "max_auc_loss"
    if rival.begins:
        return Gate(name, True, "it is the baseline itself, and there is no champion yet")
    if champion is not None and champion.weights == evidence.weights:
        return Gate(name, False, "it has the champion's own weights")
    if rival.comparison is None:
        return Gate(name, False, f"it was not evaluated on one board with {rival.name}")
    low, high = map(rounded, rival.comparison.interval)
    value, limit = rounded(rival.comparison.difference), -config.max_auc_loss
    words = f"AUC less that of {rival.name} is {value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return Gate(name, low >= limit, f"{words}, the lower end must reach {limit:+.6g}")


def _ab(evidence: Evidence, champion: Evidence | None, rival: Rival) -> Gate:
    test = evidence.abtest
    words, verdict = ("it is the A/B test's control", None) if test is None else (_told(test), test.verdict)
    met = None if test is None else evidence.comparisons.get(test.control)
    if champion is not None and test is not None and (met is None or met.weights != champion.weights):
        words += ", which is not the champion"
        verdict = "worse" if verdict == "worse" else None
    if verdict in ("better", "worse"):
        return Gate("abtest", verdict == "better", words)
    return Gate("abtest", rival.beaten, f"{words}; AUC {'is' if rival.beaten else 'is not'} better by its interval")


def _told(test: ABEvidence) -> str:
    reason = f" ({test.reason})" if test.reason else ""
    lift = "" if test.lift is None else f", lift {rounded(test.lift.low):+.2%} to {rounded(test.lift.high):+.2%}"
    return f"{test.verdict}{reason} by {test.kind} evidence{lift}, against {test.control}"


def _instrument(test: ABEvidence | None) -> Gate:
    if test is None:
        return Gate("abtest_checks", True, "nothing to check, it is the control")
    checks = {"sample ratio": test.sample_ratio_holds, "A/A test": test.aa_holds}
    says = ", ".join(f"{name} {'holds' if holds else 'does not hold'}" for name, holds in checks.items())
    return Gate("abtest_checks", all(checks.values()), says)


def _below(name: str, what: str, value: float, digits: int, config: PromotionConfig) -> Gate:
    limit, value = getattr(config, name), rounded(value, digits)
    return Gate(name, value <= limit, f"{what} is {value:,.{digits}f}, the limit is {limit:,.10g}")


def _fingerprints(evidence: Evidence) -> Gate:
    fingerprint, test = evidence.fingerprint, evidence.abtest
    if test is not None and test.fingerprint != fingerprint:
        return Gate("fingerprints", False, f"evaluated under {fingerprint}, A/B-tested under {test.fingerprint}")
    return Gate("fingerprints", True, f"evaluation and A/B test share {fingerprint}")
