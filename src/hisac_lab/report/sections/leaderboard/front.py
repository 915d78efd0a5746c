"""The Pareto front of quality and user state: models that no other beats with as little state."""

from __future__ import annotations

from dataclasses import dataclass

from hisac_lab.ops.choice import rounded
from hisac_lab.report.document import Cell, Row, Table, table
from hisac_lab.report.drawing import colors
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, integer, is_sure, signed


@dataclass(frozen=True)
class Standing:
    """One model among all.

    Attributes:
        name: Of the model.
        by: The best of those that dominate it: as little state and as high an AUC, as it is shown, and one of the two
            better; None on the front.
    """

    name: str
    by: str | None


def standings(facts: Facts) -> list[Standing]:
    """Every model, the smallest state first; of equals the better first, then by name."""
    models = facts.scores.models
    state = {name: model.cost.state_bytes for name, model in models.items()}
    shown = {name: rounded(model.auc.value) for name, model in models.items()}
    order = sorted(models, key=lambda name: (state[name], -shown[name], name))
    placed, best = list[Standing](), ""
    for name in order:
        equal = best and (state[best], shown[best]) == (state[name], shown[name])
        if best and not equal and shown[name] <= shown[best]:
            placed.append(Standing(name, best))
        else:
            placed.append(Standing(name, None))
            best = best if equal else name
    return placed


def table_of(facts: Facts) -> Table:
    """The front, and who dominates each of the others."""
    level, color = 1 - facts.evaluated.confidence, colors(facts)
    rows: list[Row] = []
    for each in standings(facts):
        model = facts.scores.models[each.name]
        cells = (Cell(each.name, color=color[each.name]), integer(model.cost.state_bytes), fixed(model.auc.value))
        if each.by is None:
            rows.append((*cells, Cell("on the front", strong=True), ""))
            continue
        difference, p = facts.gaps.get(
            (each.name, each.by), (model.auc.value - facts.scores.models[each.by].auc.value, 1)
        )
        sure = is_sure(difference, p, level)
        rows.append((*cells, f"dominated by `{each.by}`", Cell(signed(difference), strong=sure)))
    return table(
        "Quality and user state, the smallest state first: a model is dominated where another has as little state and "
        f"as high an AUC; its AUC less that one's is bold where p is below {fixed(level, 2)} after Holm's correction.",
        ("model", "user state, bytes", "AUC ↑", "Pareto front", "AUC less that"),
        rows,
        ("model", "Pareto front"),
    )
