"""The section on the training runs: curves and results."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from hisac_lab.inference.records import Point
from hisac_lab.ops.choice import rounded
from hisac_lab.report.document import Block, Cell, Figure, Figures, Row, Section, Table, table
from hisac_lab.report.drawing import THOUSANDS, Sheet, colors, draw, hover, legend, styles, ticks
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, integer, named

MOST_LINES = 12


def training(facts: Facts) -> Section:
    """Curves and runs."""
    color = colors(facts)
    lines = _lines(facts)
    averaged = len(lines) < len(facts.runs)

    def model(name: str) -> Cell:
        return Cell(name, color=color[name])

    validations = table(
        "Validations, means over the seeds of a model." if averaged else "Validations of all runs.",
        ("model", "seed", "step", "train loss", "validation AUC", "validation log loss"),
        [
            (
                model(name),
                seed,
                integer(point.step),
                fixed(point.train_loss),
                fixed(point.valid_auc),
                fixed(point.valid_log_loss),
            )
            for name, seed, points in lines
            for point in points
        ],
        ("model",),
    )
    each = "One line per model, the mean over its seeds." if averaged else "One line per seed."
    blocks: tuple[Block, ...] = (
        Figures(
            (
                Figure(
                    "train_loss",
                    _curves(facts, "train_loss"),
                    "Train loss",
                    _loss_seen(facts),
                    f"Mean log loss of the batches since the last validation; {each[0].lower()}{each[1:]}",
                ),
                Figure(
                    "validation_auc",
                    _curves(facts, "valid_auc"),
                    "Validation AUC",
                    _auc_seen(facts),
                    f"Higher is better; a falling end means overfitting. {each}",
                ),
            ),
            (validations,),
        ),
        _runs(facts),
    )
    return Section("training", "Training", blocks)


def _loss_seen(facts: Facts) -> str:
    ends = {f"{run.name}, seed {run.seed}": run.curve[-1].train_loss for run in facts.runs}
    low, high = (pick(sorted(ends), key=ends.__getitem__) for pick in (min, max))
    return f"Training ends at a loss from {fixed(ends[low])} ({low}) to {fixed(ends[high])} ({high})."


def _auc_seen(facts: Facts) -> str:
    """Which runs were at their best before they ended."""
    early = [
        run
        for run in facts.runs
        if rounded(max(point.valid_auc for point in run.curve)) > rounded(run.curve[-1].valid_auc)
    ]
    if not early:
        return "Every run was best at its end: longer training might still help."
    names = named(sorted({run.name for run in early}))
    return f"{len(early)} of {len(facts.runs)} runs were better before their end ({names}): those weights are kept."


def _runs(facts: Facts) -> Table:
    color = colors(facts)
    rows: list[Row] = []
    for name in facts.ranking:
        runs = [run for run in facts.runs if run.name == name]
        steps = sorted({run.steps for run in runs})
        rows.append(
            (
                Cell(name, color=color[name]),
                " to ".join(integer(count) for count in dict.fromkeys((steps[0], steps[-1]))),
                integer(runs[0].parameters),
                fixed(sum(run.valid_auc for run in runs) / len(runs)),
                ", ".join(f"{run.seed}: {fixed(run.valid_auc)}" for run in runs),
            )
        )
    return table(
        "Training runs, the mean over seeds and each seed; the weights with the best validation AUC are kept.",
        ("model", "steps", "parameters", "best validation AUC", "by seed"),
        rows,
        ("model",),
    )


def _lines(facts: Facts) -> list[tuple[str, str, list[Point]]]:
    """Training curves to show: model, seed, points; with many runs one per model, the mean over its seeds.

    A mean goes as far as all seeds ran.
    """
    if len(facts.runs) <= max(MOST_LINES, len(facts.ranking)):
        return [(run.name, str(run.seed), run.curve) for run in facts.runs]
    means = []
    for name, group in groupby(facts.runs, key=lambda run: run.name):
        seeds = [{point.step: point for point in run.curve} for run in group]
        shared = sorted(set(seeds[0]).intersection(*seeds[1:]))
        means.append((name, "mean", [_mean([seed[step] for seed in seeds]) for step in shared]))
    return means


def _mean(points: list[Point]) -> Point:
    columns = {key: float(np.mean([getattr(point, key) for point in points])) for key in Point.model_fields}
    return Point.model_validate(columns | {"step": points[0].step})


def _curves(facts: Facts, quantity: str) -> str:
    """Curves over training steps.

    Args:
        facts: All facts.
        quantity: Field of `Point`.
    """
    style = styles(facts)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        for name, seed, points in _lines(facts):
            steps, values = [point.step for point in points], [getattr(point, quantity) for point in points]
            lines = axes.plot(steps, values, **style[name], markersize=4, linewidth=1.3, alpha=0.85)
            hover(lines, f"{name}, seed {seed}" if seed.isdigit() else f"{name}, mean over seeds")
        axes.set_xlabel("Training steps")
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.xaxis, axes.yaxis)
        legend(sheet)

    return draw(quantity.replace("_", "-"), f"{quantity.replace('_', ' ')} by training step", 280, paint)
