"""The first screen: the answer, a row per model, how sure it is, its limits, what to do next, of what it is."""

from __future__ import annotations

from collections.abc import Sequence

from hisac_lab.evaluation.records import SLATE, Interval
from hisac_lab.ops.choice import highest
from hisac_lab.report.document import Block, Cell, Fold, Note, Points, Row, Section, Table, Whisker, table
from hisac_lab.report.drawing import colors
from hisac_lab.report.facts import Facts
from hisac_lab.report.sections.abtest import BEHIND
from hisac_lab.report.sections.leaderboard import controls, shuffles
from hisac_lab.report.sections.limits import limits
from hisac_lab.report.sections.standing import Standing, contenders, rival, standings, sure
from hisac_lab.report.words import (
    between,
    confidence,
    day,
    fixed,
    integer,
    named,
    percent,
    signed,
    signed_percent,
    times,
)
from hisac_lab.sources.records import Acquired

MOST_ROWS, MOST_ASKED = 6, 3
PARTS = {
    "champion": "in production",
    "control": "control",
    "contender": "may ship",
    "challenger": "may ship, challenger",
}


def question(facts: Facts) -> str:
    """What this run was made to answer, from its settings."""
    asked, reference = contenders(facts), facts.evaluated.reference
    rest = f"on {_log(facts.acquired)}, at what cost, and may it ship?"
    if not asked:
        return f"How good is `{reference}` {rest}"
    who = " or ".join(f"`{name}`" for name in asked) if len(asked) <= MOST_ASKED else f"one of {len(asked)} models"
    return f"Does {who} beat `{reference}` {rest}"


def _log(acquired: Acquired) -> str:
    """The data set, or the file of a log of one's own."""
    files = sorted(name.removeprefix("events/") for name in acquired.files if name.startswith("events/"))
    if acquired.dataset != "own" or not files:
        return acquired.dataset
    return f"`{files[0]}`" + (f" and {len(files) - 1} more" if files[1:] else "")


def verdict(facts: Facts) -> Section:
    """Everything that a decision needs, before the evidence."""
    stands = standings(facts)
    shown = sorted(stands, key=lambda one: _place(facts, one))
    asked = [one for one in shown if one.part != "control"]
    blocks: list[Block] = [
        Note(sentence(facts, stands), "verdict"),
        _models(facts, sorted(shown[:MOST_ROWS], key=lambda one: facts.ranking.index(one.name))),
        *(
            [Fold(f"{len(shown) - MOST_ROWS} more models", (_models(facts, shown[MOST_ROWS:]),))]
            if shown[MOST_ROWS:]
            else []
        ),
        Points(
            (
                ("How sure", _how_sure(facts)),
                *((("Controls", said),) if (said := f"{controls.said(facts)} {shuffles.said(facts)}".strip()) else ()),
                ("Not to be used for", " ".join(limits(facts))),
                ("Next", next_step(facts, stands)),
                ("What this is of", _identity(facts)),
            )
        ),
        *([Fold("What each gate says", (_gates(facts, asked),))] if any(one.gates for one in asked) else []),
    ]
    return Section("verdict", "Verdict", tuple(blocks))


def _place(facts: Facts, one: Standing) -> tuple[int, int]:
    """The reference, what may ship and the champion stand before the others; then by AUC."""
    first = one.name == facts.evaluated.reference or one.part in ("champion", "challenger")
    return (0 if first else 1, facts.ranking.index(one.name))


def sentence(facts: Facts, stands: Sequence[Standing]) -> str:
    """The answer to the question: a control that leads, who is better, at what cost, what may ship."""
    answer = "; ".join(part for part in (_better(facts), _shipping(stands)) if part) + "."
    return f"{controls.headline(facts)} {answer}".strip()


def _better(facts: Facts) -> str:
    """Who beats the reference in AUC, and what the best of them costs."""
    models, asked, reference = facts.scores.models, contenders(facts), facts.evaluated.reference
    if not asked:
        auc = models[reference].auc
        rest = " but controls" if len(models) > 1 else ""
        return f"`{reference}` has an AUC of {fixed(auc.value)} {between(auc.interval)}, and nothing is beside it{rest}"
    best = highest(asked, lambda name: models[name].auc.difference, str)
    auc, cost, base = models[best].auc, models[best].cost, models[reference].cost
    gap = f"{signed(auc.difference)} {between(auc.difference_interval, signed)}"
    paid = (
        f"at {times(cost.request_macs, base.request_macs, 'its')} multiply-adds and "
        f"{times(cost.state_bytes, base.state_bytes, 'its')} bytes of state"
    )
    winners = [name for name in asked if models[name].auc.difference > 0 and sure(facts, name)]
    if best in winners:
        others = [name for name in winners if name != best]
        also = f", and so do {named(others)}" if others else ""
        return f"`{best}` beats `{reference}` by {gap} in AUC, {paid}{also}"
    return f"No model surely beats `{reference}` in AUC: `{best}` comes nearest, {gap}, {paid}"


