"""Charts of the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from hisac_lab.evaluation.records import SLATE
from hisac_lab.ops.choice import rounded
from hisac_lab.report.document import Figure
from hisac_lab.report.drawing import (
    GRAY,
    INK,
    OTHERS,
    THOUSANDS,
    Reading,
    Sheet,
    colors,
    draw,
    forest,
    hover,
    interval,
    legend,
    styles,
    ticks,
)
from hisac_lab.report.facts import Facts
from hisac_lab.report.sections.leaderboard import front
from hisac_lab.report.words import (
    between,
    confidence,
    excludes_zero,
    first_number,
    fixed,
    integer,
    named,
    signed,
    times,
    told_apart,
)

WIDE = 10
"""Ratio of the highest to the lowest cost beyond which the axis is logarithmic."""


def forests(facts: Facts) -> tuple[Figure, ...]:
    """AUCs and their differences to the reference."""
    color = colors(facts)
    aucs = [(name, facts.scores.models[name].auc) for name in facts.ranking]
    reference = facts.evaluated.reference
    gaps = [(name, metric) for name, metric in aucs if name == reference or name in facts.rivals]
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
            _spread_seen(facts),
            f"Dots are means over seeds, lines {confidence(facts.evaluated.confidence)} intervals over users. All "
            "models see the same users, so overlapping lines do not mean a tie.",
        ),
        Figure(
            "difference_in_auc",
            forest(
                "auc-gap",
                "Paired difference in AUC to the reference with its interval",
                [Reading(name, metric.difference, metric.difference_interval, color[name]) for name, metric in gaps],
                signed,
                null=0.0,
            ),
            f"Difference in AUC to {reference}",
            told_apart(
                [(name, metric.difference_interval) for name, metric in gaps if name != reference],
                f"the reference `{reference}`",
            ),
            "Right of the line is better than the reference; a line that crosses zero is undecided."
            + (" Controls are in the table alone." if len(gaps) < len(aucs) else ""),
        ),
    )


def sliced(facts: Facts, kind: str, name: str) -> Figure:
    """Paired difference to the reference in each bin, of each model that has a color of its own and is no control.

    Args:
        facts: All facts.
        kind: Which slices.
        name: Prefix of ids.
    """
    style, level = styles(facts), confidence(facts.evaluated.confidence)
    reference = facts.evaluated.reference
    others = [model for model in facts.rivals if model != reference]
    models = [model for model in others if style[model]["label"] != OTHERS]
    note = " Controls are in the table alone." if len(others) < len(facts.ranking) - 1 else ""
    note += " Only models with a color of their own; the table has all." if len(models) < len(others) else ""
    bins = sorted(facts.scores.slices[kind], key=first_number)
    shifts = (np.arange(len(models)) - (len(models) - 1) / 2) * 0.6 / max(1, len(models))

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.axhline(0, color=INK, linewidth=0.9)
        for model, shift in zip(models, shifts, strict=True):
            by_bin = [(place, facts.scores.models[model].slices[kind][label]) for place, label in enumerate(bins)]
            marks = [(place + shift, metric) for place, metric in by_bin if metric is not None]
            places = [place for place, _ in marks]
            ends = np.array([metric.difference_interval for _, metric in marks]).reshape(-1, 2)
            axes.vlines(places, *ends.T, color=style[model]["color"], linewidth=2)
            for place, metric in marks:
                dot = axes.plot(place, metric.difference, **style[model], linestyle="none")
                hover(dot, f"{model}: {signed(metric.difference)} {between(metric.difference_interval, signed)}")
        axes.set_title(f"Difference in AUC to {reference}")
        axes.set_xticks(range(len(bins)), bins)
        axes.tick_params(axis="x", length=0)
        ticks(axes.yaxis)
        if models:
            legend(sheet)

    svg = draw(name, f"Difference in AUC by {kind}", 280, paint)
    before = " Lengths are those before the cut at the history limit." if kind == "history length" else ""
    return Figure(
        f"auc_by_{kind.replace(' ', '_')}",
        svg,
        f"Difference in AUC to {reference} by {kind}",
        _sliced_seen(facts, kind, bins, models) if others else nothing_beside(facts),
        f"Each group of marks is a bin of {kind}, from low to high, not equally many samples in each; lines are "
        f"{level} intervals of the paired difference. Above the line is better than the reference.{before}{note}",
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
        _calibration_seen(facts),
        "On the dashed line predictions are right on average; below it they are too high. Best seed.",
    )


def quality_and_cost(facts: Facts) -> Figure:
    """AUC with interval against multiply-adds of a whole request."""
    costs = {name: model.cost.request_macs for name, model in facts.scores.models.items()}
    return Figure(
        "quality_and_cost",
        draw(
            "price",
            "AUC against multiply-adds of a whole request",
            300,
            _against(facts, costs, f"Multiply-adds of a request, {SLATE} candidates"),
        ),
        "Quality and cost",
        _cost_seen(facts, costs),
        f"Up is better, left is cheaper; vertical lines are {confidence(facts.evaluated.confidence)} intervals.",
    )


def quality_and_state(facts: Facts) -> Figure:
    """AUC with interval against bytes of user state, with the Pareto front as a staircase."""
    sizes = {name: model.cost.state_bytes for name, model in facts.scores.models.items()}
    best = [each.name for each in front.standings(facts) if each.by is None]
    aucs = [facts.scores.models[name].auc.value for name in best]

    def paint(sheet: Sheet) -> None:
        _against(facts, sizes, "Bytes of user state")(sheet)
        steps = [sizes[name] for name in best]
        sheet.axes[0].plot(steps, aucs, color=INK, linewidth=0.9, linestyle="--", drawstyle="steps-post", zorder=1.8)

    return Figure(
        "quality_and_state",
        draw("state", "AUC against bytes of user state", 300, paint),
        "Quality and user state",
        f"On the front: {named(best)}, from {integer(sizes[best[0]])} to {integer(sizes[best[-1]])} bytes and from "
        f"{fixed(aucs[0])} to {fixed(aucs[-1])}."
        if len(best) > 1
        else f"`{best[0]}` alone is on the front: nothing is better, and nothing has less state.",
        "Dashed: the Pareto front, which nothing beats with as little state. Up is better, left is smaller; vertical "
        f"lines are {confidence(facts.evaluated.confidence)} intervals.",
    )


def _against(facts: Facts, costs: Mapping[str, float], unit: str) -> Callable[[Sheet], None]:
    """Paints AUCs with their intervals above a cost of each model.

    Args:
        facts: All facts.
        costs: By model.
        unit: Label of the axis.
    """
    style = styles(facts)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        for name in facts.ranking:
            cost, auc = costs[name], facts.scores.models[name].auc
            line = interval(axes, cost, auc.interval, style[name])
            dot = axes.plot(cost, auc.value, **style[name], markersize=7, linestyle="none")
            hover([line, *dot], f"{name}: AUC {fixed(auc.value)} {between(auc.interval)}, {integer(cost)}")
        axes.margins(0.1)
        axes.set_title("AUC on the test period")
        least = min((cost for cost in costs.values() if cost > 0), default=0.0)
        if WIDE * least < max(costs.values()):
            if min(costs.values()) > 0:
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            else:  # no logarithm: what costs nothing stands at the left
                axes.set_xscale("symlog", linthresh=least, linscale=0.5)
                axes.set_xlim(left=-least / 4)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel(f"{unit}, logarithmic")
        else:
            axes.set_xlim(left=0 if min(costs.values()) > 0 else -max(costs.values()) / 40)  # a mark at 0 stays whole
            axes.set_xlabel(unit)
            ticks(axes.xaxis)
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.yaxis)
        legend(sheet)

    return paint


def _spread_seen(facts: Facts) -> str:
    best, last = (facts.scores.models[facts.ranking[place]].auc.value for place in (0, -1))
    own = [model.auc.interval[1] - model.auc.interval[0] for model in facts.scores.models.values()]
    return (
        f"From `{facts.ranking[0]}`, {fixed(best)}, to `{facts.ranking[-1]}`, {fixed(last)}: {fixed(best - last)} "
        "apart, "
        f"where one interval is {fixed(max(own))} wide."
    )


def nothing_beside(facts: Facts) -> str:
    """That the reference has nothing to be compared with."""
    return f"There is nothing beside the reference{' but controls' if len(facts.ranking) > 1 else ''}."


def _sliced_seen(facts: Facts, kind: str, bins: Sequence[str], models: Sequence[str]) -> str:
    """In which bins which models are apart from the reference."""
    found = []
    for label in bins:
        here = [(name, facts.scores.models[name].slices[kind][label]) for name in models]
        apart = [(name, metric) for name, metric in here if metric and excludes_zero(metric.difference_interval)]
        found += [f"`{name}` by {signed(metric.difference)} at {label}" for name, metric in apart[:2]]
        found += [f"{len(apart) - 2} more at {label}"] if len(apart) > 2 else []
    if not found:
        return f"Nothing to choose between: in every bin of {kind} each interval holds zero."
    return f"Apart from the reference: {'; '.join(found)}."


def _calibration_seen(facts: Facts) -> str:
    served = {name: facts.scores.models[name].served.calibration for name in facts.ranking}
    order = sorted(served, key=lambda name: (rounded(served[name].error), name))
    best, worst = served[order[0]], served[order[-1]]
    sums = f"and predicts {'more' if worst.ratio >= 1 else 'fewer'} positives than there are"
    if len(order) == 1:
        return f"`{order[0]}` errs by {fixed(best.error)} on average, {sums}."
    return (
        f"`{order[0]}` errs least, by {fixed(best.error)} on average; `{order[-1]}` most, by {fixed(worst.error)}, "
        f"{sums}."
    )


def _cost_seen(facts: Facts, costs: Mapping[str, float]) -> str:
    known = facts.rivals or facts.ranking
    cheapest, best = min(sorted(known), key=costs.__getitem__), known[0]
    aside = ", controls aside" if len(known) < len(facts.ranking) else ""
    if cheapest == best:
        return f"`{best}` is both the cheapest and the one with the highest AUC{aside}."
    gain = facts.scores.models[best].auc.value - facts.scores.models[cheapest].auc.value
    return (
        f"`{best}` takes {times(costs[best], costs[cheapest], 'the')} multiply-adds of `{cheapest}`, the "
        f"cheapest{aside}, for {signed(gain)} in AUC."
    )
