"""Do the A/B test and the evaluation put the models into the same order."""

from __future__ import annotations

from itertools import combinations

from scipy import stats

from hisac_lab.ops.choice import rounded
from hisac_lab.report.document import Figure
from hisac_lab.report.drawing import INK, LIFTS, Sheet, draw, hover, interval, legend, styles, ticks
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, signed, signed_percent

FEWEST = 3
"""Models that a rank correlation takes at least."""


def agreement(facts: Facts, height: float) -> Figure:
    """Lift with interval against AUC on the test period; the control has no lift."""
    style = styles(facts)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.axhline(0, color=INK, linewidth=0.9)
        for name in facts.ranking:
            auc = facts.scores.models[name].auc.value
            if name in facts.tests.tests:
                lift = facts.tests.tests[name].lift
                line = interval(axes, auc, lift.interval, style[name])
                dot = axes.plot(auc, lift.value, **style[name], markersize=7, linestyle="none")
                hover([line, *dot], f"{name}: AUC {fixed(auc)}, lift {signed_percent(lift.value)}")
            elif name == facts.tests.control:
                axes.plot(auc, 0, **style[name], markersize=7, linestyle="none")
        axes.margins(0.15, 0.1)
        axes.set_title("Lift in clicks")
        axes.set_xlabel("AUC on the test period")
        axes.yaxis.set_major_formatter(LIFTS)
        ticks(axes.xaxis, axes.yaxis)
        legend(sheet)

    svg = draw("agreement", "Lift in clicks against AUC on the test period", height, paint)
    return Figure(
        "offline_and_a_b",
        svg,
        "Offline and A/B",
        f"{_agreed(facts)} {_ranked(facts)}",
        "Where the two agree, marks rise from left to right; the line is the control's.",
    )


def _agreed(facts: Facts) -> str:
    """How many pairs of models stand in the same order by AUC and by lift."""
    lifts = {name: test.lift.value for name, test in facts.tests.tests.items() if name in facts.scores.models}
    aucs = {name: facts.scores.models[name].auc.value for name in lifts}
    pairs = list(combinations(sorted(lifts), 2))
    if not pairs:
        return "Fewer than two models have a lift, so there is no order to compare."
    same = sum((aucs[one] - aucs[other]) * (lifts[one] - lifts[other]) > 0 for one, other in pairs)
    return f"By AUC and by lift, {same} of {len(pairs)} pairs of models stand in the same order."


def _ranked(facts: Facts) -> str:
    """Spearman's rank correlation of lift and user-wise AUC over the models, the control's lift being zero."""
    lifts = {name: test.lift.value for name, test in facts.tests.tests.items()} | {facts.tests.control: 0.0}
    found = [
        (rounded(lifts[name]), rounded(gauc.value))
        for name, model in sorted(facts.scores.models.items())
        if name in lifts and (gauc := model.metrics.get("gauc")) is not None
    ]
    if len(found) < FEWEST or any(len(set(values)) == 1 for values in zip(*found, strict=True)):
        return "Too few models differ in lift and in user-wise AUC for a rank correlation."
    value = float(stats.spearmanr(*zip(*found, strict=True)).statistic)
    return f"Spearman's rank correlation of lift and user-wise AUC over {len(found)} models is {signed(value, 2)}."
