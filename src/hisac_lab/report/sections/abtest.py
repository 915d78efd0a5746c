"""The section on the A/B test: lifts, tests, world, caveat."""

from __future__ import annotations

from hisac_lab.abtest.records import ABTest
from hisac_lab.report.document import Cell, Counts, Figure, Figures, Note, Row, Section, Table, table
from hisac_lab.report.drawing import (
    INK,
    LIFTS,
    MUTED,
    Reading,
    Sheet,
    colors,
    draw,
    forest,
    interval,
    legend,
    styles,
    ticks,
)
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import between, confidence, fixed, integer, percent, signed_percent

BADGES = {"won": "good", "lost": "bad", "undecided": "plain"}


def abtest(facts: Facts) -> Section:
    """Lifts, tests, world, caveat."""
    tests, world = facts.tests, facts.abtested.world
    color = colors(facts)
    shown = [(name, test, color.get(name, MUTED)) for name, test in sorted(tests.tests.items())]
    shown.append((f"A/A: {tests.control}", tests.aa, MUTED))
    readings = [
        Reading(
            name,
            test.lift_cuped.value,
            test.lift_cuped.interval,
            tint,
            wide=test.lift.interval,
            truth=test.true_lift,
        )
        for name, test, tint in shown
    ]
    level = confidence(facts.abtested.confidence)
    return Section(
        "abtest",
        "A/B test",
        (
            Note(tests.caveat, "callout"),
            Note(
                f"Each model, with its best seed, against the control `{tests.control}` on simulated users, split by a "
                f"hash. Lifts in click-through rate (CTR) are relative, with {level} intervals; the verdict is won or "
                "lost where the CUPED interval excludes zero, undecided otherwise. The A/A row shows the control "
                "against itself: its true lift is zero."
            ),
            Figures(
                (
                    Figure(
                        "lift_in_ctr",
                        forest("lifts", "Lift of each test with its interval", readings, signed_percent, 0.0),
                        f"Lift in CTR over {tests.control}",
                        "Right of the line is better than the control; the diamond is the lift that is true in the "
                        "world.",
                    ),
                    _agreement(facts, min(max(240, 60 + 52 * len(readings)), 480)),
                )
            ),
            _lifts(shown),
            _checks(shown),
            Note("The world is fitted on the test period's exposures; its hold-out AUC says how well it knows them."),
            Counts(
                (
                    ("real users behind the simulated ones", integer(world.real_users)),
                    ("exposures", integer(world.exposures)),
                    ("hold-out AUC", fixed(world.holdout_auc)),
                    ("factors", integer(world.dim)),
                )
            ),
        ),
    )


def _lifts(shown: list[tuple[str, ABTest, str]]) -> Table:
    rows: list[Row] = [
        (
            Cell(name, color=tint),
            Cell(test.verdict, badge=BADGES.get(test.verdict, "plain")),
            Cell(signed_percent(test.lift_cuped.value), between(test.lift_cuped.interval, signed_percent)),
            fixed(test.lift_cuped.p_value, 3),
            Cell(signed_percent(test.lift.value), between(test.lift.interval, signed_percent)),
            fixed(test.lift.p_value, 3),
            signed_percent(test.true_lift),
        )
        for name, test, tint in shown
    ]
    columns = ("treatment", "verdict", "CUPED lift", "p", "lift without CUPED", "p without CUPED", "true lift")
    return table("Lifts.", columns, rows, ("treatment", "verdict"))


def _checks(shown: list[tuple[str, ABTest, str]]) -> Table:
    rows: list[Row] = [
        (
            Cell(name, color=tint),
            integer(test.users.control),
            integer(test.users.treatment),
            fixed(test.sample_ratio_p, 3),
            percent(test.ctr.control, 2),
            percent(test.ctr.treatment, 2),
            percent(test.cuped_variance_removed),
        )
        for name, test, tint in shown
    ]
    columns = (
        "treatment",
        "users, control",
        "users, treatment",
        "sample-ratio p",
        "CTR, control",
        "CTR, treatment",
        "variance removed by CUPED",
    )
    return table("Checks. A small sample-ratio p would mean a broken split.", columns, rows, ("treatment",))


def _agreement(facts: Facts, height: float) -> Figure:
    """CUPED lift with interval against AUC on the test period; the control has no lift."""
    style = styles(facts)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.axhline(0, color=INK, linewidth=0.9)
        for name in facts.ranking:
            auc = facts.scores.models[name].auc.value
            if name in facts.tests.tests:
                lift = facts.tests.tests[name].lift_cuped
                interval(axes, auc, lift.interval, style[name])
                axes.plot(auc, lift.value, **style[name], markersize=7, linestyle="none")
            elif name == facts.tests.control:
                axes.plot(auc, 0, **style[name], markersize=7, linestyle="none")
        axes.margins(0.15, 0.1)
        axes.set_title("CUPED lift in CTR")
        axes.set_xlabel("AUC on the test period")
        axes.yaxis.set_major_formatter(LIFTS)
        ticks(axes.xaxis, axes.yaxis)
        legend(sheet)

    svg = draw("agreement", "CUPED lift against AUC on the test period", height, paint)
    return Figure(
        "offline_and_a_b",
        svg,
        "Offline and A/B",
        "Where the two agree, marks rise from left to right; the control lies on the line.",
    )
