"""Shuffled controls: what is left of a model's gain when semantic IDs, instances or labels have changed places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hisac_lab.ops.choice import rounded
from hisac_lab.report.document import Cell, Row, Table, table
from hisac_lab.report.drawing import colors
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import between, fixed, is_sure, signed

SHUFFLED = "shuffled"
LABELS = "labels"
CHANCE = 0.5


@dataclass(frozen=True)
class Shuffle:
    """A control beside the model that it is the control of.

    Attributes:
        name: Of the control.
        of: The model with the same settings, nothing shuffled.
        parts: What is shuffled, as settings name it.
        left: Some of what should be gone is there: see `shuffles`.
        verdict: That in words.
    """

    name: str
    of: str
    parts: tuple[str, ...]
    left: bool
    verdict: str


def shuffles(facts: Facts) -> list[Shuffle]:
    """Every control whose model is on the board too, in the order of the ranking.

    Labels change places within a user, so the AUC inside users has to be that of chance; of one seed it may lie far
    from it, for what little is learned from noise can rank well, or badly. Where semantic IDs or instances change
    places, the gain over the reference has to be gone; a model without a sure gain has none to lose.
    """
    return [_judged(facts, name, of, parts) for name in facts.ranking for of, parts in _models_of(facts, name)]


def said(facts: Facts) -> str:
    """A sentence on what shuffling left; empty where nothing is shuffled."""
    ruled = shuffles(facts)
    return f"Shuffled: {'; '.join(f'`{one.name}` {one.verdict}' for one in ruled)}." if ruled else ""


def warnings(facts: Facts) -> list[str]:
    """A line for each control that leaves something."""
    return [f"`{one.name}`, the control of `{one.of}`, {one.verdict}." for one in shuffles(facts) if one.left]


def tables(facts: Facts) -> list[Table]:
    """A row for each control; nothing where there is none."""
    ruled, color = shuffles(facts), colors(facts)
    if not ruled:
        return []
    models, rows = facts.scores.models, list[Row]()
    for one in ruled:
        gains = (signed(models[name].auc.difference) for name in (one.of, one.name))
        rows.append((Cell(one.name, color=color[one.name]), one.of, ", ".join(one.parts), *gains, one.verdict))
    reference = facts.evaluated.reference
    title = "Shuffled controls: the gain in AUC over the reference of a model, and what its control has of it."
    heads = ("control", "of", "what is shuffled", f"its gain over {reference}", "the control's", "verdict")
    return [table(title, heads, rows, ("control", "of", "what is shuffled", "verdict"))]


def _models_of(facts: Facts, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The first model that differs from this one in nothing but what is shuffled, with what that is."""
    parts = _parts(facts, name)
    settings = {other: _without(facts.scores.models[other].settings, parts) for other in facts.ranking}
    for other in facts.ranking if parts else ():
        if not _parts(facts, other) and settings[other] == settings[name]:
            yield other, tuple(sorted(parts))
            return


def _parts(facts: Facts, name: str) -> set[str]:
    """What a model has shuffled."""
    model = facts.scores.models[name]
    return {*_paths(model.settings), *([LABELS] if model.labels == SHUFFLED else [])}


def _paths(settings: dict[str, Any], before: str = "") -> Iterator[str]:
    """The settings whose value is shuffled, as `counts.ids`."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{key}.")
        elif value == SHUFFLED:
            yield f"{before}{key}"


def _without(settings: dict[str, Any], paths: set[str], before: str = "") -> dict[str, Any]:
    """The settings without those at `paths`."""
    return {
        key: _without(value, paths, f"{before}{key}.") if isinstance(value, dict) else value
        for key, value in settings.items()
        if f"{before}{key}" not in paths
    }


def _judged(facts: Facts, name: str, of: str, parts: tuple[str, ...]) -> Shuffle:
    left, verdict = _inside_users(facts, name) if LABELS in parts else _gain(facts, name, of)
    return Shuffle(name, of, parts, left, verdict)


def _inside_users(facts: Facts, name: str) -> tuple[bool, str]:
    """Whether the AUC inside users is surely above chance, whichever users and seeds are drawn."""
    model = facts.scores.models[name]
    metric, seeds = model.metrics.get("gauc") or model.auc, len(model.seeds)
    value = f"an AUC inside users of {fixed(metric.value)} {between(metric.interval)}"
    if seeds == 1:
        return False, f"is of one seed, and where each falls is chance: {value}"
    over_seeds = metric.value - 2 * metric.seed_spread / math.sqrt(seeds - 1)
    if rounded(min(metric.interval[0], over_seeds)) > CHANCE:
        return True, f"still tells a user's items apart: {value}, above chance"
    return False, f"has lost all of it: {value}"


def _gain(facts: Facts, name: str, of: str) -> tuple[bool, str]:
    """Whether something of the model's sure gain over the reference is surely there."""
    gain, rest = (_over_reference(facts, model) for model in (of, name))
    if gain is None:
        return False, f"has nothing to lose: `{of}` is not surely ahead of `{facts.evaluated.reference}`"
    if rest is None:
        return False, f"has lost the gain of {signed(gain)}"
    return True, f"keeps {signed(rest)} of a gain of {signed(gain)}: that much does not come from what is shuffled"


def _over_reference(facts: Facts, name: str) -> float | None:
    """A gain over the reference that is sure; None: none is."""
    gain, p = facts.gaps.get((name, facts.evaluated.reference), (0.0, 1.0))
    return gain if gain > 0 and is_sure(gain, p, 1 - facts.evaluated.confidence) else None
