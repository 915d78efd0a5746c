"""Controls: models that read nothing of the user, or nothing of the item, and what a board with them may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hisac_lab.ops.choice import rounded
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, is_sure

Side = Literal["item", "user"]
OTHER: dict[Side, str] = {"item": "the user", "user": "the item"}
SAYS_NOTHING: dict[Side, str] = {
    "item": "A board on which an item-only control leads says nothing about interests",
    "user": "A board on which a user-only control leads says nothing about items",
}


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
    """One for each side that has a control."""
    models = facts.scores.models
    both = [name for name in facts.ranking if models[name].control is None and models[name].labels == "own"]
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


def said(facts: Facts) -> str:
    """What the controls say of the board, in sentences."""
    ruled = verdicts(facts)
    if not ruled:
        return (
            "No model here reads the item alone or the user alone, so how much of an AUC is popularity, recency or "
            "activity is not known."
        )
    return " ".join(_sentences(facts, verdict) for verdict in ruled)


def warnings(facts: Facts) -> list[str]:
    """A line for each side whose control leads."""
    return [
        f"{SAYS_NOTHING[verdict.side]}: here it is `{verdict.name}`." for verdict in verdicts(facts) if verdict.leads
    ]


def _sentences(facts: Facts, verdict: Verdict) -> str:
    auc = fixed(facts.scores.models[verdict.name].auc.value)
    text = f"`{verdict.name}`, which reads nothing of {OTHER[verdict.side]}, has an AUC of {auc}"
    if verdict.leads:
        return f"{text} and leads. {SAYS_NOTHING[verdict.side]}."
    parts = [
        f"{word}: {', '.join(f'`{name}`' for name in names)}"
        for word, names in (("surely ahead of it", verdict.ahead), ("not surely ahead", verdict.rest))
        if names
    ]
    return f"{text}; {'; '.join(parts)}."
