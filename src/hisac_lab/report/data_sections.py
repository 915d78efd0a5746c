"""Sections on what the models are trained from: data, semantic IDs, the sweep, the training runs."""

from __future__ import annotations

from hisac_lab.report import data_charts as charts
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
    table,
)
from hisac_lab.report.drawing import colours
from hisac_lab.report.facts import Facts, Split
from hisac_lab.report.words import day, fixed, moment, percent, whole


def data(facts: Facts) -> Section:
    """Profile of the log, the split, and what keeps the future out of the past."""
    prepared = facts.prepared
    counts = (
        ("users", prepared.users),
        ("items", prepared.items),
        ("events", prepared.events),
        ("events in histories", prepared.history_events),
        ("events out of time order, sorted", prepared.events_out_of_order),
        ("samples left out for lack of history", prepared.samples_without_history),
    )
    profile = prepared.profile
    deciles = profile.history_length_deciles
    months = table(
        "Events by month (UTC).",
        ("month", "events", "positives"),
        [
            (name, whole(month.events), "–" if month.positive_share is None else percent(month.positive_share, 2))
            for name, month in sorted(profile.months.items())
        ],
        ("month",),
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
                        "Events by month",
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


def tokens(facts: Facts) -> Section:
    """Quality of the semantic IDs, shape of the codebook, examples."""
    quality, book = facts.tokenized.quality, facts.book
    levels = [
        (
            str(place + 1),
            whole(level.width),
            percent(level.use),
            fixed(level.perplexity, 1),
            percent(level.explained_variance),
            whole(level.prefixes),
            whole(book.nodes[place]),
            fixed(book.mean_fan_out[place], 2),
        )
        for place, level in enumerate(quality.levels)
    ]
    columns = (
        "level",
        "codes",
        "in use",
        "perplexity",
        "explained variance",
        "prefixes",
        "nodes",
        "children per parent",
    )
    source = {
        "text": "the words of the items' texts (static word vectors)",
        "cooccurrence": "items that stand close in training histories",
    }
    missing = facts.embedded.items_without_embedding
    return Section(
        "tokens",
        "Semantic IDs",
        (
            Note(
                f"Items are embedded by {source.get(facts.embedded.method, facts.embedded.method)}, "
                f"{whole(facts.embedded.dim)} numbers each"
                + (f"; {whole(missing)} have no embedding and so no ID. " if missing else "; every item has one. ")
                + "Residual k-means turns an embedding into a code per level; the prefixes in use form the codebook."
            ),
            table("Levels of the IDs and of the codebook.", columns, levels, ()),
            Counts(
                (
                    ("distinct full IDs", whole(quality.ids)),
                    ("of items share their full ID", percent(quality.collision_rate)),
                    ("items on the most crowded ID", whole(quality.largest_bucket)),
                    ("of items are on that ID", percent(quality.max_bucket_share, 2)),
                    ("items without an ID", whole(book.items_without_id)),
                )
            ),
            Figures(
                (
                    Figure(
                        charts.explained(facts),
                        "Explained variance",
                        "Higher is closer: how much of the embeddings' variance is kept by the first levels of the ID.",
                    ),
                    Figure(
                        charts.code_use(facts),
                        "Use of the codes",
                        "Perplexity is the number of equally used codes that would be as even; near the width is good.",
                    ),
                )
            ),
            table(
                "The first-level nodes with most items, each with the titles nearest to its centre.",
                ("node", "items", "nearest titles"),
                [(str(group.node), whole(group.items), " · ".join(group.titles)) for group in facts.groups],
                ("nearest titles",),
            ),
        ),
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
        rows.append((str(trial.number), *settings, fixed(trial.auc), whole(trial.cost), mark))
    behind = swept.best_auc - swept.auc
    return Section(
        "sweep",
        "Sweep",
        (
            Note(
                f"{len(facts.trials)} short trainings of `{swept.model}`. The rule: {swept.rule}. It takes trial "
                f"{swept.chosen} with AUC {fixed(swept.auc)}"
                + (f" ({fixed(behind)} below the best)" if behind > 0 else " (the best of all)")
                + f", {whole(swept.cost)} multiply-adds per candidate and agents per level "
                f"{' × '.join(str(budget) for budget in swept.budgets)}. Trials see a share of the training period, "
                "so their AUC is not comparable with the sections below."
            ),
            Figures(
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
            ),
            table(
                "All trials.",
                ("trial", *names, "validation AUC", "multiply-adds per candidate", ""),
                rows,
                ("",),
            ),
        ),
    )


def training(facts: Facts) -> Section:
    """Curves and runs."""
    colour = colours(facts.scores.models)

    def model(name: str) -> Cell:
        return Cell(name, colour=colour[name])

    runs = table(
        "Training runs; the weights with the best validation AUC are kept.",
        ("model", "seed", "steps", "parameters", "best validation AUC"),
        [
            (model(run.name), str(run.seed), whole(run.steps), whole(run.parameters), fixed(run.valid_auc))
            for run in facts.runs
        ],
        ("model",),
    )
    points = table(
        "Validations of all runs.",
        ("model", "seed", "step", "train loss", "validation AUC", "validation log loss"),
        [
            (
                model(run.name),
                str(run.seed),
                whole(point.step),
                fixed(point.train_loss),
                fixed(point.valid_auc),
                fixed(point.valid_log_loss),
            )
            for run in facts.runs
            for point in run.curve
        ],
        ("model",),
    )
    blocks: tuple[Block, ...] = (
        Figures(
            (
                Figure(
                    charts.curves(facts, "train_loss"),
                    "Train loss",
                    "Mean log loss of the batches since the last validation; one line per seed.",
                ),
                Figure(
                    charts.curves(facts, "valid_auc"),
                    "Validation AUC",
                    "Higher is better; a falling end means overfitting. One line per seed.",
                ),
            ),
            (points,),
        ),
        runs,
    )
    return Section("training", "Training", blocks)
