"""What stages have found, as runs hold it: a few numbers as metrics, all of them as tables.

A metric is a column of the table of runs, so runs of different stages share names, and only what people compare is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hisac_lab.abtest.records import NO_VERDICT, ABTests
from hisac_lab.base.records import Output
from hisac_lab.evaluation.records import Metric, Scores, Seconds, SeedScores
from hisac_lab.inference.records import CURVE, Point
from hisac_lab.sweep.records import Trial

Table = dict[str, list[Any]]

FIRST: dict[str, dict[str, str]] = {
    "prepare": {
        "users": "users",
        "items": "items",
        "events": "events",
        "train_samples": "splits.train.samples",
        "valid_samples": "splits.valid.samples",
        "test_samples": "splits.test.samples",
        "history_p50": "splits.test.history_p50",
    },
    "tokenize": {
        name: f"quality.{name}"
        for name in ("explained_variance", "neighbor_overlap", "occupancy", "collision_rate", "purity_lift")
    },
    "sweep": {
        "trials": "trials",
        "valid_auc": "auc",
        "best_valid_auc": "best_auc",
        "request_macs": "request_macs",
        "state_bytes": "state_bytes",
    },
}
"""Of stages with many numbers those that are metrics: name and dotted place in the manifest."""


def numbers(stage: str, output: Path) -> dict[str, float]:
    """The first numbers of an output's manifest: those listed for its stage, else all that stand at its top."""
    facts = Output.open(output).facts()
    places = FIRST.get(stage, {key: key for key in facts})
    found = {name: _at(facts, place) for name, place in places.items()}
    return {
        name: value for name, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _at(facts: Any, place: str) -> Any:
    for step in place.split("."):
        facts = facts.get(step) if isinstance(facts, Mapping) else None
    return facts


def of(stage: str, output: Path) -> dict[str, Table]:
    """Tables of an output, by name: periods of the data, levels of the semantic IDs."""
    facts = Output.open(output).facts()
    if stage == "prepare":
        splits = sorted(facts["splits"].items(), key=lambda split: split[1]["from"])
        return {"splits": _rows([{"period": name, **split} for name, split in splits])}
    if stage == "tokenize":
        levels = facts["quality"]["levels"]
        return {"levels": _rows([{"level": place, **level} for place, level in enumerate(levels, 1)])}
    return {}


def curve(run: Path) -> list[tuple[int, dict[str, float]]]:
    """A training's validations: step and what was measured there."""
    points = Point.read_lines(run / CURVE)
    return [(point.step, {name: value for name, value in point.facts().items() if name != "step"}) for point in points]


def tested(scores: SeedScores) -> dict[str, float]:
    """What a training scores on the test period; the pages of a run show a part of a name before a slash as a group."""
    return {f"test/{name}": value for name, value in scores.values().items() if name != "valid_auc"}


def trial(row: Trial) -> dict[str, float]:
    """What was found of a trial: its AUC is one on the validation period."""
    return {{"auc": "valid_auc"}.get(name, name): value for name, value in row.scores().items()}


def leaderboard(scores: Scores, tests: ABTests) -> Table:
    """A row per model: what decides."""
    rows = []
    for name, entry in scores.models.items():
        test = tests.tests.get(name)
        auc = entry.auc
        rows.append(
            {
                "model": name,
                "AUC": _estimate(auc.value, auc.interval),
                "AUC less reference": _estimate(auc.difference, auc.difference_interval, "+.4f"),
                "A/B test": "control" if name == tests.control else NO_VERDICT if test is None else test.verdict,
                "lift": "" if test is None else _estimate(test.lift.value, test.lift.interval, "+.2%"),
                "state bytes": f"{entry.cost.state_bytes:,.0f}",
                "multiply-adds of a request": f"{entry.cost.request_macs:,.0f}",
                "parameters": f"{entry.parameters:,}",
                "seeds": str(len(entry.seeds)),
            }
        )
    return _rows(rows)


def scores(found: Scores) -> Table:
    """A row per model and metric, and per model, kind of slice and bin."""
    rows = []
    for name, entry in found.models.items():
        slices = {f"auc, {kind} {part}": one for kind, bins in entry.slices.items() for part, one in bins.items()}
        rows += [_metric(name, metric, one) for metric, one in (entry.metrics | slices).items()]
    return _rows(rows)


def _metric(model: str, name: str, one: Metric | None) -> dict[str, Any]:
    values: Sequence[float | None] = (None,) * 7
    if one is not None:
        values = (one.value, *one.interval, one.seed_spread, one.difference, *one.difference_interval)
    columns = ("value", "low", "high", "seed_spread", "difference", "difference_low", "difference_high")
    return {"model": model, "metric": name, **dict(zip(columns, values, strict=True))}


def costs(found: Scores, times: Mapping[str, Seconds]) -> Table:
    """A row per model: what serving costs, counted, and timed on this machine where that was done."""
    rows = []
    for name, entry in found.models.items():
        cost, timed = entry.cost, times.get(name)
        rows.append(
            {
                "model": name,
                "state_bytes": cost.state_bytes,
                "encode_macs": cost.encode_macs,
                "candidate_macs": cost.candidate_macs,
                "request_macs": cost.request_macs,
                "encode_us_per_request": timed and timed.encode_us_per_request,
                "score_us_per_candidate": timed and timed.score_us_per_candidate,
            }
        )
    return _rows(rows)


def tests(found: ABTests) -> Table:
    """A row per treatment; the last one is the control against itself, where there was a test."""
    rows: list[dict[str, Any]] = [
        {
            "model": name,
            "verdict": test.verdict,
            "lift": test.lift.value,
            "low": test.lift.low,
            "high": test.lift.high,
            "p_holm": test.p_holm,
            "detectable": test.detectable,
            "power": test.power,
        }
        for name, test in found.tests.items()
    ]
    if found.aa is not None:
        rows.append({"model": f"{found.control} against itself", "verdict": f"uniform p-values: {found.aa.ks_p:.2f}"})
    return _rows(rows)


def _estimate(value: float, interval: tuple[float, float], form: str = ".4f") -> str:
    low, high = interval
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows as columns; what a row lacks is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
