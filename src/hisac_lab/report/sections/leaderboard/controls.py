"""Controls: models that read nothing of the user, or nothing of the item, and what a board with them may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hisac_lab.ops.choice import highest, rounded
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, is_sure, named

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


def verdicts(facts: Facts) -> list[Verdict]:
    """One for each side that has a control, the better control first."""
    models, ruled = facts.scores.models, dict[Side, Verdict]()
    for name in facts.ranking:
        side = models[name].control
        if side is not None and side not in ruled:
            shown = rounded(models[name].auc.value)
            leads = bool(facts.rivals) and all(rounded(models[other].auc.value) <= shown for other in facts.rivals)
            ahead = tuple(other for other in facts.rivals if surely_ahead(facts, other, name))
            rest = tuple(other for other in facts.rivals if other not in ahead)
            ruled[side] = Verdict(side, name, leads, ahead, rest)
    return list(ruled.values())


def surely_ahead(facts: Facts, name: str, other: str) -> bool:
    """Whether a model's AUC is above another's after the correction over all pairs of the board."""
    difference, p = facts.gaps.get((name, other), (0.0, 1.0))
    return difference > 0 and is_sure(difference, p, 1 - facts.evaluated.confidence)


def first_by_lift(facts: Facts) -> tuple[str, Side] | None:
    """The control that no model exceeds in the A/B test's lift, and the side it reads; None: there is none."""
    tests, models = facts.tests, facts.scores.models
    lifts = {name: rounded(test.lift.value) for name, test in tests.tests.items() if not tests.reason_of(name)}
    if lifts:
        lifts[tests.control] = 0.0
    alone = {name: side for name in facts.ranking if name in lifts and (side := models[name].control) is not None}
    rivals = [name for name in facts.rivals if name in lifts]
    if not alone or not rivals:
        return None
    best = highest(alone, lambda name: lifts[name], str)
    return (best, alone[best]) if all(lifts[name] <= lifts[best] for name in rivals) else None


def headline(facts: Facts) -> str:
    """That a control leads, in AUC or by lift, in a sentence for each; empty where none does."""
    leader = next((verdict for verdict in verdicts(facts) if verdict.leads), None)
    said = [] if leader is None else [f"{_alone(leader.name, leader.side)}, leads in AUC."]
    if first := first_by_lift(facts):
        again = leader is not None and leader.name == first[0]
        said.append(
            "No model has a higher lift either." if again else f"By lift no model is ahead of {_alone(*first)}."
        )
    return " ".join(said)


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
        text.append(
            f"By lift no model is ahead of `{name}`, so lifts, and their gate, say nothing about {ABOUT[side]}."
        )
    return " ".join(text)


def warnings(facts: Facts) -> list[str]:
    """A line for each side whose control leads in AUC."""
    return [
        f"{_says_nothing(verdict.side)}: here it is `{verdict.name}`." for verdict in verdicts(facts) if verdict.leads
    ]


def _sentences(facts: Facts, verdict: Verdict) -> str:
    models, reference = facts.scores.models, facts.evaluated.reference
    text = f"{_alone(verdict.name, verdict.side)}, has an AUC of {fixed(models[verdict.name].auc.value)}"
    if verdict.leads:
        return f"{text} and leads. {_says_nothing(verdict.side)}."
    own, other = (models[name].metrics.get("gauc") for name in (verdict.name, reference))
    if own is not None and other is not None and verdict.name != reference:
        text += f", inside users {fixed(own.value)} (`{reference}`: {fixed(other.value)})"
    parts = [
        f"{word}: {named(names)}"
        for word, names in (("surely ahead of it in AUC", verdict.ahead), ("not surely ahead", verdict.rest))
        if names
    ]
    return "; ".join([text, *parts]) + "."


def _alone(name: str, side: Side) -> str:
    return f"`{name}`, which reads nothing of {OTHER[side]}"


def _says_nothing(side: Side) -> str:
    return f"A board on which {ONLY[side]} control leads says nothing about {ABOUT[side]}"
