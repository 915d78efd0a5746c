"""What the stage `sweep` writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.base.records import HINT, Output, Record, Stored

TRIALS = "trials.csv"


class Best(Stored):
    """The model that was swept, and its settings after the sweep."""

    FILE: ClassVar[str] = "best.json"

    model: str
    settings: dict[str, Any]


class Swept(Output):
    """Manifest of `sweep`.

    Attributes:
        model: Name of the swept model.
        trials: How many there are.
        front: Numbers of the trials on the Pareto front.
        best: Number of the trial with the highest AUC.
        chosen: Number of the trial that the rule takes.
        rule: In words.
        auc: Of the chosen trial.
        best_auc: Of the best.
        standard_error: Of the difference of the two.
        cost: Multiply-adds per candidate of the chosen trial.
        budgets: Its agents per level.
    """

    model: str
    trials: int
    front: list[int]
    best: int
    chosen: int
    rule: str
    auc: float
    best_auc: float
    standard_error: float
    cost: int
    budgets: list[int]


class Trial(Record):
    """A row of trials.csv, its settings as written; the error is of the difference to the best."""

    number: int
    settings: dict[str, str]
    auc: float
    standard_error: float
    cost: float
    on_front: bool

    @classmethod
    def read_table(cls, swept: Path) -> tuple[Trial, ...]:
        """All trials of a sweep, in number order.

        Args:
            swept: Output of the stage `sweep`.

        Raises:
            UserError: The table is missing, or not what this version writes.
        """
        path = swept / TRIALS
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise explain_os_error(error, path) from error
        return tuple(cls._rows(lines, path))

    @classmethod
    def _rows(cls, lines: list[str], path: Path) -> Iterator[Trial]:
        scores = [name for name in cls.model_fields if name != "settings"]
        for row in csv.DictReader(lines):
            try:
                facts: dict[str, Any] = {name: row.pop(name) for name in scores}
            except KeyError as error:
                raise UserError(path, "is missing", HINT, str(error.args[0])) from error
            yield cls.of(facts | {"settings": row}, path)  # every column that is no score is a setting
