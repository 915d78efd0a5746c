"""Two runs side by side: what was set otherwise, what the data are, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hisac_lab.report.document import Cell, Note, Row, Section, Table, table
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import between, day, fixed, integer, signed, signed_percent


@dataclass(frozen=True)
class Side:
    """One of the runs.

    Attributes:
        name: What it is called.
        facts: What it found.
        settings: All of params.yaml by dotted keys; empty where there is no such file.
    """

    name: str
    facts: Facts
    settings: Mapping[str, str]


def sections(this: Side, that: Side) -> list[Section]:
    """Settings, data and results of two runs; numbers of different fingerprints never share a table."""
    return [_settings(this, that), _data(this, that), _results(this, that), _tests(this, that)]


def _settings(this: Side, that: Side) -> Section:
    silent = [side.name for side in (this, that) if not side.settings]
    if silent:
        return Section("settings", "Settings", (Note(f"No params.yaml stands beside {' and '.join(silent)}."),))
    keys = sorted({*this.settings, *that.settings})
    rows = [
        (f"`{key}`", this.settings.get(key, "–"), that.settings.get(key, "–"))
        for key in keys
        if this.settings.get(key) != that.settings.get(key)
    ]
    if not rows:
        return Section("settings", "Settings", (Note(f"All {len(keys)} settings are equal."),))
    columns = ("setting", this.name, that.name)
    caption = f"{len(rows)} of {len(keys)} settings differ."
    return Section("settings", "Settings", (table(caption, columns, rows, columns),))


def _data(this: Side, that: Side) -> Section:
    def told(side: Side) -> dict[str, str]:
        prepared = side.facts.prepared
        test = prepared.splits["test"]
        return {
            "data set": side.facts.acquired.dataset,
            "raw files": ", ".join(digest[:12] for _, digest in sorted(side.facts.acquired.files.items())),
            "dates": f"{day(prepared.splits['train'].first)} to {day(test.last)}",
            "events": integer(prepared.events),
            "users": integer(prepared.users),
            "items": integer(prepared.items),
            "labels": side.facts.evaluated.negatives,
            "test samples": integer(test.samples),
            "history before a test sample, median": integer(test.history_p50),
            "data protocol": prepared.protocol,
            "evaluation protocol": side.facts.evaluated.fingerprint,
            "A/B test": side.facts.abtested.test_fingerprint,
        }

    ours, theirs = told(this), told(that)
    rows: list[Row] = [(key, Cell(ours[key]), Cell(theirs[key], strong=ours[key] != theirs[key])) for key in ours]
    columns = ("fact", this.name, that.name)
    return Section("data", "Data", (table("Bold: what differs.", columns, rows, columns),))


def _results(this: Side, that: Side) -> Section:
    marks = this.facts.evaluated.fingerprint, that.facts.evaluated.fingerprint
    if marks[0] == marks[1]:
        return Section("results", "Results", (_together(this, that), *_costs((this, that))))
    refusal = (
        f"The runs were evaluated under different protocols, {marks[0]} and {marks[1]}: their numbers are not "
        "comparable "
        "and stand in tables of their own."
    )
    return Section("results", "Results", (Note(refusal, "callout"), _alone(this), _alone(that)))


def _together(this: Side, that: Side) -> Table:
    """A row per model of either run; a difference where both have it."""
    ours, theirs = this.facts.scores.models, that.facts.scores.models
    rows: list[Row] = []
    for name in dict.fromkeys([*ours, *theirs]):
        aucs = [models[name].auc if name in models else None for models in (ours, theirs)]
        cells = [Cell("–") if auc is None else Cell(fixed(auc.value), between(auc.interval)) for auc in aucs]
        one, other = aucs
        gap = "–" if one is None or other is None else signed(one.value - other.value)
        rows.append((name, *cells, gap))
    caption = (
        f"AUC on the test period, both under {this.facts.evaluated.fingerprint}. The difference is of two runs, not "
        "paired "
        "by a bootstrap, so it has no interval; see the spread over seeds in each report."
    )
    return table(caption, ("model", this.name, that.name, "difference"), rows, ("model",))


def _alone(side: Side) -> Table:
    facts = side.facts
    rows: list[Row] = []
    for name in facts.ranking:
        model = facts.scores.models[name]
        auc, cost = model.auc, model.cost
        shown = Cell(fixed(auc.value), between(auc.interval))
        rows.append((name, shown, integer(cost.state_bytes), integer(cost.request_macs)))
    caption = f"{side.name}, under {facts.evaluated.fingerprint}."
    return table(caption, ("model", "AUC", "state, bytes", "multiply-adds of a request"), rows, ("model",))


def _costs(sides: tuple[Side, Side]) -> list[Table]:
    tables = []
    for title, of in (("Bytes of user state.", "state_bytes"), ("Multiply-adds of a request.", "request_macs")):
        costs = [{name: getattr(model.cost, of) for name, model in side.facts.scores.models.items()} for side in sides]
        rows = [
            (name, *(integer(one[name]) if name in one else "–" for one in costs))
            for name in dict.fromkeys([*costs[0], *costs[1]])
        ]
        tables.append(table(title, ("model", *(side.name for side in sides)), rows, ("model",)))
    return tables


def _tests(this: Side, that: Side) -> Section:
    sides = (this, that)
    marks = [side.facts.abtested.test_fingerprint for side in sides]
    controls = [side.facts.tests.control for side in sides]
    if marks[0] != marks[1] or controls[0] != controls[1]:
        refusal = (
            f"The A/B tests are not of one kind ({marks[0]} against {controls[0]}, {marks[1]} against {controls[1]}): "
            "their lifts stand in tables of their own."
        )
        return Section("abtest", "A/B test", (Note(refusal, "callout"), *(_lifts((side,)) for side in sides)))
    return Section("abtest", "A/B test", (_lifts(sides),))


def _lifts(sides: tuple[Side, ...]) -> Table:
    names = dict.fromkeys(name for side in sides for name in side.facts.tests.tests)
    rows: list[Row] = []
    for name in names:
        cells = []
        for side in sides:
            test = side.facts.tests.tests.get(name)
            said = "" if test is None else f"{test.verdict}, {between(test.lift.interval, signed_percent)}"
            cells.append(Cell("–") if test is None else Cell(signed_percent(test.lift.value), said))
        rows.append((name, *cells))
    caption = f"Lift in clicks over {sides[0].facts.tests.control}."
    return table(caption, ("treatment", *(side.name for side in sides)), rows, ("treatment",))
