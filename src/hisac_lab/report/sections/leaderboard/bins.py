"""Differences between models over all samples, by history length and by item popularity; paired, with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hisac_lab.evaluation.records import Metric, ModelScores, Pair
from hisac_lab.report.document import Cell, Row, Table, table
from hisac_lab.report.drawing import colors
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import between, excludes_zero, first_number, fixed, is_sure, signed

FEW = 4
"""Models, controls aside, up to which every pair has a row."""
UNITS = {"history length": "events in history", "item popularity": "training samples of the item"}


def tables(facts: Facts, kind: str) -> list[Table]:
    """Differences to the reference in each bin, and those of pairs; nothing where there is one model.

    Args:
        facts: All facts.
        kind: Which bins.
    """
    if len(facts.ranking) < 2:
        return []
    found = facts.scores.bin_pairs.get(kind, {})
    return [
        _to_reference(facts, kind),
        *_of_pairs(facts, {label: found.get(label, []) for label in _bins(facts, kind)}, kind),
    ]


def overall(facts: Facts) -> list[Table]:
    """Differences of pairs over all samples; nothing where no pair is to be shown."""
    return _of_pairs(facts, {"all samples": facts.scores.pairs})


def gap(metric: Metric | None) -> Cell:
    """A difference to the reference with its interval, strong where that leaves out zero; a dash where undefined."""
    if metric is None:
        return Cell("–")
    sure = excludes_zero(metric.difference_interval)
    return Cell(signed(metric.difference), between(metric.difference_interval, signed), strong=sure)


def change(one: ModelScores, other: ModelScores) -> str | None:
    """The one setting in which two models of a kind differ, with its values; None where they differ in others too."""
    ours, theirs = dict(_flat(one.settings)), dict(_flat(other.settings))
    moved = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    if len(moved) != 1 or one.labels != other.labels:
        return None
    values = (_said(settings.get(moved[0])) for settings in (ours, theirs))
    return f"{moved[0]}: {' or '.join(values)}"


def _to_reference(facts: Facts, kind: str) -> Table:
    bins, reference = _bins(facts, kind), facts.evaluated.reference
    rows: list[Row] = [
        (Cell(name, color=colors(facts)[name]), *(gap(facts.scores.models[name].slices[kind][label]) for label in bins))
        for name in facts.ranking
        if name != reference
    ]
    return table(
        f"Difference in AUC to the reference `{reference}` by {kind}, on the same resampled users in each bin of "
        f"{UNITS.get(kind, kind)}; bold where the interval excludes zero.",
        ("model", *bins),
        rows,
        ("model",),
    )


def _of_pairs(facts: Facts, found: Mapping[str, Sequence[Pair]], kind: str = "") -> list[Table]:
    """A row for each pair that is shown, the better one first.

    Args:
        facts: All facts.
        found: Pairs by the samples that they are of.
        kind: Which bins these are, if any.
    """
    level, compared, models = 1 - facts.evaluated.confidence, facts.rivals, facts.scores.models
    by_names = [{(pair.one, pair.other): pair for pair in pairs} for pairs in found.values()]
    rows: list[Row] = []
    for one, other in itertools.combinations(compared, 2):
        moved = change(models[one], models[other])
        known = any({(one, other), (other, one)} & pairs.keys() for pairs in by_names)
        if known and (moved is not None or len(compared) <= FEW):
            rows.append((f"{one} − {other}", moved or "", *(_cell(facts, pairs, one, other) for pairs in by_names)))
    if not rows:
        return []
    which = "Every pair of models" if len(compared) <= FEW else "Pairs of models that differ in one setting"
    which += ", controls aside" if len(compared) < len(facts.ranking) else ""
    caption = (
        f"{which}, the first less the second in AUC{kind and f' by {kind}'}; brackets are of each pair by "
        f"itself, bold where p is below {fixed(level, 2)} after Holm's correction over all pairs of the board"
        f"{kind and ' in all bins'}."
    )
    return [table(caption, ("pair", "what differs", *found), rows, ("pair", "what differs"))]


def _cell(facts: Facts, pairs: dict[tuple[str, str], Pair], one: str, other: str) -> Cell:
    straight = (one, other) in pairs
    pair = pairs.get((one, other)) or pairs.get((other, one))
    if pair is None:
        return Cell("–")
    low, high = pair.interval
    difference, ends = (pair.difference, (low, high)) if straight else (-pair.difference, (-high, -low))
    sure = is_sure(difference, pair.p, 1 - facts.evaluated.confidence)
    return Cell(signed(difference), between(ends, signed), strong=sure)


def _bins(facts: Facts, kind: str) -> list[str]:
    return sorted(facts.scores.slices[kind], key=first_number)


def _flat(settings: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their paths, as `counts.ids`."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _said(value: Any) -> str:
    """A value as the settings file has it."""
    plain = {None: "null", True: "true", False: "false"}
    return plain[value] if value is None or isinstance(value, bool) else str(value)
