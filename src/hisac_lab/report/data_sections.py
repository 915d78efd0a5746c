"""Sections on what the models are trained from: data, the sweep, the training runs."""

from __future__ import annotations

from hisac_lab.events.records import Leaks, Split
from hisac_lab.report import data_charts as charts
from hisac_lab.report.data_charts import by_period
from hisac_lab.report.document import (
    Block,
    Cell,
    Counts,
    Figure,
    Figures,
    Note,
    Points,
    Row,
    Section,
    Table,
    table,
)
from hisac_lab.report.drawing import colours
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import day, fixed, moment, percent, signed, whole


def data(facts: Facts) -> Section:
    """Profile of the log, the split, and what keeps the future out of the past."""
    prepared = facts.prepared
    counts = (
        ("users", prepared.users),
        ("items", prepared.items),
        ("events", prepared.events),
        ("events in histories", prepared.history_events),
        ("events out of time order, sorted", prepared.events_out_of_order),
        ("events outside the bounds, left out", prepared.events_outside),
        ("repeated events, left out", prepared.events_repeated),
        ("samples left out for lack of history", prepared.samples_without_history),
        ("samples not drawn by prepare.keep", prepared.samples_not_kept),
    )
    profile = prepared.profile
    deciles = profile.history_length_deciles
    span, periods = by_period(facts)
    months = table(
        f"Events by {span} (UTC).",
        (span, "events", "positives"),
        [
            (name, whole(month.events), "–" if month.positive_share is None else percent(month.positive_share, 2))
            for name, month in periods
        ],
        (span,),
    )
    lengths = table(
        "Quantiles of the length of a user's whole history.",
        ("share of users", "events at most"),
        [(f"{100 * at // (len(deciles) - 1)} %", whole(length)) for at, length in enumerate(deciles)],
        (),
    )
    return Section(
        "data",
        "Data",
        (
            Counts(tuple((name, whole(count)) for name, count in counts)),
            table(
                "The periods. Histories are those of the samples, in events, cut at "
                f"{whole(prepared.history_limit)}; p10 to p99 are quantiles.",
                (
                    "period",
                    "first day (UTC)",
                    "last day (UTC)",
                    "samples",
                    "requests",
                    "users",
                    "positives",
                    "history p10",
                    "p50",
                    "p90",
                    "p99",
                ),
                [_period(name, prepared.splits[name]) for name in ("train", "valid", "test")],
                ("period", "first day (UTC)", "last day (UTC)"),
            ),
            Figures(
                (
                    Figure(
                        charts.months(facts),
                        f"Events by {span}",
                        "Bars count events; the line is the share of them that are positive.",
                    ),
                    Figure(
                        charts.deciles(facts),
                        "History length",
                        "Read upwards from a share of users: that share has at most so many events in history.",
                    ),
                ),
                (months, lengths),
            ),
            Points(
                (
                    (
                        "New in the test period",
                        f"{percent(profile.test_share_of_new_users)} of the test samples are from users, and "
                        f"{percent(profile.test_share_of_new_items)} show items, that no training sample has.",
                    ),
                    (
                        "Age of items",
                        "Half of the test samples show an item first seen "
                        f"{whole(profile.item_age_days['p50'])} days before or less, a tenth "
                        f"{whole(profile.item_age_days['p10'])} days or less.",
                    ),
                    (
                        "Long histories",
                        f"One user in a hundred has more than {whole(profile.history_length_p99)} events in history.",
                    ),
                    ("Leak checks", _leak_check(prepared.leaks)),
                    ("History", _history_rule(prepared.time_unit)),
                    ("Split", _split_rule(prepared.splits)),
                )
            ),
        ),
    )


def _period(name: str, split: Split) -> tuple[str, ...]:
    quantiles = (split.history_p10, split.history_p50, split.history_p90, split.history_p99)
    return (
        name,
        day(split.first),
        day(split.last),
        whole(split.samples),
        whole(split.requests),
        whole(split.users),
        percent(split.positive_share),
        *(whole(value) for value in quantiles),
    )


def _leak_check(leaks: Leaks) -> str:
    return (
        f"The histories of all {whole(leaks.samples_checked)} samples were compared with the store: "
        f"{whole(leaks.history_of_another_user)} hold another user's events, {whole(leaks.history_after_the_request)} "
        f"reach into their request, {whole(leaks.history_left_out)} end before they should."
    )


def _history_rule(unit: str) -> str:
    return (
        f"A history ends strictly before its request's {unit} (`prepare.time_unit`): events of the same {unit} never "
        "see each other."
    )


def _split_rule(splits: dict[str, Split]) -> str:
    train, valid, test = (splits[name] for name in ("train", "valid", "test"))
    holds = train.last < valid.first and valid.last < test.first
    return (
        f"Global in time: training ends {moment(train.last)}, validation runs from {moment(valid.first)} to "
        f"{moment(valid.last)}, the test begins {moment(test.first)}. "
        + ("No two periods overlap." if holds else "WARNING: two periods overlap; numbers below are not to be trusted.")
    )


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
        rows.append((str(trial.number), *settings, fixed(trial.auc), error, whole(trial.cost), mark))
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
                f"{whole(swept.cost)} multiply-adds per candidate and agents per level "
                f"{' × '.join(str(budget) for budget in swept.budgets)}. Trials see a share of the training period, "
                "so their AUC is not comparable with the sections below."
            ),
            *([_trials(facts)] if len(facts.trials) > 1 else []),
            table(
                "All trials; the standard error is that of the difference in AUC to the best.",
                ("trial", *names, "validation AUC", "standard error", "multiply-adds per candidate", ""),
                rows,
                ("",),
            ),
        ),
    )


def _trials(facts: Facts) -> Figures:
    return Figures(
        (
            Figure(
                charts.pareto(facts),
                "Quality and cost of the trials",
                "Up is better, left is cheaper; no trial is both better and cheaper than one on the line.",
            ),
            Figure(
                charts.settings(facts),
                "Quality by setting",
                "Each trial is a dot in every panel, the bar is the mean of a value; few trials prove little.",
            ),
        )
    )


def training(facts: Facts) -> Section:
    """Curves and runs."""
    colour = colours(facts)
    lines = charts.lines(facts)
    averaged = len(lines) < len(facts.runs)

    def model(name: str) -> Cell:
        return Cell(name, colour=colour[name])

    validations = table(
        "Validations, means over the seeds of a model." if averaged else "Validations of all runs.",
        ("model", "seed", "step", "train loss", "validation AUC", "validation log loss"),
        [
            (
                model(name),
                seed,
                whole(point.step),
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
                    charts.curves(facts, "train_loss"),
                    "Train loss",
                    f"Mean log loss of the batches since the last validation; {each[0].lower()}{each[1:]}",
                ),
                Figure(
                    charts.curves(facts, "valid_auc"),
                    "Validation AUC",
                    f"Higher is better; a falling end means overfitting. {each}",
                ),
            ),
            (validations,),
        ),
        _runs(facts),
    )
    return Section("training", "Training", blocks)


def _runs(facts: Facts) -> Table:
    colour = colours(facts)
    rows: list[Row] = []
    for name in facts.ranking:
        runs = [run for run in facts.runs if run.name == name]
        steps = sorted({run.steps for run in runs})
        rows.append(
            (
                Cell(name, colour=colour[name]),
                " to ".join(whole(count) for count in dict.fromkeys((steps[0], steps[-1]))),
                whole(runs[0].parameters),
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
