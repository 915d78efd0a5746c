"""The section on the A/B test: what stands behind it, lifts, their parts, the instrument."""

from __future__ import annotations

from hisac_lab.abtest.records import ABTest, ABTests, Lift, Part
from hisac_lab.report.document import Cell, Counts, Figure, Figures, Note, Row, Section, Table, table
from hisac_lab.report.drawing import (
    MUTED,
    Reading,
    colors,
    forest,
)
from hisac_lab.report.facts import Facts
from hisac_lab.report.sections.agreement import agreement
from hisac_lab.report.sections.daily import daily
from hisac_lab.report.words import (
    between,
    confidence,
    excludes_zero,
    first_number,
    fixed,
    integer,
    percent,
    signed,
    signed_percent,
    told_apart,
)

BADGES = {"better": "good", "worse": "bad", "equivalent": "plain", "undecided": "plain", "no verdict": "bad"}
BEHIND = {
    "truth": "the simulated world's own click probabilities",
    "replay": "clicks on logged exposures, weighted by their propensities",
    "fitted": "worlds fitted with hindsight on logged exposures",
}
PARTS = {
    "users": "users",
    "pools": "pools",
    "world": "refits of the world",
    "family": "families of worlds",
    "seeds": "trained seeds",
    "clicks": "clicks",
}
METRICS = {
    "clicks_per_user": "clicks per user",
    "slates_clicked": "CTR per session: slates with a click",
    "weighted_clicks": "clicks of a slate by their weight",
    "tail_share": "share of the long tail",
    "diversity": "diversity",
    "reranked": "discounted clicks of real slates, re-ranked",
}
ESTIMATORS = {
    "doubly_robust": "doubly robust",
    "ips": "inverse propensity",
    "self_normalized": "self-normalized",
    "clipped": "clipped",
    "clusters": "semantic IDs as actions",
}
Shown = list[tuple[str, ABTest, str]]


def abtest(facts: Facts) -> Section:
    """Evidence, verdicts, parts of the error, other metrics, instrument."""
    tests, setup = facts.tests, facts.abtested.setup
    color = colors(facts)
    shown = [(name, test, color.get(name, MUTED)) for name, test in sorted(tests.tests.items())]
    readings = [Reading(name, test.lift.value, test.lift.interval, tint) for name, test, tint in shown]
    level = confidence(facts.abtested.confidence)
    seeds = max((len(runs) for runs in tests.seeds.values()), default=0)
    figures = [agreement(facts, min(max(240, 60 + 52 * len(readings)), 480))]
    if readings:
        chart = forest("lifts", "Lift of each treatment with its interval", readings, signed_percent, 0.0)
        words = "Right of the line is better than the control; a line that crosses it is undecided."
        seen = told_apart([(name, test.lift.interval) for name, test, _ in shown], f"the control `{tests.control}`")
        if tests.reason:
            words, seen = "They are drawn for those who look into the instrument.", "No verdict stands on these lifts."
        figures.insert(0, Figure("lift_in_ctr", chart, f"Lift in clicks over {tests.control}", seen, words))
    return Section(
        "abtest",
        "A/B test",
        (
            Note(tests.caveat, "callout"),
            *_silence(tests, shown),
            Note(
                f"Each model, by {_runs(seeds)}, against the control `{tests.control}`: {_read(tests)}. "
                f"Lifts are relative, with {level} intervals that hold every part below. "
                "Better or worse: the Holm-corrected p-value of no difference is small enough; equivalent: "
                f"that of a difference beyond the margin of {percent(tests.margin, 2)}, set beforehand, is."
            ),
            Figures(tuple(figures)),
            _lifts(shown),
            *daily(shown, level),
            *_worlds(facts, shown),
            _parts(shown),
            *_sliced(shown, tests.control, level),
            _metrics(shown, level),
            _replayed(shown) if tests.evidence == "replay" else _instrument(shown),
            table(
                "What has to hold for a verdict.",
                ("check", "holds", "what it says"),
                [
                    (
                        check.name,
                        Cell("yes" if check.holds else "no", badge="good" if check.holds else "bad"),
                        check.says,
                    )
                    for check in tests.checks
                ],
                ("check", "holds", "what it says"),
            ),
            *_against_itself(tests),
            Counts(
                (
                    ("real users", integer(setup.real_users)),
                    ("items in a pool", integer(setup.pool)),
                    ("exposures to items met before", percent(setup.repeated)),
                    ("pools without what the user has met", "yes" if setup.without_met else "no"),
                )
            ),
        ),
    )


