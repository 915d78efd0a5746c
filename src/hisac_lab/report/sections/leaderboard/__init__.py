"""The leaderboard: every model on the same test samples, with intervals, slices, calibration and cost."""

from __future__ import annotations

from hisac_lab.evaluation.records import SLATE, Metric
from hisac_lab.report.document import Block, Cell, Figures, Fold, Note, Row, Section, Table, table
from hisac_lab.report.drawing import colors
from hisac_lab.report.facts import Facts
from hisac_lab.report.sections.leaderboard import bins, charts, controls, front, shuffles, tasks
from hisac_lab.report.words import (
    between,
    confidence,
    first_number,
    fixed,
    integer,
    is_sure,
    metric_names,
    percent,
    signed,
)

LOWER_IS_BETTER = {"log_loss"}
MOST_COLUMNS = 6
LENGTH, POPULARITY = "history length", "item popularity"
ORACLES = {
    "probability_anywhere": "true probability: the oracle",
    "probability_recent_anywhere": "the same for who sees the last 50 clicks only: their oracle",
    "probability": "true probability, told the position in the slate",
}


def leaderboard(facts: Facts) -> Section:
    """Metrics with intervals, differences, popularity of items, calibration."""
    level = confidence(facts.evaluated.confidence)
    drawn = "users and seeds" if facts.evaluated.seeds_drawn else "users"
    blocks: list[Block] = [
        Note(
            f"{integer(facts.evaluated.test_samples)} test samples of {integer(facts.evaluated.test_users)} users; "
            f"{facts.evaluated.negatives}. Values are means over seeds; brackets are {level} intervals from a "
            f"bootstrap over {drawn}. ↑ higher is better, ↓ lower is better."
        ),
        *(Note(warning, kind="callout") for warning in (*controls.warnings(facts), *shuffles.warnings(facts))),
        _values(facts),
        *([Note(said)] if (said := _left_out(facts)) else []),
        *([_gaps(facts)] if len(facts.ranking) > 1 else []),
        *([_pairs(facts), *bins.overall(facts)] if len(facts.ranking) > 2 else []),
        *tasks.tables(facts),
        *shuffles.tables(facts),
        *([_oracles(facts)] if facts.scores.oracles else []),
        Figures(charts.forests(facts)),
        _seeds(facts),
        *sliced(facts, POPULARITY),
        Figures((charts.calibration(facts),), (_calibrations(facts),)),
    ]
    return Section("leaderboard", "Leaderboard", tuple(blocks))


def history(facts: Facts) -> Section:
    """What a longer true history is worth: paired differences by its length."""
    p99 = facts.prepared.splits["test"].history_p99
    said = (
        "The question of this laboratory: who gains where histories are long? Here one test sample in a hundred has "
        "more "
        f"than {integer(p99)} events before it. Differences are paired: the same users, the same samples."
    )
    return Section("history", "History length", (Note(said), *sliced(facts, LENGTH)))


def sliced(facts: Facts, kind: str) -> list[Block]:
    """Chart and tables of one kind of slice; nothing where the run has none of it."""
    if kind not in facts.scores.slices:
        return []
    return [
        Figures((charts.sliced(facts, kind, f"slices-{kind.split(maxsplit=1)[0]}"),)),
        *bins.tables(facts, kind),
        Fold(f"AUC by {kind}, each model alone", (_slices(facts, kind),)),
    ]


def cost(facts: Facts) -> Section:
    """Quality against what a model costs: state of a user, multiply-adds of a request."""
    return Section(
        "cost",
        "Cost",
        (
            Figures((charts.quality_and_state(facts), charts.quality_and_cost(facts))),
            front.table_of(facts),
            _costs(facts),
            *_agents(facts),
            Note(
                "Measured times differ between machines, so they are in `logs/timings.json`, MLflow and `hisac-lab "
                "report`."
            ),
        ),
    )


def _model(facts: Facts, name: str) -> Cell:
    return Cell(name, color=colors(facts)[name])


def _metrics(facts: Facts, model: str) -> list[Metric | None]:
    return [facts.scores.models[model].metrics[key] for key in metric_names(facts)]


def _left_out(facts: Facts) -> str:
    """Which metrics leave out which users, and which are undefined."""
    scores, users, names = facts.scores, facts.evaluated.test_users, metric_names(facts)
    means: dict[int, list[str]] = {}
    for key, count in scores.users.items():
        if key in names and 0 < count < users:
            means.setdefault(count, []).append(names[key])
    counted = ", ".join(f"{integer(count)} in {' and '.join(alike)}" for count, alike in means.items())
    who = "users with a positive and a negative, for recall also with more exposures than k"
    said = [f"Means over users count {who}: of {integer(users)} test users {counted}."] if means else []
    said += [f"{names.get(key, f'AUC of {key}')} is undefined: {reason}." for key, reason in scores.undefined.items()]
    return " ".join(said)


def _value(metric: Metric | None) -> Cell:
    """A value with its interval; a dash where it is undefined."""
    return Cell("–") if metric is None else Cell(fixed(metric.value), between(metric.interval))


def _heads(facts: Facts) -> list[str]:
    return [f"{name} {'↓' if key in LOWER_IS_BETTER else '↑'}" for key, name in metric_names(facts).items()]


def _values(facts: Facts) -> Table:
    rows: list[Row] = []
    for name in facts.ranking:
        cells = map(_value, _metrics(facts, name))
        rows.append((_model(facts, name), *cells, fixed(facts.scores.models[name].served.calibration.error)))
    return table(
        "Test metrics; the calibration error is that of the seed with the best validation AUC.",
        ("model", *_heads(facts), "calibration error ↓"),
        rows,
        ("model",),
        "board",
    )


