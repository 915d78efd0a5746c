"""AUC of the answers that models give beside the label's."""

from __future__ import annotations

from hisac_lab.evaluation.records import Estimate
from hisac_lab.report.document import Cell, Row, Table, table
from hisac_lab.report.drawing import colors
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import between, fixed


def tables(facts: Facts) -> list[Table]:
    """One table, where a model gives such an answer."""
    models = {name: facts.scores.models[name].tasks for name in facts.ranking if facts.scores.models[name].tasks}
    if not models:
        return []
    names = list(dict.fromkeys(task for tasks in models.values() for task in tasks))
    rows: list[Row] = [
        (Cell(name, color=colors(facts)[name]), *(_told(tasks.get(task)) for task in names))
        for name, tasks in models.items()
    ]
    what = "AUC of further answers (`backbone.tasks`), on the exposures whose answer the log knows."
    return [table(what, ("model", *(f"{name} ↑" for name in names)), rows, ("model",))]


def _told(auc: Estimate | None) -> Cell:
    return Cell("–") if auc is None else Cell(fixed(auc.value), between(auc.interval))
