"""The study as a file that Optuna's own tools open, and when its trials ran."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hisac_lab.config.sweep import Dimension, Range, Space
from hisac_lab.sweep.records import TrialSpan, times_beside
from hisac_lab.sweep.space import label, labels
from hisac_lab.sweep.study import TrialResult

METRICS = ["validation AUC", "multiply-adds of a request"]
"""What the tools call the objectives."""


def export(trials: Sequence[TrialResult], space: Space, path: Path) -> None:
    """Writes the study as a journal that `optuna-dashboard` opens, and the times of its trials beside it.

    Args:
        trials: In number order.
        space: Theirs.
        path: Of the file; replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(
        storage=storage, directions=["maximize", "minimize"], study_name=path.stem.removeprefix("sweep-")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(METRICS)
    kinds = optuna.trial.TrialState
    states = {"complete": kinds.COMPLETE, "pruned": kinds.PRUNED, "over": kinds.FAIL, "failed": kinds.FAIL}
    distributions = {key: _distribution(dimension) for key, dimension in space.items()}
    times = {span.number: span for span in spans(trials)}
    for trial in trials:
        params = labels(space, trial.point)
        frozen = optuna.trial.create_trial(
            state=states[trial.state],
            params=params,
            distributions={key: distributions[key] for key in params},
            values=list(trial.objectives) if trial.state == "complete" else None,
            user_attrs={"state": trial.state, "reason": trial.outcome.reason, "on_front": trial.on_front},
        )
        if span := times.get(trial.number):
            frozen.datetime_start, frozen.datetime_complete = _local(span.started), _local(span.ended)
        study.add_trial(frozen)
    TrialSpan.write_list(times_beside(path), times.values())


def spans(trials: Sequence[TrialResult]) -> list[TrialSpan]:
    """When trials ran, without those that were not run."""
    found = []
    for trial in trials:
        ran = [outcome for outcome in (trial.outcome, *trial.more) if outcome.started]
        if ran:
            first, last = min(one.started for one in ran), max(one.ended for one in ran)
            found.append(TrialSpan(number=trial.number, started=first, ended=last))
    return found


def _local(text: str) -> datetime:
    """A time as Optuna has it: here, without a zone."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    if not isinstance(dimension, Range):
        return optuna.distributions.CategoricalDistribution([label(value) for value in dimension.values])
    if dimension.whole:
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