def _gaps(facts: Facts) -> Table:
    reference = facts.evaluated.reference
    others = [name for name in facts.ranking if name != reference]
    corrected = {name: fixed(facts.gaps.get((name, reference), (0.0, 1.0))[1]) for name in others}
    rows: list[Row] = [(_model(facts, name), *map(bins.gap, _metrics(facts, name)), corrected[name]) for name in others]
    return table(
        f"Paired difference to the reference `{reference}` on the same resampled users; bold where the interval "
        "excludes zero. The p-value is that of AUC after Holm's correction over all pairs of models.",
        ("model", *_heads(facts), "p of AUC"),
        rows,
        ("model",),
    )


def _pairs(facts: Facts) -> Table:
    level = 1 - facts.evaluated.confidence
    by_pair = facts.gaps
    rows: list[Row] = []
    for model in facts.ranking:
        cells = [
            Cell(signed(by_pair[model, other][0]), strong=is_sure(*by_pair[model, other], level))
            if (model, other) in by_pair
            else ""
            for other in facts.ranking
        ]
        rows.append((_model(facts, model), *cells))
    return table(
        f"Row less column in AUC, on the same resampled users; bold where p is below {fixed(level, 2)} after Holm's "
        "correction over all pairs.",
        ("model", *facts.ranking),
        rows,
        ("model",),
    )


def _oracles(facts: Facts) -> Table:
    """AUCs of the known truth, and the share of the way from a coin to it that each model goes."""
    oracles = facts.scores.oracles
    rows: list[Row] = [
        (ORACLES[key], Cell(fixed(top.value), between(top.interval)), "") for key, top in oracles.items()
    ]
    top = oracles["probability_anywhere"].value
    for name in facts.ranking:
        auc = facts.scores.models[name].auc
        share = percent((auc.value - 0.5) / (top - 0.5))
        rows.append((_model(facts, name), Cell(fixed(auc.value), between(auc.interval)), share))
    return table(
        "The data set is simulated, so the truth is known: no model can be expected above its oracle.",
        ("who scores", "AUC ↑", "share of the oracle ↑"),
        rows,
        ("who scores",),
    )


def _seeds(facts: Facts) -> Table:
    rows: list[Row] = []
    for name in facts.ranking:
        model = facts.scores.models[name]
        spreads = ["–" if metric is None else fixed(metric.seed_spread) for metric in _metrics(facts, name)]
        aucs = [f"{seed}: {fixed(model.seeds[seed].auc)}" for seed in sorted(model.seeds)]
        rows.append((_model(facts, name), *spreads, ", ".join(aucs), str(model.best_seed)))
    return table(
        "Spread over seeds (standard deviation), AUC of each seed, and the seed with the best validation AUC.",
        ("model", *metric_names(facts).values(), "AUC by seed", "best seed"),
        rows,
        ("model",),
    )


def _slices(facts: Facts, kind: str) -> Table:
    """A row per bin, or per model where models are many."""
    samples = facts.scores.slices[kind]
    labels = sorted(samples, key=first_number)
    aucs = {
        model: [_value(scores.slices[kind][label]) for label in labels] for model, scores in facts.scores.models.items()
    }
    unit = bins.UNITS.get(kind, kind)
    rows: list[Row]
    if len(aucs) <= MOST_COLUMNS:
        cells = zip(*(aucs[model] for model in facts.ranking), strict=True)
        rows = [(name, integer(samples[name]), *row) for name, row in zip(labels, cells, strict=True)]
        return table(f"AUC by {kind}.", (unit, "samples", *facts.ranking), rows, (unit,))
    rows = [("samples", *(integer(samples[name]) for name in labels))]
    rows += [(_model(facts, model), *aucs[model]) for model in facts.ranking]
    return table(f"AUC by {kind}: a column for each bin of {unit}.", ("model", *labels), rows, ("model",))


def _calibrations(facts: Facts) -> Table:
    curves = {name: facts.scores.models[name].served.calibration.curve for name in facts.ranking}
    rows: list[Row] = []
    for place in range(max(len(curve) for curve in curves.values())):
        pairs = [
            f"{fixed(curve[place].predicted, 3)} → {fixed(curve[place].observed, 3)}" if place < len(curve) else ""
            for curve in curves.values()
        ]
        rows.append((str(place + 1), *pairs))
    return table("Calibration of the best seed: mean predicted → observed.", ("bin", *curves), rows, ())


def _agents(facts: Facts) -> list[Table]:
    """How many interest-agents a request has, and what they hold; nothing where no model has any."""
    costs = {name: facts.scores.models[name].cost for name in facts.ranking}
    rows: list[Row] = [
        (_model(facts, name), fixed(cost.agents, 1), percent(cost.votes_kept))
        for name, cost in costs.items()
        if cost.agents is not None and cost.votes_kept is not None
    ]
    caption = (
        "Interest-agents of a request, and the share of its votes that their own leaves have: means over requests."
    )
    return [table(caption, ("model", "agents", "votes kept"), rows, ("model",))] if rows else []


def _costs(facts: Facts) -> Table:
    rows: list[Row] = []
    for name in facts.ranking:
        model = facts.scores.models[name]
        cost = model.cost
        counts = (model.parameters, cost.state_bytes, cost.encode_macs, cost.candidate_macs, cost.request_macs)
        rows.append((_model(facts, name), *(integer(count) for count in counts)))
    return table(
        "Cost of serving, counted: mean bytes of user state, mean multiply-adds of matrix products.",
        (
            "model",
            "parameters",
            "user state, bytes",
            "multiply-adds per request (encode)",
            "per candidate (score)",
            f"whole request, {SLATE} candidates",
        ),
        rows,
        ("model",),
    )
