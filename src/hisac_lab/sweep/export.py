"""The study as a file that Optuna's own tools open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hisac_lab.config.sweep import Dimension, Range, Space
from hisac_lab.sweep.space import label, labels
from hisac_lab.sweep.study import TrialResult


def export(trials: Sequence[TrialResult], space: Space, path: Path) -> None:
    """Writes the study as a journal that `optuna-dashboard` opens.

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
    kinds = optuna.trial.TrialState
    states = {"complete": kinds.COMPLETE, "pruned": kinds.PRUNED, "over": kinds.FAIL, "failed": kinds.FAIL}
    distributions = {key: _distribution(dimension) for key, dimension in space.items()}
    for trial in trials:
        params = labels(space, trial.point)
        study.add_trial(
            optuna.trial.create_trial(
                state=states[trial.state],
                params=params,
                distributions={key: distributions[key] for key in params},
                values=list(trial.objectives) if trial.state == "complete" else None,
                user_attrs={"state": trial.state, "reason": trial.outcome.reason, "on_front": trial.on_front},
            )
        )


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    if not isinstance(dimension, Range):
        return optuna.distributions.CategoricalDistribution([label(value) for value in dimension.values])
    if dimension.whole:
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
