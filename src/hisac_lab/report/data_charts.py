"""Charts of the data, the semantic IDs, the sweep and the training runs: facts in, inline SVG out."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from matplotlib.figure import Figure

from hisac_lab.events.records import Month
from hisac_lab.inference.records import Point
from hisac_lab.report.drawing import ACCENT, FAINT, GREY, INK, SHARES, THOUSANDS, draw, legend, note, styles, ticks
from hisac_lab.report.facts import Facts

MOST_MONTHS = 48
MOST_LINES = 12


def by_period(facts: Facts) -> tuple[str, list[tuple[str, Month]]]:
    """Events by month, or by year where the log is longer than some years: what a row is, and the rows in order."""
    months = sorted(facts.prepared.profile.months.items())
    if len(months) <= MOST_MONTHS:
        return "month", months
    years: list[tuple[str, Month]] = []
    for year, group in groupby(months, key=lambda entry: entry[0][:4]):
        rows = [month for _, month in group]
        events = sum(month.events for month in rows)
        shares = [month.positive_share for month in rows if month.positive_share is not None]
        positives = sum(month.events * (month.positive_share or 0) for month in rows)
        years.append((year, Month(events=events, positive_share=positives / events if shares else None)))
    return "year", years


def months(facts: Facts) -> str:
    """Events and, where there is feedback, share of positives by month or year."""
    rows = by_period(facts)[1]
    shares = [np.nan if month.positive_share is None else month.positive_share for _, month in rows]
    panels = 1 if np.isnan(shares).all() else 2

    def paint(figure: Figure) -> None:
        place = np.arange(len(rows))
        step = -(-len(rows) // 6)
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[2, 1][:panels])[:, 0]
        axes[0].bar(place, [month.events for _, month in rows], width=0.72, color=ACCENT)
        axes[0].set_title("Events")
        axes[0].yaxis.set_major_formatter(THOUSANDS)
        ticks(axes[0].yaxis)
        if panels == 2:
            axes[1].plot(place, shares, "o-", color=ACCENT, markersize=4)
            axes[1].set_title("Share of positives")
            axes[1].set_ylim(0, 1)
            axes[1].set_yticks([0, 0.5, 1])
            axes[1].yaxis.set_major_formatter(SHARES)
        axes[-1].set_xticks(place[::step], [name for name, _ in rows][::step])

    return draw("months", "Events and share of positives by month", 280, paint)


def deciles(facts: Facts) -> str:
    """Quantiles of history length over users."""
    lengths = facts.prepared.profile.history_length_deciles

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        shares = np.linspace(0, 1, len(lengths))
        axes.plot(shares, lengths, "o-", color=ACCENT, markersize=5)
        for at in (len(lengths) // 2, len(lengths) - 2):
            note(axes, f"{lengths[at]:,}", float(shares[at]), lengths[at], above=7, side="right")
        axes.set_title("Events in the whole history")
        axes.set_xlabel("Share of users with at most so many")
        axes.xaxis.set_major_formatter(SHARES)
        axes.yaxis.set_major_formatter(THOUSANDS)
        ticks(axes.yaxis)
        axes.set_ylim(bottom=0)

    return draw("deciles", "History length by share of users", 280, paint)


def explained(facts: Facts) -> str:
    """Explained variance of the embeddings by depth."""
    values = [level.explained_variance for level in facts.tokenized.quality.levels]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.bar(range(len(values)), values, width=0.5, color=ACCENT)
        for place, value in enumerate(values):
            note(axes, f"{100 * value:.1f} %", place, value)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(SHARES)
        axes.set_xticks(
            range(len(values)), [f"{count} level{'s' * (count > 1)}" for count in range(1, len(values) + 1)]
        )

    return draw("explained", "Explained variance by depth", 240, paint)


def code_use(facts: Facts) -> str:
    """Width, codes in use and perplexity of each level."""
    levels = facts.tokenized.quality.levels

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        place = range(len(levels))
        axes.bar(place, [level.width for level in levels], width=0.62, color="white", edgecolor=GREY, label="codes")
        axes.bar(place, [level.use * level.width for level in levels], width=0.62, color=FAINT, label="in use")
        axes.bar(place, [level.perplexity for level in levels], width=0.34, color=ACCENT, label="perplexity")
        for x, level in enumerate(levels):
            note(axes, f"{level.perplexity:.1f}", x, level.perplexity)
        axes.set_xticks(place, [f"level {x + 1}" for x in place])
        legend(figure)

    return draw("code-use", "Codes in use and perplexity by level", 240, paint)


def pareto(facts: Facts) -> str:
    """Quality against cost of all trials, the front, the choice."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        front = sorted((trial.cost, trial.auc) for trial in facts.trials if trial.on_front)
        chosen = next(trial for trial in facts.trials if trial.number == facts.swept.chosen)
        axes.grid(axis="x")
        costs, aucs = [trial.cost for trial in facts.trials], [trial.auc for trial in facts.trials]
        axes.plot(costs, aucs, "o", color=GREY, markersize=6.5, label="trial")
        axes.step(*zip(*front, strict=True), "o-", where="post", color=ACCENT, markersize=7.5, label="Pareto front")
        axes.plot(
            chosen.cost, chosen.auc, "o", mfc="none", mec=INK, ms=15, mew=1.8, label=f"chosen, trial {chosen.number}"
        )
        axes.margins(0.08, 0.12)
        axes.set_title("Validation AUC")
        axes.set_xlabel("Multiply-adds per candidate")
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.xaxis, axes.yaxis)
        legend(figure)

    return draw("pareto", "Validation AUC against multiply-adds per candidate", 300, paint)


def settings(facts: Facts) -> str:
    """Validation AUC of the trials by each setting; the mean of each value as a bar."""
    names = list(facts.trials[0].settings)

    def paint(figure: Figure) -> None:
        row = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(row, names, strict=True):
            values = sorted({trial.settings[name] for trial in facts.trials}, key=float)
            for place, value in enumerate(values):
                aucs = [trial.auc for trial in facts.trials if trial.settings[name] == value]
                axes.plot([place] * len(aucs), aucs, "o", color=GREY, markersize=5)
                axes.plot([place - 0.3, place + 0.3], [np.mean(aucs)] * 2, color=ACCENT, linewidth=2.4)
            axes.set_xticks(range(len(values)), values, fontsize=10)
            axes.set_xlim(-0.6, len(values) - 0.4)
            axes.set_xlabel(name)
            axes.tick_params(length=0)
        row[0].set_title("Validation AUC")
        ticks(row[0].yaxis)

    return draw("settings", "Validation AUC of the trials by setting", 300, paint)


def lines(facts: Facts) -> list[tuple[str, str, list[Point]]]:
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


def curves(facts: Facts, quantity: str) -> str:
    """Curves over training steps.

    Args:
        facts: All facts.
        quantity: Field of `Point`.
    """
    style = styles(facts)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for name, _, points in lines(facts):
            steps, values = [point.step for point in points], [getattr(point, quantity) for point in points]
            axes.plot(steps, values, **style[name], markersize=4, linewidth=1.3, alpha=0.85)
        axes.set_xlabel("Training steps")
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.xaxis, axes.yaxis)
        legend(figure)

    return draw(quantity.replace("_", "-"), f"{quantity.replace('_', ' ')} by training step", 280, paint)
