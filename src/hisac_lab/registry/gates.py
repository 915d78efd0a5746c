"""The gates in front of the alias `champion`: each compares what it says, a rounded value, with its limit.

Quality is the paired AUC difference to the champion on the same users; before there is one, to popularity. The A/B test
decides where it can: better passes, worse fails, and anything else passes only where the quality is better by its whole
interval.
"""

from __future__ import annotations

from typing import NamedTuple

from hisac_lab.config.abtest import POPULARITY
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import SLATE, Gap
from hisac_lab.ops.choice import rounded
from hisac_lab.registry.records import ABEvidence, Evidence


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
        comparison: The candidate's paired difference to it; None: they never met.
    """

    name: str
    comparison: Gap | None

    @property
    def beaten(self) -> bool:
        """Whether the whole interval of the difference is above zero."""
        return self.comparison is not None and rounded(self.comparison.interval[0]) > 0


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
        _ab(evidence, champion, rival, config),
        _instrument(test),
        _calibration(evidence, config),
        _below("max_request_cost", f"multiply-adds of {SLATE} candidates", cost.request_macs, config),
        _below("max_state_bytes", "bytes of user state", cost.state_bytes, config),
        _fingerprints(evidence),
    ]


def ahead_of(evidence: Evidence) -> dict[str, float]:
    """Models of its board whose AUC is above a candidate's by the whole interval, and by how much, the furthest first.

    No gate: such a model may fail at a gate itself. Who promotes should know.
    """
    found = {name: -gap.difference for name, gap in evidence.comparisons.items() if rounded(gap.interval[1]) < 0}
    return dict(sorted(found.items(), key=lambda pair: (-rounded(pair[1]), pair[0])))


def appended_to(evidence: Evidence, champion: Evidence | None) -> int | None:
    """How many items a candidate has that the champion, which it says to be otherwise, lacks; None: it is another."""
    known = [part.weights for part in evidence.appended]
    if champion is None or champion.weights not in known:
        return None
    return sum(part.items for part in evidence.appended[known.index(champion.weights) :])


def rival_of(evidence: Evidence, champion: Evidence | None) -> Rival:
    """What the candidate is compared with: the champion, found on its board by the weights, else popularity."""
    if champion is None:
        return Rival(POPULARITY, evidence.popularity)
    met = (one for one in evidence.comparisons.values() if one.weights == champion.weights)
    return Rival(f"the champion, {champion.model}", next(met, None))


def _quality(evidence: Evidence, champion: Evidence | None, rival: Rival, config: PromotionConfig) -> Gate:
    name = "max_auc_loss"
    if champion is not None and champion.weights == evidence.weights:
        return Gate(name, False, "it has the champion's own weights")
    if rival.comparison is None:
        return Gate(name, False, f"it was not evaluated on one board with {rival.name}")
    low, high = map(rounded, rival.comparison.interval)
    value, limit = rounded(rival.comparison.difference), -config.max_auc_loss
    words = f"AUC less that of {rival.name} is {value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return Gate(name, low >= limit, f"{words}, the lower end must reach {limit:+.6g}")


def _ab(evidence: Evidence, champion: Evidence | None, rival: Rival, config: PromotionConfig) -> Gate:
    test = evidence.abtest
    words, verdict = ("it is the A/B test's control", None) if test is None else (_told(test), test.verdict)
    met = None if test is None else evidence.comparisons.get(test.control)
    if champion is not None and test is not None and (met is None or met.weights != champion.weights):
        words = f"{test.control} is the test's control, not the champion; {words}"
        verdict = "worse" if verdict == "worse" else None
    if test is not None and test.kind not in config.evidence:
        words += f", of a kind that promotion.evidence ({', '.join(config.evidence)}) does not accept"
        verdict = None
    if verdict in ("better", "worse"):
        return Gate("abtest", verdict == "better", words)
    return Gate("abtest", rival.beaten, f"{words}; AUC {'is' if rival.beaten else 'is not'} better by its interval")


def _told(test: ABEvidence) -> str:
    reason = f": {test.reason}" if test.reason else ""
    lift = ""
    if test.lift is not None:
        lift = f", lift {rounded(test.lift.low):+.2%} to {rounded(test.lift.high):+.2%} after Holm's correction"
    return f"{test.verdict} by {test.kind} evidence{lift}, against {test.control}{reason}"


def _instrument(test: ABEvidence | None) -> Gate:
    if test is None:
        return Gate("abtest_checks", True, "nothing to check, it is the control")
    checks = {"sample ratio": test.sample_ratio_holds, "A/A test": test.aa_holds}
    says = ", ".join(f"{name} {'holds' if holds else 'does not hold'}" for name, holds in checks.items())
    return Gate("abtest_checks", all(checks.values()), says)


def _calibration(evidence: Evidence, config: PromotionConfig) -> Gate:
    """An error that chance alone explains is nobody's fault: few samples give a large one."""
    error, chance = rounded(evidence.calibration_error), rounded(evidence.calibration_chance)
    limit = rounded(config.max_calibration_error + chance)
    more = f" ({config.max_calibration_error:.10g}, and {chance:.4f} that chance alone gives)" if chance else ""
    says = f"calibration error is {error:.4f}, the limit is {limit:.10g}{more}"
    return Gate("max_calibration_error", error <= limit, says)


def _below(name: str, what: str, value: float, config: PromotionConfig) -> Gate:
    limit, value = getattr(config, name), rounded(value, 0)
    return Gate(name, value <= limit, f"{what} is {value:,.0f}, the limit is {limit:,.10g}")


def _fingerprints(evidence: Evidence) -> Gate:
    fingerprint, test = evidence.fingerprint, evidence.abtest
    if test is not None and test.fingerprint != fingerprint:
        return Gate("fingerprints", False, f"evaluated under {fingerprint}, A/B-tested under {test.fingerprint}")
    return Gate("fingerprints", True, f"evaluation and A/B test share {fingerprint}")