def _shipping(stands: Sequence[Standing]) -> str:
    if not any(one.gates for one in stands):
        return "nothing is registered, so no gate was asked"
    free = [one.name for one in stands if one.may_ship]
    if free:
        return f"{named(free)} may ship: all gates hold"
    held = [one for one in stands if one.part in ("challenger", "contender")]
    if not held:
        return "nothing here is meant to ship"
    failed = sorted({gate.name for one in held for gate in one.failed})
    return f"nothing may ship: {named([one.name for one in held])} fail{'s' * (len(held) == 1)} at {named(failed)}"


def _scale(intervals: Sequence[Interval]) -> Interval:
    """The ends that all intervals of a column fit between, zero among them."""
    return min([0.0, *(low for low, _ in intervals)]), max([0.0, *(high for _, high in intervals)])


def _models(facts: Facts, shown: Sequence[Standing]) -> Table:
    models, tests, color, reference = facts.scores.models, facts.tests, colors(facts), facts.evaluated.reference
    drawn = set(facts.rivals or models)  # controls would make the scale too wide for what is to be compared
    aucs = _scale([model.auc.difference_interval for name, model in models.items() if name in drawn])
    lifts = _scale([test.lift.interval for name, test in tests.tests.items() if name in drawn])
    rows: list[Row] = []
    for one in shown:
        model, test = models[one.name], tests.tests.get(one.name)
        auc, tint = model.auc, color[one.name]
        gap = Whisker(auc.difference, auc.difference_interval, aucs, tint) if one.name in drawn else None
        quality = Cell(signed(auc.difference), between(auc.difference_interval, signed), whisker=gap)
        lift = Cell("control" if one.name == tests.control else "–")
        if test is not None:
            mark = Whisker(test.lift.value, test.lift.interval, lifts, tint) if one.name in drawn else None
            lift = Cell(signed_percent(test.lift.value), between(test.lift.interval, signed_percent), whisker=mark)
        rows.append(
            (
                Cell(one.name, color=tint),
                Cell("reference", f"AUC {fixed(auc.value)}") if one.name == reference else quality,
                lift,
                integer(model.cost.state_bytes),
                integer(model.cost.request_macs),
                *((_time(facts, one.name),) if facts.local else ()),
                _passed(one),
                _badge(one),
            )
        )
    level = confidence(facts.evaluated.confidence)
    return table(
        f"Dots are estimates, lines {level} intervals, dashed is no difference. A request has {SLATE} candidates. "
        "Gates "
        f"compare with {rival(facts)}.",
        (
            "model",
            f"AUC less {reference}'s",
            f"lift over {tests.control}" + (", no verdict" if tests.reason else ""),
            "state, bytes",
            "multiply-adds of a request",
            *(("its time here",) if facts.local else ()),
            "gates",
            "may it ship",
        ),
        rows,
        ("model",),
        "cards",
    )


def _time(facts: Facts, name: str) -> str:
    """Milliseconds of a whole request, as the stage `evaluate` has measured them on its machine."""
    seconds = facts.local.seconds.get(name) if facts.local else None
    if seconds is None:
        return "–"
    return f"{fixed((seconds.encode_us_per_request + SLATE * seconds.score_us_per_candidate) / 1000, 1)} ms"


def _passed(one: Standing) -> Cell:
    if not one.gates:
        return Cell("not asked")
    if one.part == "control":
        return Cell("–")
    hold = len(one.gates) - len(one.failed)
    return Cell(f"{hold} of {len(one.gates)}", ", ".join(gate.name for gate in one.failed))


def _badge(one: Standing) -> Cell:
    if not one.gates:
        return Cell("not registered", badge="plain")
    if one.failed and one.part not in ("champion", "control"):
        return Cell("no", badge="bad")
    return Cell(PARTS[one.part], badge="good" if one.may_ship else "plain")


