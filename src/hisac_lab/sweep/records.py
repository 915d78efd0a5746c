"""What the stage `sweep` writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.base.records import HINT, Output, Record, Stored
from hisac_lab.evaluation.records import ServingCost

TRIALS, ABLATION = "trials.csv", "ablation.json"
State = Literal["complete", "pruned", "over", "failed"]
"""Of a trial: trained to its end; stopped at a rung; over a gate, hence not trained; ended by an error."""


class Outcome(Record):
    """What became of one training: a file of its own while the study runs.

    Attributes:
        state: complete, over or failed.
        reason: Why it is over a gate or has failed.
        aucs: Validation AUC, then the same on each resample of the users; of a training that was stopped at a rung the
            best AUC up to there alone.
        cost: Of serving; None: it failed before it was counted.
        cpu_seconds: What it took here; in no output.
        started: When it began, in ISO 8601; in no output, as is when it ended. Empty: it was not run.
    """

    state: State
    reason: str = ""
    aucs: tuple[float, ...] = ()
    cost: ServingCost | None = None
    cpu_seconds: float = 0.0
    started: str = ""
    ended: str = ""

    @property
    def request_macs(self) -> int:
        """Multiply-adds of a whole request."""
        assert self.cost is not None
        return round(self.cost.request_macs)


class TrialSpan(Record):
    """When a trial ran, from the begin of its first training to the end of its last, in ISO 8601; in no output."""

    number: int
    started: str
    ended: str


def times_beside(journal: Path) -> Path:
    """The file of the times of a study's trials, beside its journal."""
    return journal.with_suffix(".times.json")


class Best(Stored):
    """A model that was swept, and its settings after the sweep.

    Attributes:
        tuned: What its runs have of their own in place of the sections `train` and `backbone`.
        tokenize: What the rule's trial has of the section `tokenize`, where that is not what is set: training cannot
            follow, for the codebook is made above the sweep.
    """

    FILE: ClassVar[str] = "best.json"

    model: str
    settings: dict[str, Any]
    tuned: dict[str, Any] = Field(default_factory=dict)
    tokenize: dict[str, Any] = Field(default_factory=dict)


class Swept(Output):
    """Manifest of `sweep`.

    Attributes:
        model: Name of the swept model.
        trials: How many there are.
        states: How many of each state.
        exhausted: Whether the space had no more points.
        front: Numbers of the trials on the Pareto front.
        finalists: Numbers of those that were trained with more seeds.
        finalist_seeds: How many each has.
        best: Number of the trial with the highest AUC.
        chosen: Number of the trial that the rule takes.
        trained: Number of the trial whose settings go into training: of those on the graph's own codebook; None: none
            was, and the model keeps its settings.
        near: Numbers of the trials that users, and seeds, cannot tell from the best.
        rule: In words.
        auc: Of the chosen trial.
        best_auc: Of the best.
        standard_error: Of the difference of the two.
        request_macs: Multiply-adds of a whole request, of the chosen trial.
        state_bytes: Bytes of its user state.
        budgets: Its agents per level; none for a model without agents.
        epochs_saved: Epochs that pruned trials have not run.
        repeatable: False where many machines shared the study: another run may try other points.
    """

    model: str
    trials: int
    states: dict[State, int]
    exhausted: bool
    front: list[int]
    finalists: list[int]
    finalist_seeds: int
    best: int
    chosen: int
    trained: int | None
    near: list[int]
    rule: str
    auc: float
    best_auc: float
    standard_error: float
    request_macs: int
    state_bytes: float
    budgets: list[int]
    epochs_saved: int = 0
    repeatable: bool = True


class Ablated(Record):
    """A trial of an ablation.

    Attributes:
        number: Of the trial.
        reference: Whether the others are compared with it.
        settings: By dimension, as written.
        seeds: How many it was trained with.
        auc: Validation AUC, the mean over its seeds.
        interval: Of 95 %, over users and seeds.
        difference: To the reference.
        difference_interval: The same of that, paired.
        request_macs: Multiply-adds of a whole request.
        state_bytes: Of user state.
    """

    number: int
    reference: bool
    settings: dict[str, str]
    seeds: int
    auc: float
    interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]
    request_macs: int
    state_bytes: float


class Trial(Record):
    """A row of trials.csv, its settings as written.

    Attributes:
        number: Its place in the study.
        state: What became of it.
        fixed: Whether it was given, not drawn.
        cut: What the codebook made less of, as "agents 64 to 32"; empty: nothing.
        auc: Validation AUC, the mean over its seeds; of a pruned trial the best up to its rung.
        error: Standard error of that over users and seeds.
        standard_error: Of the difference to the best, paired over users and seeds.
        seeds: How many it was trained with.
        request_macs: Multiply-adds of a whole request.
        state_bytes: Of user state.
        on_front: Whether no other trial is as good in AUC and cost, or better.
        reason: Why it has failed or is over a gate.
        settings: By dimension; those whose condition is not met are left out.
    """

    number: int
    state: State
    fixed: bool
    cut: str
    auc: float | None
    error: float | None
    standard_error: float | None
    seeds: int
    request_macs: int | None
    state_bytes: float | None
    on_front: bool
    reason: str
    settings: dict[str, str]

    def scores(self) -> dict[str, float]:
        """What was found, as far as it was."""
        names = ("auc", "error", "standard_error", "seeds", "request_macs", "state_bytes")
        values = {name: getattr(self, name) for name in names}
        return {name: float(value) for name, value in values.items() if value is not None}

    @classmethod
    def read_table(cls, swept: Path) -> tuple[Trial, ...]:
        """All trials of a sweep, in number order.

        Args:
            swept: Output of the stage `sweep` for one model.

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
    def write_table(cls, trials: list[Trial], out: Path) -> None:
        """Writes `trials.csv`, a column for each setting that any trial has."""
        names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
        scores = [name for name in cls.model_fields if name != "settings"]
        with (out / TRIALS).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow([*names, *scores])
            for trial in trials:
                values = [getattr(trial, name) for name in scores]
                table.writerow([*(trial.settings.get(name, "") for name in names), *values])

    @classmethod
    def _rows(cls, lines: list[str], path: Path) -> Iterator[Trial]:
        scores = [name for name in cls.model_fields if name != "settings"]
        for row in csv.DictReader(lines):
            try:
                facts: dict[str, Any] = {name: row.pop(name) for name in scores}
            except KeyError as error:
                raise UserError(path, "is missing", HINT, str(error.args[0])) from error
            facts = {
                name: None if value == "" and name not in ("cut", "reason") else value for name, value in facts.items()
            }
            settings = {name: value for name, value in row.items() if value != ""}  # every column that is no score
            yield cls.of(facts | {"settings": settings}, path)


def told(value: Any) -> str:
    """A setting as the table has it."""
    return value if isinstance(value, str) else json.dumps(value)
