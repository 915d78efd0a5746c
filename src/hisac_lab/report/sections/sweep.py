"""The section on the sweeps: trials, front, choice, what each dimension did."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hisac_lab.report.document import Block, Cell, Figure, Figures, Note, Row, Section, table
from hisac_lab.report.drawing import (
    ACCENT,
    GRAY,
    INK,
    PALETTE,
    SHARES,
    THOUSANDS,
    Sheet,
    cut,
    draw,
    hover,
    legend,
    note,
    ticks,
)
from hisac_lab.report.facts import Facts, Sweep
from hisac_lab.report.sections.ablation import ablation
from hisac_lab.report.sections.dimensions import explained, groups_of
from hisac_lab.report.words import fixed, integer, percent, signed
from hisac_lab.sweep.records import Trial

PANELS = 3
"""Dimensions side by side."""
MOST_SIGNS = 18
"""Letters below a panel that stand without being turned."""


def sweep(facts: Facts) -> Section:
    """Of each swept model its trials, front and choice."""
    blocks: list[Block] = []
    if len(facts.sweeps) > 1:
        names = ", ".join(f"`{one.swept.model}`" for one in facts.sweeps)
        blocks.append(
            Note(f"Each of {names} had the same budget of trials and steps, chosen in the validation period.")
        )
    for one in facts.sweeps:
        blocks += _of(one)
    return Section("sweep", "Sweep", tuple(blocks))


def _of(sweep: Sweep) -> list[Block]:
    """What is said of one model."""
    done = [trial for trial in sweep.trials if trial.state == "complete"]
    figures = [_quality_and_cost(sweep, done)]
    if any("agents" in trial.settings for trial in done):
        figures.append(_by_agents(sweep, done))
    figures.append(_by_setting(sweep, done))
    if importance := explained(done):
        figures.append(_importance(sweep, importance))
    figures.append(_history(sweep))
    shown = [Figures(tuple(figures))] if len(done) > 1 else []
    return [Note(_said(sweep)), *shown, *ablation(sweep), _table(sweep)]


def _said(sweep: Sweep) -> str:
    """The choice in words."""
    swept, trials = sweep.swept, sweep.trials
    difference = (
        "the best of all"
        if swept.chosen == swept.best
        else f"{signed(swept.auc - swept.best_auc)} to trial {swept.best}, the best, with a standard error of "
        f"{fixed(swept.standard_error)}"
    )
    others = ", ".join(f"{count} {state}" for state, count in sorted(swept.states.items()) if state != "complete")
    budgets = f" and agents per level {' × '.join(map(str, swept.budgets))}" if swept.budgets else ""
    said = [
        f"{len(trials)} short training{'s' * (len(trials) > 1)} of `{swept.model}`"
        + (f", {others}" if others else "")
        + f". The rule: {swept.rule}. It takes trial {swept.chosen} with AUC {fixed(swept.auc)} ({difference}), "
        f"{integer(swept.request_macs)} multiply-adds a request, {integer(swept.state_bytes)} bytes of state{budgets}."
    ]
    if swept.states.get("complete", 0) > 1:
        said.append(f"{_told_apart(sweep)}.")
    if swept.exhausted:
        said.append("The search space has no other points.")
    if swept.epochs_saved:
        said.append(f"Pruning saved {swept.epochs_saved} epochs.")
    if sweep.best.tokenize:
        advised = "; ".join(f"`tokenize.{key}`: {value}" for key, value in sweep.best.tokenize.items())
        trained = "its own settings" if swept.trained is None else f"those of trial {swept.trained}"
        said.append(
            f"That is another codebook than the graph's: until it is set ({advised}), training takes {trained}."
        )
    if not swept.repeatable:
        said.append(
            "Machines shared the study, so a repetition may try other points: this is not repeatable to the byte."
        )
    said.append("Trials see a share of the training period, so their AUC is not comparable with the sections below.")
    return " ".join(said)


def _told_apart(sweep: Sweep) -> str:
    """How many trials users can tell from the best, which is not counted itself."""
    near = len(set(sweep.swept.near) - {sweep.swept.best})
    others = sweep.swept.states.get("complete", 0) - 1
    if near == others:
        return "As far as users can tell, there is nothing to choose between but the cost"
    if near == 0:
        return "Users can tell the best trial from every other"
    return f"Of the {others} other trials {near} cannot be told from the best"


def _table(sweep: Sweep) -> Block:
    swept, rows = sweep.swept, list[Row]()
    names = list(dict.fromkeys(name for trial in sweep.trials for name in trial.settings))
    for trial in sweep.trials:
        error = "–" if trial.number == swept.best else _or_dash(trial.standard_error)
        cells = [trial.settings.get(name, "–") for name in names]
        costs = ["–" if value is None else integer(value) for value in (trial.request_macs, trial.state_bytes)]
        scores = (_score(trial), error, str(trial.seeds))
        rows.append((str(trial.number), *cells, *scores, *costs, _mark(trial, swept.chosen)))
    return table(
        f"All trials of {swept.model}; ± is an AUC's standard error over users and seeds, the column beside it that "
        "of its difference to the best.",
        (
            "trial",
            *names,
            "validation AUC",
            "standard error",
            "seeds",
            "multiply-adds per request",
            "bytes of state",
            "what became of it",
        ),
        rows,
        ("what became of it",),
    )


def _mark(trial: Trial, chosen: int) -> Cell | str:
    told = "; ".join(text for text in ("fixed" * trial.fixed, trial.cut, trial.reason) if text)
    if trial.number == chosen:
        return Cell("chosen", told, badge="good")
    if trial.state != "complete":
        return Cell({"pruned": "pruned", "over": "over a gate", "failed": "failed"}[trial.state], told, badge="bad")
    return Cell("on the front", told, badge="mid") if trial.on_front else told


def _score(trial: Trial) -> Cell:
    """The AUC with its own standard error, over users and seeds."""
    return Cell(_or_dash(trial.auc), "" if trial.error is None else f"± {fixed(trial.error)}")


def _or_dash(value: float | None) -> str:
    return "–" if value is None else fixed(value)


def _figure(
    sweep: Sweep, name: str, title: str, said: tuple[str, str], paint: Callable[[Sheet], None], height: int = 300
) -> Figure:
    """A chart of one sweep; `said` is what is to be seen in it and how to read it."""
    key = f"sweep_{sweep.place}_{name}"
    svg = draw(key.replace("_", "-"), f"{title}: {sweep.swept.model}", height, paint)
    return Figure(key, svg, title, *said)


def _quality_and_cost(sweep: Sweep, done: list[Trial]) -> Figure:
    """Quality against cost of all trials, the front, fixed points, the choice."""
    aucs, costs = [trial.auc or 0.0 for trial in done], [trial.request_macs or 0 for trial in done]

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        cut(axes)
        front = sorted((trial.request_macs or 0, trial.auc or 0.0) for trial in done if trial.on_front)
        chosen = next(trial for trial in done if trial.number == sweep.swept.chosen)
        axes.grid(axis="x")
        for trial, cost, auc in zip(done, costs, aucs, strict=True):
            label = "trial, ± error to the best" if trial is done[0] else None
            marks = axes.errorbar(
                cost, auc, trial.standard_error or 0.0, fmt="o", color=GRAY, markersize=6, elinewidth=0.8, label=label
            )
            hover(marks.get_children(), _hovered(trial))
        axes.step(*zip(*front, strict=True), where="post", color=ACCENT, zorder=3)
        for place, trial in enumerate(trial for trial in done if trial.on_front):
            label = "Pareto front" if place == 0 else None
            dot = axes.plot(
                trial.request_macs or 0, trial.auc or 0.0, "o", color=ACCENT, markersize=7.5, label=label, zorder=3
            )
            hover(dot, _hovered(trial))
        if fixed_ones := [(cost, auc) for cost, auc, trial in zip(costs, aucs, done, strict=True) if trial.fixed]:
            axes.plot(*zip(*fixed_ones, strict=True), "D", color=PALETTE[1], markersize=8, label="fixed")
        label = f"chosen, trial {chosen.number}"
        axes.plot(chosen.request_macs or 0, chosen.auc or 0.0, "o", mfc="none", mec=INK, ms=15, mew=1.8, label=label)
        axes.margins(0.08, 0.12)
        axes.set_xlim(left=0)
        axes.set_title("Validation AUC")
        axes.set_xlabel("Multiply-adds of a request")
        axes.xaxis.set_major_formatter(THOUSANDS)
        ticks(axes.xaxis, axes.yaxis, most=4)
        legend(sheet)

    factor = fixed(max(costs) / max(1, min(costs)), 1)
    said = (
        f"{_told_apart(sweep)}. Costs differ by a factor of {factor}, AUCs by {fixed(max(aucs) - min(aucs))}.",
        "The axis of the AUC is cut: it does not begin at 0. Errors are those of the difference to the best, on the "
        "same users. The front is that of the first seed, AUCs rounded to 3 decimals; a finalist stands at the mean of "
        "its seeds, so that another may stand above it.",
    )
    return _figure(sweep, "quality_and_cost", "Quality and cost of the trials", said, paint)


def _by_agents(sweep: Sweep, done: list[Trial]) -> Figure:
    """Validation AUC by agents, a line for each depth; the band is one standard error of the difference to the best."""
    series: dict[str, list[Trial]] = {}
    for trial in done:
        if "agents" in trial.settings:
            series.setdefault(trial.settings.get("depth", ""), []).append(trial)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        for place, depth in enumerate(sorted(series)):
            agents, aucs, errors = _means(series[depth])
            color = PALETTE[place % len(PALETTE)]
            axes.fill_between(agents, np.subtract(aucs, errors), np.add(aucs, errors), color=color, alpha=0.15, lw=0)
            axes.plot(agents, aucs, "o-", color=color, label=f"depth {depth}" if depth else "one depth")
        cut(axes)
        axes.set_title("Validation AUC")
        axes.set_xlabel("Agents asked for")
        ticks(axes.xaxis, whole=True)
        ticks(axes.yaxis)
        legend(sheet)

    band = (
        "The axis is cut. Means of trials with so many agents; bands are one standard error of the difference to the "
        "best trial, on the same users (and seeds)."
    )
    return _figure(sweep, "quality_by_agents", "Quality by agents", (_knee(sweep, done), band), paint)


def _means(trials: list[Trial]) -> tuple[list[float], list[float], list[float]]:
    """Mean AUC, and error of the difference to the best trial, for each number of agents."""
    groups: dict[float, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(float(trial.settings["agents"]), []).append(trial)
    agents = sorted(groups)
    aucs = [float(np.mean([trial.auc or 0.0 for trial in groups[number]])) for number in agents]
    return (
        agents,
        aucs,
        [float(np.mean([trial.standard_error or 0.0 for trial in groups[number]])) for number in agents],
    )


def _hovered(trial: Trial) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    return (
        f"trial {trial.number}: AUC {_or_dash(trial.auc)}, {integer(trial.request_macs or 0)} multiply-adds; {settings}"
    )


def _knee(sweep: Sweep, done: list[Trial]) -> str:
    """The fewest agents that users cannot tell from the best, and what fewer lose."""
    tried = [trial for trial in done if "agents" in trial.settings]
    best = next(trial for trial in done if trial.number == sweep.swept.best)
    near = [trial for trial in tried if trial.number in {*sweep.swept.near, best.number}]
    if not near or len({_agents_of(trial) for trial in tried}) == 1:
        return "All trials have as many agents, or none, so nothing is to be seen of their number."
    knee, fewest = min(map(_agents_of, near)), min(map(_agents_of, tried))
    if knee == fewest:
        return f"Already the fewest, {_counted(knee)}, cannot be told from the best."
    under = max((trial for trial in tried if _agents_of(trial) < knee), key=lambda trial: trial.auc or 0.0)
    lost, error = fixed((best.auc or 0.0) - (under.auc or 0.0)), _or_dash(under.standard_error)
    has = f", which has {integer(_agents_of(best))}" if best in tried else ""
    return (
        f"{_counted(knee)} are the fewest that users cannot tell from the best{has}; the best with fewer, "
        f"{integer(_agents_of(under))}, loses {lost}, with a standard error of {error}."
    )


def _agents_of(trial: Trial) -> int:
    return int(float(trial.settings["agents"]))


def _counted(agents: int) -> str:
    return f"{integer(agents)} agent{'s' * (agents > 1)}"


def _by_setting(sweep: Sweep, done: list[Trial]) -> Figure:
    """Validation AUC of the trials by each setting; the mean of each value as a bar."""
    names = [name for name in groups_of(done) if len(groups_of(done)[name]) > 1] or list(groups_of(done))[:1]

    rows = -(-len(names) // PANELS)

    def paint(sheet: Sheet) -> None:
        panels = sheet.subplots(rows, min(PANELS, len(names)), sharey=True, squeeze=False).flat
        for name, axes in zip(names, panels, strict=False):
            groups = groups_of(done)[name]
            for place, aucs in enumerate(groups.values()):
                axes.plot([place] * len(aucs), aucs, "o", color=GRAY, markersize=5)
                axes.plot([place - 0.3, place + 0.3], [np.mean(aucs)] * 2, color=ACCENT, linewidth=2.4)
            cut(axes)
            turned = sum(map(len, groups)) > MOST_SIGNS
            axes.set_xticks(range(len(groups)), list(groups), fontsize=9, rotation=90 if turned else 0)
            axes.set_xlim(-0.6, len(groups) - 0.4)
            axes.set_xlabel(name)
            axes.tick_params(length=0)
            ticks(axes.yaxis, most=4)
        for axes in list(panels):
            axes.set_axis_off()
        sheet.axes[0].set_title("Validation AUC")

    spans = {name: np.ptp([np.mean(aucs) for aucs in groups_of(done)[name].values()]) for name in names}
    widest = max(sorted(spans), key=lambda name: round(float(spans[name]), 6))
    said = (
        f"The means of `{widest}` differ most, by {fixed(float(spans[widest]))}.",
        "The axis is cut. Each trial is a dot in every panel, the bar is the mean of a value; few trials prove little.",
    )
    return _figure(sweep, "quality_by_setting", "Quality by setting", said, paint, 100 + 200 * rows)


def _importance(sweep: Sweep, shares: dict[str, float]) -> Figure:
    """Which dimension explains the differences."""
    names = sorted(shares, key=lambda name: (shares[name], name))

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.barh(range(len(names)), [shares[name] for name in names], height=0.5, color=ACCENT)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(0, 1)
        axes.grid(axis="x")
        axes.xaxis.set_major_formatter(SHARES)

    top = names[-1]
    said = (
        f"Of all settings `{top}` explains most of the differences in AUC: {percent(shares[top])}."
        if shares[top] > 0
        else "No setting explains more of the differences in AUC than chance would."
    )
    return _figure(
        sweep,
        "importance",
        "What explains the differences",
        (said, "Each dimension alone, corrected for its number of values."),
        paint,
    )


def _history(sweep: Sweep) -> Figure:
    """AUC in the order of the trials, the best so far, and those that did not end well."""
    with_auc = [trial for trial in sweep.trials if trial.auc is not None and trial.state == "complete"]

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        numbers, aucs = [trial.number for trial in with_auc], [trial.auc or 0.0 for trial in with_auc]
        axes.plot(numbers, aucs, "o", color=GRAY, markersize=6, label="trial")
        axes.step(numbers, np.maximum.accumulate(aucs), where="post", color=ACCENT, label="best so far")
        for state, mark, color in (("pruned", "x", PALETTE[0]), ("over", "|", PALETTE[4]), ("failed", "x", PALETTE[1])):
            ended = [trial for trial in sweep.trials if trial.state == state]
            heights = [min(aucs) if trial.auc is None else trial.auc for trial in ended]
            if ended:
                axes.plot([trial.number for trial in ended], heights, mark, color=color, markersize=8, label=state)
        for trial in (trial for trial in with_auc if trial.number == sweep.swept.chosen):
            note(axes, "chosen", trial.number, trial.auc or 0.0, above=7)
        cut(axes)
        axes.margins(0.08, 0.16)
        axes.set_title("Validation AUC")
        axes.set_xlabel("Trial")
        ticks(axes.xaxis, whole=True)
        ticks(axes.yaxis)
        legend(sheet)

    first = max(with_auc, key=lambda trial: (round(trial.auc or 0.0, 3), -trial.number)).number
    ended = len(sweep.trials) - len(with_auc)
    told = f"{ended} did not run to the end" if ended else "all ran to the end"
    said = (
        f"No trial after number {first} was better by a third decimal; {told}.",
        "The axis is cut. The line is the best AUC so far.",
    )
    return _figure(sweep, "history", "Trials in turn", said, paint)