def _silence(tests: ABTests, shown: Shown) -> tuple[Note, ...]:
    """Why there is no verdict, on any treatment or on one."""
    if tests.reason:
        return (Note(f"No verdict: {tests.reason}. The table of what has to hold, below, has each.", "callout"),)
    return tuple(
        Note(f"No verdict on {name}: {test.contradiction}.", "callout") for name, test, _ in shown if test.contradiction
    )


def _against_itself(tests: ABTests) -> tuple[Note | Table, ...]:
    """Rates and uniformity in words, and the p-values in tenths."""
    if (aa := tests.aa) is None:
        return ()
    rates = ", ".join(f"{percent(rate)} below {tier}" for tier, rate in sorted(aa.rates.items()))
    said = f"A/A, {aa.tests} tests of the control against itself: {rates}; the p-values are uniform with p "
    ends = [f"{place / 10:.1f} to {(place + 1) / 10:.1f}" for place in range(len(aa.tenths))]
    caption = "A/A: share of the tests with a p-value in each tenth; 10 % in each is what a sound instrument gives."
    row: Row = (f"{tests.control} against itself", *(percent(share) for share in aa.tenths))
    return Note(f"{said}{fixed(aa.ks_p, 3)}."), table(caption, ("p-value", *ends), [row], ("p-value",))


def _runs(seeds: int) -> str:
    return "its one trained seed, whose luck no interval holds" if seeds == 1 else f"all its {seeds} trained seeds"


def _worlds(facts: Facts, shown: Shown) -> tuple[Table, ...]:
    """Facts of the fitted worlds, and the lifts in those that judge."""
    worlds = facts.abtested.worlds
    if not worlds:
        return ()
    rows: list[Row] = [
        (
            world.family,
            Cell("yes" if world.judges else "no", badge="good" if world.judges else "bad"),
            fixed(world.auc),
            "" if world.gauc is None else fixed(world.gauc),
            fixed(world.calibration_error),
            *("" if name not in world.apart else fixed(world.apart[name]) for name in ("users", "sequence")),
            ", ".join(f"{value:g} {what}" for what, value in sorted(world.size.items())),
            integer(world.exposures),
            integer(world.refits),
        )
        for world in worlds
    ]
    columns = (
        "world of",
        "judges",
        "AUC",
        "user-wise AUC",
        "calibration error",
        "users apart",
        "sequences apart",
        "made of",
        "exposures",
        "refits",
    )
    caption = (
        "The fitted worlds, on test exposures that they did not see; the lifts above are those of the first. Apart: "
        "how far its clicks are from the log's (Kolmogorov-Smirnov), in the shares that users click and in those of "
        "consecutive clicks with a code in common."
    )
    lifts: list[Row] = [
        (
            Cell(name, color=tint),
            family,
            Cell(signed_percent(lift.value), between(lift.interval, signed_percent)),
        )
        for name, test, tint in shown
        for family, lift in sorted(test.worlds.items())
    ]
    facts_of = table(caption, columns, rows, ("world of", "judges", "made of"))
    if not lifts:
        return (facts_of,)
    caption = (
        "Lift in each world that judges, with the interval of its own parts. Where one says better and another worse, "
        "there is no verdict."
    )
    beside = table(
        caption,
        ("treatment", "world of", "lift"),
        lifts,
        ("treatment", "world of"),
    )
    return facts_of, beside


def _lifts(shown: Shown) -> Table:
    rows: list[Row] = [
        (
            Cell(name, color=tint),
            Cell(test.verdict, badge=BADGES.get(test.verdict, "plain")),
            Cell(signed_percent(test.lift.value), between(test.lift.interval, signed_percent)),
            fixed(test.p_holm, 3),
            fixed(test.p_equivalence, 3),
            percent(test.detectable, 2),
            percent(test.power),
        )
        for name, test, tint in shown
    ]
    columns = ("treatment", "verdict", "lift", "p, Holm", "p of not equivalent", "detectable", "power at the margin")
    caption = "Lifts. Detectable: the least lift that is found with a power of 80 %."
    return table(caption, columns, rows, ("treatment", "verdict"))


def _parts(shown: Shown) -> Table:
    rows: list[Row] = [
        (Cell(name, color=tint), *(_error(test.parts.get(part)) for part in PARTS)) for name, test, tint in shown
    ]
    caption = "Parts of the uncertainty: the standard error of the lift from each alone."
    return table(caption, ("treatment", *PARTS.values()), rows, ("treatment",))


def _error(part: Part | None) -> str:
    return "not measured" if part is None or part.error is None else percent(part.error, 3)


