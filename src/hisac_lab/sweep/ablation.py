"""The table of an ablation: all trials of a sweep with the same seeds, each beside a reference with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.sweep.records import Ablated, told
from hisac_lab.sweep.rule import error_of
from hisac_lab.sweep.study import TrialResult

QUANTILE = 1.96
"""Of the normal distribution: standard errors in half of an interval of 95 %."""


def is_ablation(config: SweepConfig) -> bool:
    """Whether every trial is trained with all seeds, so that nothing was chosen before they were compared."""
    return config.finalists >= config.trials and config.finalist_seeds > 1


def ablate(trials: Sequence[TrialResult]) -> list[Ablated]:
    """A row for each trial that was trained with all seeds, in number order.

    The reference is the first of the fixed points, as the paper's settings, or else the first trial. Differences to it
    are paired over users and seeds; intervals have both parts of the error (see `rule.error_of`).

    Args:
        trials: In number order.
    """
    whole = [trial for trial in trials if trial.state == "complete"]
    most = max(len(trial.series) for trial in whole)
    whole = [trial for trial in whole if len(trial.series) == most]
    reference = next((trial for trial in whole if trial.fixed), whole[0])
    return [_row(trial, reference) for trial in whole]


def _row(trial: TrialResult, reference: TrialResult) -> Ablated:
    own = np.array(trial.series)
    auc, interval = _interval(own)
    difference, between = _interval(own - np.array(reference.series))
    assert trial.outcome.cost is not None
    return Ablated(
        number=trial.number,
        reference=trial is reference,
        settings={key: told(value) for key, value in trial.point.items()},
        seeds=len(trial.series),
        auc=auc,
        interval=interval,
        difference=difference,
        difference_interval=between,
        request_macs=trial.outcome.request_macs,
        state_bytes=trial.outcome.cost.state_bytes,
    )


def _interval(series: Array) -> tuple[float, tuple[float, float]]:
    """Mean over seeds, (S, 1 + B) to one number, and its interval of 95 % over users and seeds."""
    mean, half = float(series[:, 0].mean()), QUANTILE * error_of(series)
    return round(mean, 6), (round(mean - half, 6), round(mean + half, 6))
