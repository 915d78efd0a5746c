"""Controls: models that read nothing of the user, or nothing of the item, and what a board with them may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hisac_lab.ops.choice import highest, rounded
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, is_sure

Side = Literal["item", "user"]
OTHER: dict[Side, str] = {"item": "the user", "user": "the item"}
ONLY: dict[Side, str] = {"item": "an item-only", "user": "a user-only"}
ABOUT: dict[Side, str] = {"item": "interests", "user": "items"}


@dataclass(frozen=True)
class Verdict:
    """What the best control of one side does to the board.

    Attributes:
        side: What the control reads.
        name: Of the control.
        leads: No model that reads both sides has a higher AUC, as it is shown.
        ahead: Such models that are surely ahead of it, best first.
        rest: Those that are not.
    """

    side: Side
    name: str
    leads: bool
    ahead: tuple[str, ...]
    rest: tuple[str, ...]


def reads_both(facts: Facts, name: str) -> bool:
    """Whether a model reads user and item, and is no control."""
    return facts.scores.models[name].control is None


def verdicts(facts: Facts) -> list[Verdict]:
    """One for each side that has a control."""
    models = facts.scores.models
    both = [name for name in facts.ranking if facts.scores.models[name].labels == "own" and reads_both(facts, name)]
    ruled = []
    for side in OTHER:
        best = next((name for name in facts.ranking if models[name].control == side), None)
        if best is not None:
            shown = rounded(models[best].auc.value)
            leads = all(rounded(models[name].auc.value) <= shown for name in both)
            ahead = tuple(name for name in both if surely_ahead(facts, name, best))
            rest = tuple(name for name in both if name not in ahead)
            ruled.append(Verdict(side, best, leads, ahead, rest))
    return ruled


def surely_ahead(facts: Facts, name: str, other: str) -> bool:
    """Whether a model's AUC is above another's after the correction over all pairs of the board."""
    difference, p = facts.gaps.get((name, other), (0.0, 1.0))
    return difference > 0 and is_sure(difference, p, 1 - facts.evaluated.confidence)


def first_by_lift(facts: Facts) -> tuple[str, Side] | None:
    """The control whose lift in the A/B test no model exceeds that reads both sides, and the side it reads, if any."""
    tests, models = facts.tests, facts.scores.models
    lifts = {name: rounded(test.lift.value) for name, test in tests.tests.items()} | {tests.control: 0.0}
    tested = [name for name in facts.ranking if name in lifts]
    alone = {name: side for name in tested if (side := models[name].control) is not None}
    both = [name for name in tested if models[name].labels == "own" and reads_both(facts, name)]
    if tests.reason or not alone or not both:
        return None
    best = highest(alone, lambda name: lifts[name], str)
    return (best, alone[best]) if all(lifts[name] <= lifts[best] for name in both) else None


def headline(facts: Facts) -> str:
    """That a control leads, in AUC or by lift, in a sentence for each; empty where none does."""
    leads = [f"{_alone(verdict.name, verdict.side)}, leads in AUC." for verdict in verdicts(facts) if verdict.leads]
    if first := first_by_lift(facts):
        leads.append(f"{_alone(*first)}, has the highest lift of the A/B test.")
    return " ".join(leads)


def said(facts: Facts) -> str:
    """What the controls say of the board, in sentences."""
    ruled = verdicts(facts)
    if not ruled:
        return (
            "No model here reads the item alone or the user alone, so how much of an AUC is popularity, recency or "
            "activity is not known."
        )
    text = [_sentences(facts, verdict) for verdict in ruled]
    if first := first_by_lift(facts):
        name, side = first
        text.append(f"`{name}` has the highest lift of the A/B test, so lifts here say nothing about {ABOUT[side]}.")
    return " ".join(text)


def warnings(facts: Facts) -> list[str]:
    """A line for each side whose control leads in AUC."""
    return [
        f"{_says_nothing(verdict.side)}: here it is `{verdict.name}`." for verdict in verdicts(facts) if verdict.leads
    ]


def _sentences(facts: Facts, verdict: Verdict) -> str:
    auc = fixed(facts.scores.models[verdict.name].auc.value)
    text = f"{_alone(verdict.name, verdict.side)}, has an AUC of {auc}"
    if verdict.leads:
        return f"{text} and leads. {_says_nothing(verdict.side)}."
    parts = [
        f"{word}: {', '.join(f'`{name}`' for name in names)}"
        for word, names in (("surely ahead of it", verdict.ahead), ("not surely ahead", verdict.rest))
        if names
    ]
    return f"{text}; {'; '.join(parts)}."


def _alone(name: str, side: Side) -> str:
    return f"`{name}`, which reads nothing of {OTHER[side]}"


def _says_nothing(side: Side) -> str:
    return f"A board on which {ONLY[side]} control leads says nothing about {ABOUT[side]}"
