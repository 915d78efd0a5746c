"""Charts of the leaderboard."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from hisac_lab.report.document import Figure
from hisac_lab.report.drawing import (
    GRAY,
    OTHERS,
    THOUSANDS,
    Reading,
    Sheet,
    colors,
    draw,
    forest,
    interval,
    legend,
    styles,
    ticks,
)
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import confidence, first_number, fixed, signed

WIDE = 10
"""Ratio of the highest to the lowest cost beyond which the axis is logarithmic."""


def forests(facts: Facts) -> tuple[Figure, ...]:
    """AUCs and their differences to the reference."""
    color = colors(facts)
    aucs = [(name, facts.scores.models[name].metrics["auc"]) for name in facts.ranking]
    reference = facts.evaluated.reference
    return (
        Figure(
            "auc_on_the_test_period",
            forest(
                "auc",
                "AUC of each model with its interval",
                [Reading(name, metric.value, metric.interval, color[name]) for name, metric in aucs],
                fixed,
            ),
            "AUC on the test period",
            f"Dots are means over seeds, lines {confidence(facts.evaluated.confidence)} intervals over users. All "
            "models see the same users, so overlapping lines do not mean a tie.",
        ),
        Figure(
            "difference_in_auc",
            forest(
                "auc-gap",
                "Paired difference in AUC to the reference with its interval",
                [Reading(name, metric.difference, metric.difference_interval, color[name]) for name, metric in aucs],
                signed,
                null=0.0,
            ),
            f"Difference in AUC to {reference}",
            "Right of the line is better than the reference; a line that crosses zero is undecided.",
        ),
    )


def sliced(facts: Facts, kind: str, name: str) -> Figure:
    """AUC of each model that has a color of its own in each bin, with intervals.

    Args:
        facts: All facts.
        kind: Which slices.
        name: Prefix of ids.
    """
    style, level = styles(facts), confidence(facts.evaluated.confidence)
    few = " Only models with a color of their own; the table has all." if GRAY in colors(facts).values() else ""
    models = [model for model in facts.ranking if style[model]["label"] != OTHERS]
    bins = sorted(facts.scores.slices[kind], key=first_number)
    shifts = (np.arange(len(models)) - (len(models) - 1) / 2) * 0.6 / len(models)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        for model, shift in zip(models, shifts, strict=True):
            found = [facts.scores.models[model].slices[kind][label] for label in bins]
            place = np.arange(len(bins)) + shift
            axes.vlines(place, *np.array([each.interval for each in found]).T, color=style[model]["color"], linewidth=2)
            axes.plot(place, [each.value for each in found], **style[model], linestyle="none")
        axes.set_title("AUC")
        axes.set_xticks(range(len(bins)), bins)
        axes.tick_params(axis="x", length=0)
        ticks(axes.yaxis)
        legend(sheet)

    svg = draw(name, f"AUC by {kind}", 280, paint)
    return Figure(
        f"auc_by_{kind.replace(' ', '_')}",
        svg,
        f"AUC by {kind}",
        f"Each group of marks is a bin of {kind}, from low to high; lines are {level} intervals.{few}",
    )


def calibration(facts: Facts) -> Figure:
    """Observed share of positives against the prediction, one line per model."""
    style = styles(facts)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--")
        for model in facts.ranking:
            bins = facts.scores.models[model].served.calibration.curve
            predicted, observed = [each.predicted for each in bins], [each.observed for each in bins]
            axes.plot(predicted, observed, **style[model], markersize=4.5, linewidth=1.3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(axis="x")
        axes.set_title("Observed share of positives")
        axes.set_xlabel("Mean predicted probability")
        legend(sheet)

    svg = draw("calibration", "Observed against predicted share of positives", 300, paint)
    return Figure(
        "calibration",
        svg,
        "Calibration",
        "On the dashed line predictions are right on average; below it they are too high. Best seed.",
    )


def quality_and_cost(facts: Facts) -> Figure:
    """AUC with interval against multiply-adds per candidate."""
    style = styles(facts)
    costs = [model.cost.candidate_macs for model in facts.scores.models.values()]

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        for name in facts.ranking:
            cost, auc = facts.scores.models[name].cost.candidate_macs, facts.scores.models[name].metrics["auc"]
            interval(axes, cost, auc.interval, style[name])
            axes.plot(cost, auc.value, **style[name], markersize=7, linestyle="none")
        axes.margins(0.1)
        axes.set_title("AUC on the test period")
        if 0 < WIDE * min(costs) < max(costs):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("Multiply-adds per candidate, logarithmic")
        else:
            axes.set_xlim(left=0)
            axes.set_xlabel("Multiply-adds per candidate")
            ticks(axes.xaxis)
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.yaxis)
        legend(sheet)

    svg = draw("price", "AUC against multiply-adds per candidate", 300, paint)
    return Figure(
        "quality_and_cost",
        svg,
        "Quality and cost",
        f"Up is better, left is cheaper; vertical lines are {confidence(facts.evaluated.confidence)} intervals.",
    )
