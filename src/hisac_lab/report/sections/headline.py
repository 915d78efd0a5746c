"""The headline: a sentence or two each on data, leader, controls, A/B test and protocol."""

from __future__ import annotations

from hisac_lab.report.document import Points, Section
from hisac_lab.report.facts import Facts
from hisac_lab.report.sections.abtest import BEHIND
from hisac_lab.report.sections.leaderboard import controls, shuffles
from hisac_lab.report.words import between, confidence, excludes_zero, fixed, integer, signed, signed_percent

VERDICTS = ("better", "worse", "equivalent", "undecided")
QUIET = ("equivalent", "undecided")
MOST_TESTS = 4


def headline(facts: Facts) -> Section:
    """A sentence or two each: data, leader, controls, A/B, protocol."""
    prepared, evaluated = facts.prepared, facts.evaluated
    return Section(
        "headline",
        "Headline",
        (
            Points(
                (
                    (
                        "Data",
                        f"{facts.acquired.dataset}: {integer(prepared.events)} events of {integer(prepared.users)} "
                        f"users on {integer(prepared.items)} items; "
                        f"{integer(prepared.splits['train'].requests)} training requests; "
                        f"labels: {evaluated.negatives}.",
                    ),
                    ("Offline", _leader(facts)),
                    ("Controls", f"{controls.said(facts)} {shuffles.said(facts)}".rstrip()),
                    ("A/B test", _verdicts(facts)),
                    (
                        "Protocol",
                        f"Fingerprint `{evaluated.fingerprint}`: split, candidates, negatives, history limit and "
                        "metrics. Numbers with another fingerprint do not belong beside these.",
                    ),
                )
            ),
        ),
    )


def _leader(facts: Facts) -> str:
    reference = facts.evaluated.reference
    best = facts.ranking[0]
    auc = facts.scores.models[best].auc
    text = (
        f"`{best}` has the highest AUC, {fixed(auc.value)} ({confidence(facts.evaluated.confidence)} interval "
        f"{between(auc.interval)})"
    )
    if best == reference:
        return text + "; it is the reference that the others are compared with."
    verb = "excludes" if excludes_zero(auc.difference_interval) else "includes"
    return (
        f"{text}; paired difference to the reference `{reference}`: {signed(auc.difference)} "
        f"{between(auc.difference_interval, signed)}, the interval {verb} zero."
    )


def _verdicts(facts: Facts) -> str:
    control = facts.tests.control
    if not facts.tests.tests:
        return f"There is no model beside the control `{control}`."
    if reasons := facts.tests.reasons:
        return f"No verdict on any model against the control `{control}`: {'; '.join(reasons)}."
    tests = sorted(facts.tests.tests.items())
    if len(tests) <= MOST_TESTS:
        verdicts = [
            f"`{name}` {test.verdict}, {signed_percent(test.lift.value)} clicks "
            f"{between(test.lift.interval, signed_percent)}"
            for name, test in tests
        ]
    else:
        named = {
            verdict: [
                f"`{name}`" + (f" {signed_percent(test.lift.value)} clicks" if verdict not in QUIET else "")
                for name, test in tests
                if test.verdict == verdict
            ]
            for verdict in VERDICTS
        }
        verdicts = [f"{len(names)} {verdict}: {', '.join(names)}" for verdict, names in named.items() if names]
        verdicts.append(f"{len(tests)} tests, corrected for their number")
    how = "By" if facts.tests.evidence == "replay" else "Simulated, by"
    return f"{how} {BEHIND[facts.tests.evidence]}, against the control `{control}`: {'; '.join(verdicts)}."