def _how_sure(facts: Facts) -> str:
    tests, evaluated = facts.tests, facts.evaluated
    seeds = sorted({len(model.seeds) for model in facts.scores.models.values()})
    counted = " to ".join(dict.fromkeys(integer(end) for end in (seeds[0], seeds[-1])))
    drawn = "users and seeds" if evaluated.seeds_drawn else "users"
    said = [
        f"{counted} seed{'s' * (seeds[-1] > 1)} of each model, {integer(evaluated.test_users)} test users, "
        f"{confidence(evaluated.confidence)} intervals over {drawn}, paired."
    ]
    if not tests.tests and not tests.reason:
        return " ".join([*said, f"There is no model beside the control `{tests.control}`."])
    if tests.aa is not None:
        rates = ", ".join(f"{percent(rate)} below {tier}" for tier, rate in sorted(tests.aa.rates.items()))
        said.append(f"A/A: of {integer(tests.aa.tests)} tests of `{tests.control}` against itself {rates}.")
    if tests.reason:
        return " ".join([*said, f"No verdict on any model against the control `{tests.control}`: {tests.reason}."])
    how = "It judges" if tests.evidence == "replay" else "The A/B test is simulated"
    least = percent(min(test.detectable for test in tests.tests.values()), 2)
    said.append(
        f"{how} by {BEHIND[tests.evidence]}, and all {len(tests.checks)} checks of its right to judge hold; it finds "
        f"lifts from {least}."
    )
    return " ".join(said)


def next_step(facts: Facts, stands: Sequence[Standing]) -> str:
    """The exact command, and why."""
    if not any(one.gates for one in stands):
        return "`snakemake --cores all` runs the stage `register`, which asks the gates."
    free = [one for one in stands if one.may_ship]
    first = next((one for one in free if one.part == "challenger"), None)
    if first is not None:
        return f"`hisac-lab promote` makes `{first.name}`, the model with the best validation AUC, the champion."
    if free:
        best = min(free, key=lambda one: facts.ranking.index(one.name))
        held = [
            one
            for one in stands
            if one.part != "control" and one.failed and controls.surely_ahead(facts, one.name, best.name)
        ]
        if not held:
            return f"`hisac-lab promote {best.name}` makes it the champion."
        ahead = min(held, key=lambda one: facts.ranking.index(one.name))
        gates = " and ".join(f"`{gate.name}`" for gate in ahead.failed)
        return (
            f"See why `{ahead.name}` fails at {gates} (below): it is surely ahead of `{best.name}`, the best that may "
            f"ship, by {signed(facts.gaps[ahead.name, best.name][0])} in AUC. `hisac-lab promote {best.name}` would "
            "make that one the champion."
        )
    fewest = min(len(model.seeds) for model in facts.scores.models.values())
    if fewest < 5:
        return (
            "`hisac-lab params set experiment.seeds '[0, 1, 2, 3, 4]'`, then `snakemake --cores all`: more seeds make "
            "intervals and verdict surer."
        )
    return "`hisac-lab ab power` says how many users a test needs to find the lift that matters."


def _identity(facts: Facts) -> str:
    """The data, its dates and digests; what differs between machines is in it only where the page is of one."""
    prepared, files = facts.prepared, facts.acquired.files
    first, last = prepared.splits["train"].first, prepared.splits["test"].last
    shown = ", ".join(f"`{name}` {digest[:12]}" for name, digest in sorted(files.items())[:MOST_ASKED])
    said = [
        f"{facts.acquired.dataset} ({shown}): {integer(prepared.events)} events of {integer(prepared.users)} users "
        f"on {integer(prepared.items)} items, samples from {day(first)} to {day(last)}, "
        f"labels: {facts.evaluated.negatives}. Protocol `{facts.evaluated.fingerprint}`: numbers with another one do "
        "not belong beside these."
    ]
    if facts.pipeline:
        said.append(f"Outputs `{facts.pipeline}`.")
    if facts.local:
        said += [f"{label}: {text}." for label, text in facts.local.said]
    return " ".join(said)


def _gates(facts: Facts, shown: Sequence[Standing]) -> Table:
    color = colors(facts)
    rows: list[Row] = [
        (
            Cell(one.name, color=color[one.name]),
            f"`{gate.name}`",
            Cell("yes" if gate.holds else "no", badge="good" if gate.holds else "bad"),
            gate.says,
        )
        for one in shown
        for gate in one.gates
    ]
    columns = ("model", "gate", "holds", "what it says")
    return table("Limits are settings of the section `promotion`.", columns, rows, columns)
