"""The section on the sweep: trials, front, choice."""

from __future__ import annotations

import numpy as np

from hisac_lab.report.document import Cell, Figure, Figures, Note, Row, Section, table
from hisac_lab.report.drawing import ACCENT, GRAY, INK, THOUSANDS, Sheet, draw, legend, ticks
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, integer, signed


def sweep(facts: Facts) -> Section:
    """Trials, front, choice."""
    swept = facts.swept
    names = list(facts.trials[0].settings)
    rows: list[Row] = []
    for trial in facts.trials:
        chosen = trial.number == swept.chosen
        mark = Cell("chosen", badge="good") if chosen else Cell("on the front", badge="mid") if trial.on_front else ""
        settings = [trial.settings[name] for name in names]
        error = "–" if trial.number == swept.best else fixed(trial.standard_error)
        rows.append((str(trial.number), *settings, fixed(trial.auc), error, integer(trial.cost), mark))
    difference = (
        "the best of all"
        if swept.chosen == swept.best
        else f"{signed(swept.auc - swept.best_auc)} to trial {swept.best}, the best, with a standard error of "
        f"{fixed(swept.standard_error)}"
    )
    return Section(
        "sweep",
        "Sweep",
        (
            Note(
                f"{len(facts.trials)} short training{'s' * (len(facts.trials) > 1)} of `{swept.model}`. The rule: "
                f"{swept.rule}. It takes trial "
                f"{swept.chosen} with AUC {fixed(swept.auc)} ({difference}), "
                f"{integer(swept.cost)} multiply-adds per candidate and agents per level "
                f"{' × '.join(str(budget) for budget in swept.budgets)}. Trials see a share of the training period, "
                "so their AUC is not comparable with the sections below."
            ),
            *([Figures((_quality_and_cost(facts), _by_setting(facts)))] if len(facts.trials) > 1 else []),
            table(
                "All trials; the standard error is that of the difference in AUC to the best.",
                ("trial", *names, "validation AUC", "standard error", "multiply-adds per candidate", ""),
                rows,
                ("",),
            ),
        ),
    )


def _quality_and_cost(facts: Facts) -> Figure:
    """Quality against cost of all trials, the front, the choice."""

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        front = sorted((trial.cost, trial.auc) for trial in facts.trials if trial.on_front)
        chosen = next(trial for trial in facts.trials if trial.number == facts.swept.chosen)
        axes.grid(axis="x")
        costs, aucs = [trial.cost for trial in facts.trials], [trial.auc for trial in facts.trials]
        axes.plot(costs, aucs, "o", color=GRAY, markersize=6.5, label="trial")
        axes.step(*zip(*front, strict=True), "o-", where="post", color=ACCENT, markersize=7.5, label="Pareto front")
        axes.plot(
            chosen.cost, chosen.auc, "o", mfc="none", mec=INK, ms=15, mew=1.8, label=f"chosen, trial {chosen.number}"
        )
        axes.margins(0.08, 0.12)
        axes.set_title("Validation AUC")
        axes.set_xlabel("Multiply-adds per candidate")
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.xaxis, axes.yaxis)
        legend(sheet)

    svg = draw("pareto", "Validation AUC against multiply-adds per candidate", 300, paint)
    return Figure(
        "quality_and_cost_of_the_trials",
        svg,
        "Quality and cost of the trials",
        "Up is better, left is cheaper; no trial is both better and cheaper than one on the line.",
    )


def _by_setting(facts: Facts) -> Figure:
    """Validation AUC of the trials by each setting; the mean of each value as a bar."""
    names = list(facts.trials[0].settings)

    def paint(sheet: Sheet) -> None:
        row = sheet.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(row, names, strict=True):
            values = sorted({trial.settings[name] for trial in facts.trials}, key=float)
            for place, value in enumerate(values):
                aucs = [trial.auc for trial in facts.trials if trial.settings[name] == value]
                axes.plot([place] * len(aucs), aucs, "o", color=GRAY, markersize=5)
                axes.plot([place - 0.3, place + 0.3], [np.mean(aucs)] * 2, color=ACCENT, linewidth=2.4)
            axes.set_xticks(range(len(values)), values, fontsize=10)
            axes.set_xlim(-0.6, len(values) - 0.4)
            axes.set_xlabel(name)
            axes.tick_params(length=0)
        row[0].set_title("Validation AUC")
        ticks(row[0].yaxis)

    svg = draw("settings", "Validation AUC of the trials by setting", 300, paint)
    return Figure(
        "quality_by_setting",
        svg,
        "Quality by setting",
        "Each trial is a dot in every panel, the bar is the mean of a value; few trials prove little.",
    )