def _sliced(shown: Shown, control: str, level: str) -> tuple[Note | Table, ...]:
    """Lifts by the length of histories, and who is told apart where they are longest; nothing without slices."""
    bins = sorted({label for _, test, _ in shown for label in test.slices}, key=first_number)
    if not bins:
        return ()
    longest = [(name, test.slices[bins[-1]].interval) for name, test, _ in shown if bins[-1] in test.slices]
    said = told_apart(longest, f"the control `{control}`")
    rows: list[Row] = [
        (Cell(name, color=tint), *(_lift_in(test.slices[label]) if label in test.slices else "–" for label in bins))
        for name, test, tint in shown
    ]
    count = sum(len(test.slices) for _, test, _ in shown)
    caption = (
        f"Lift by events in the user's history, with {level} intervals after Holm's correction over all {count} of "
        "them: one leaves out zero, and is bold, where its corrected p-value is small enough."
    )
    return (
        Note(f"On the longest histories, {bins[-1]} events, by corrected intervals: {said}"),
        table(caption, ("treatment", *bins), rows, ("treatment",)),
    )


def _lift_in(lift: Lift) -> Cell:
    ends = between(lift.interval, signed_percent)
    return Cell(signed_percent(lift.value), ends, strong=excludes_zero(lift.interval))


def _metrics(shown: Shown, level: str) -> Table:
    rows: list[Row] = [
        (
            Cell(name, color=tint),
            METRICS.get(metric, metric),
            fixed(found.control, 3),
            fixed(found.treatment, 3),
            Cell(signed(found.value), between(found.interval, signed)),
            fixed(found.p_holm, 3),
        )
        for name, test, tint in shown
        for metric, found in test.metrics.items()
    ]
    count = sum(len(test.metrics) for _, test, _ in shown)
    caption = (
        "Beside the lift, which is primary and corrected over treatments alone. Intervals and p-values are over users, "
        f"at {level} after Holm's correction over all {count} rows. Diversity: how far down semantic IDs on a slate "
        "differ."
    )
    columns = ("treatment", "metric", "control", "treated", "difference", "p, Holm")
    return table(caption, columns, rows, ("treatment", "metric"))


def _instrument(shown: Shown) -> Table:
    rows: list[Row] = [
        (
            Cell(name, color=tint),
            integer(drawn.users.control),
            integer(drawn.users.treatment),
            fixed(drawn.sample_ratio_p, 3),
            percent(drawn.ctr.control, 2),
            percent(drawn.ctr.treatment, 2),
            Cell(signed_percent(drawn.lift_cuped.value), between(drawn.lift_cuped.interval, signed_percent)),
            percent(drawn.cuped_variance_removed),
            Cell(signed_percent(drawn.lift_stratified.value), between(drawn.lift_stratified.interval, signed_percent)),
            percent(drawn.stratified_variance_removed),
        )
        for name, test, tint in shown
        if (drawn := test.draw) is not None
    ]
    columns = (
        "treatment",
        "users, control",
        "users, treatment",
        "sample-ratio p",
        "CTR, control",
        "CTR, treatment",
        "CUPED lift",
        "variance removed by CUPED",
        "post-stratified lift",
        "variance removed by strata",
    )
    caption = (
        "The same as a test of simulated users would read it: split by a hash, clicks drawn. Strata: of users by the "
        "length of their history. It has no vote, and its intervals are not corrected."
    )
    return table(caption, columns, rows, ("treatment",))


def _replayed(shown: Shown) -> Table:
    rows: list[Row] = [
        (
            Cell(name, color=tint),
            ESTIMATORS[kind],
            Cell(signed_percent(lift.value), between(lift.interval, signed_percent)),
            integer(test.replay.exposures),
            fixed(test.replay.effective, 1),
            fixed(test.replay.effective_control, 1),
            percent(test.replay.clipped),
        )
        for name, test, tint in shown
        if test.replay is not None
        for kind, lift in sorted(test.replay.lifts.items(), key=lambda pair: list(ESTIMATORS).index(pair[0]))
    ]
    columns = ("treatment", "estimator", "lift", "exposures", "effective", "effective, control", "weight clipped")
    caption = (
        "Off-policy estimates. The verdict stands on the doubly robust one; where the others disagree with it, trust "
        "none. Effective: as many exposures of equal weight would tell as much."
    )
    return table(caption, columns, rows, ("treatment", "estimator"))


def _read(tests: ABTests) -> str:
    if tests.evidence == "replay":
        return "clicks of a slate by those on logged exposures of the same users"
    return "expected clicks on the same users and pools, so no click is drawn"
