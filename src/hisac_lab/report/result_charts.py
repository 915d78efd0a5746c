"""Charts of the test period and the A/B test: facts in, inline SVG out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from hisac_lab.evaluation.records import Interval
from hisac_lab.report.drawing import (
    GREY,
    INK,
    LIFTS,
    MUTED,
    OTHERS,
    THOUSANDS,
    draw,
    legend,
    note,
    styles,
    ticks,
)
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import first_number, signed_percent

MOST_ROWS = 8
"""Rows of a forest chart beyond which they stand closer."""
WIDE = 10
"""Ratio of the highest to the lowest cost beyond which the axis is logarithmic."""


@dataclass(frozen=True)
class Reading:
    """One row of a forest chart.

    Attributes:
        label: Its name.
        value: The estimate.
        interval: Its interval.
        colour: Of dot and line.
        wide: A second interval, drawn behind, or None.
        truth: A known true value, or None.
    """

    label: str
    value: float
    interval: Interval
    colour: str
    wide: Interval | None = None
    truth: float | None = None


def forest(
    name: str, alt: str, readings: Sequence[Reading], show: Callable[[float], str], null: float | None = None
) -> str:
    """Estimates with intervals, one below the other.

    Args:
        name: Prefix of ids.
        alt: For screen readers.
        readings: Top to bottom.
        show: Writes an estimate.
        null: Where a line marks "no difference"; None for no line.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="x")
        axes.grid(False, axis="y")
        if null is not None:
            axes.axvline(null, color=INK, linewidth=0.9)
        for row, reading in enumerate(readings):
            if reading.wide:
                axes.plot(reading.wide, [row, row], color=reading.colour, alpha=0.22, linewidth=7)
            axes.plot(reading.interval, [row, row], color=reading.colour, linewidth=2.4)
            axes.plot(reading.value, row, "o", color=reading.colour, markersize=7)
            if reading.truth is not None:
                axes.plot(reading.truth, row, "D", color="white", markeredgecolor=INK, markersize=5.5)
            if reading.interval[0] < reading.interval[1]:
                note(axes, show(reading.value), reading.value, row, above=9)
        axes.set_yticks(range(len(readings)), [reading.label for reading in readings])
        axes.set_ylim(len(readings) - 0.5, -0.7)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        ticks(axes.xaxis)
        if show is signed_percent:
            axes.xaxis.set_major_formatter(LIFTS)
        if any(reading.wide for reading in readings):
            diamond = Line2D([], [], color="white", marker="D", markeredgecolor=INK, markersize=5.5, label="true lift")
            sharp = Line2D([], [], color=MUTED, marker="o", linewidth=2.4, label="CUPED")
            legend(figure, [sharp, Line2D([], [], color=MUTED, alpha=0.3, linewidth=7, label="without CUPED"), diamond])

    return draw(name, alt, 60 + (52 if len(readings) <= MOST_ROWS else 32) * len(readings), paint)


def slices(facts: Facts, kind: str, name: str) -> str:
    """AUC of each model that has a colour of its own in each bin, with intervals.

    Args:
        facts: All facts.
        kind: Which slices.
        name: Prefix of ids.
    """
    style = styles(facts)
    models = [model for model in facts.ranking if style[model]["label"] != OTHERS]
    bins = sorted(facts.scores.slices[kind], key=first_number)
    shifts = (np.arange(len(models)) - (len(models) - 1) / 2) * 0.6 / len(models)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for model, shift in zip(models, shifts, strict=True):
            found = [facts.scores.models[model].slices[kind][label] for label in bins]
            place = np.arange(len(bins)) + shift
            axes.vlines(place, *np.array([each.interval for each in found]).T, color=style[model]["color"], linewidth=2)
            axes.plot(place, [each.value for each in found], **style[model], linestyle="none")
        axes.set_title("AUC")
        axes.set_xticks(range(len(bins)), bins)
        axes.tick_params(axis="x", length=0)
        ticks(axes.yaxis)
        legend(figure)

    return draw(name, f"AUC by {kind}", 280, paint)


def calibration(facts: Facts) -> str:
    """Observed share of positives against the prediction, one line per model."""
    style = styles(facts)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        for model in facts.ranking:
            bins = facts.scores.models[model].served.calibration.curve
            predicted, observed = [each.predicted for each in bins], [each.observed for each in bins]
            axes.plot(predicted, observed, **style[model], markersize=4.5, linewidth=1.3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(axis="x")
        axes.set_title("Observed share of positives")
        axes.set_xlabel("Mean predicted probability")
        legend(figure)

    return draw("calibration", "Observed against predicted share of positives", 300, paint)


def _interval(axes: Axes, place: float, interval: Interval, style: dict[str, Any]) -> None:
    thin = style["label"] == OTHERS
    axes.vlines(place, *interval, color=style["color"], zorder=style["zorder"], linewidth=0.8 if thin else 2)


def price(facts: Facts) -> str:
    """AUC with interval against multiply-adds per candidate."""
    style = styles(facts)
    costs = [model.cost.candidate_macs for model in facts.scores.models.values()]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for name in facts.ranking:
            cost, auc = facts.scores.models[name].cost.candidate_macs, facts.scores.models[name].metrics["auc"]
            _interval(axes, cost, auc.interval, style[name])
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
        legend(figure)

    return draw("price", "AUC against multiply-adds per candidate", 300, paint)


def agreement(facts: Facts, height: float) -> str:
    """CUPED lift with interval against AUC on the test period; the control has no lift."""
    style = styles(facts)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=INK, linewidth=0.9)
        for name in facts.ranking:
            auc = facts.scores.models[name].metrics["auc"].value
            if name in facts.tests.tests:
                lift = facts.tests.tests[name].lift_cuped
                _interval(axes, auc, lift.interval, style[name])
                axes.plot(auc, lift.value, **style[name], markersize=7, linestyle="none")
            elif name == facts.tests.control:
                axes.plot(auc, 0, **style[name], markersize=7, linestyle="none")
        axes.margins(0.15, 0.1)
        axes.set_title("CUPED lift in CTR")
        axes.set_xlabel("AUC on the test period")
        axes.yaxis.set_major_formatter(LIFTS)
        ticks(axes.xaxis, axes.yaxis)
        legend(figure)

    return draw("agreement", "CUPED lift against AUC on the test period", height, paint)
