"""The rule: the cheapest trial that is as good as the best, as far as users and seeds can tell.

How far they can tell is the standard error of the difference in AUC, paired: both trials on the same resamples of the
users of the validation period, and with the same seeds. AUCs, differences and limits are compared at three decimals,
well above the noise of floats; costs are whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.evaluation.metrics import standard_error
from hisac_lab.ops.choice import higher, highest
from hisac_lab.sweep.study import DIGITS, TrialResult


@dataclass(frozen=True)
class Choice:
    """What the rule says of a study.

    Attributes:
        best: The trial with the highest AUC; of equals the cheapest, then the earliest.
        chosen: The cheapest trial near the best; of equals the earliest.
        gaps: AUC of the best less the trial's by the trial's number, over the seeds that both have.
        errors: Standard error of that, to 6 decimals.
        near: Numbers of the trials that are as good as the best, as far as can be told.
    """

    best: TrialResult
    chosen: TrialResult
    gaps: dict[int, float]
    errors: dict[int, float]
    near: list[int]


def mean_auc(trial: TrialResult) -> float:
    """Over its seeds."""
    return float(np.mean([aucs[0] for aucs in trial.series]))


def error_of(series: Array) -> float:
    """Standard error of a mean over seeds, or of a difference of two, to 6 decimals: users and seeds.

    Args:
        series: Of each seed the value, then the same on each resample of the users; (S, 1 + B).
    """
    users = standard_error(series.mean(axis=0))
    seeds = float(np.var(series[:, 0], ddof=1)) / len(series) if len(series) > 1 else 0.0
    return round(math.sqrt(users * users + seeds), 6)


def own_error(trial: TrialResult) -> float:
    """Standard error of a trial's AUC."""
    return error_of(np.array(trial.series))


def choose(trials: Sequence[TrialResult], standard_errors: float) -> Choice:
    """Applies the rule.

    Args:
        trials: Complete ones, one at least, in any order. Where one has several seeds, those with most are the
            finalists: best and chosen are among them.
        standard_errors: How many standard errors of the difference a trial may be below the best.
    """
    most = max(len(trial.series) for trial in trials)
    finalists = [trial for trial in trials if len(trial.series) == most]
    best = highest(finalists, mean_auc, lambda trial: (trial.outcome.request_macs, trial.number), DIGITS)
    gaps = {trial.number: _gap(best, trial) for trial in trials}
    means = {number: float(gap[:, 0].mean()) for number, gap in gaps.items()}
    errors = {number: error_of(gap) for number, gap in gaps.items()}
    near = [number for number, gap in means.items() if not higher(gap, standard_errors * errors[number], DIGITS)]
    chosen = min(
        (trial for trial in finalists if trial.number in near),
        key=lambda trial: (trial.outcome.request_macs, trial.number),
    )
    return Choice(best, chosen, means, errors, sorted(near))


def _gap(best: TrialResult, trial: TrialResult) -> Array:
    gaps: Array = np.array([np.subtract(*pair) for pair in zip(best.series, trial.series, strict=False)])
    return gaps


def finalists(trials: Sequence[TrialResult], standard_errors: float, places: int) -> list[TrialResult]:
    """Who gets more seeds: the best, the rule's choice, then the nearest of those that cost less than the best.

    Args:
        trials: Complete ones with one seed each, one at least.
        standard_errors: As of `choose`.
        places: How many at most.
    """
    choice = choose(trials, standard_errors)

    def far(trial: TrialResult) -> tuple[float, ...]:
        behind = not (trial is choice.best or trial is choice.chosen)
        dearer = trial.outcome.request_macs > choice.best.outcome.request_macs
        return behind, dearer, round(choice.gaps[trial.number], DIGITS), trial.outcome.request_macs, trial.number

    return sorted(trials, key=far)[:places]


def describe(standard_errors: float, seeds: int = 1) -> str:
    """The rule in words.

    Args:
        standard_errors: As of `choose`.
        seeds: Of a finalist.
    """
    errors = f"{standard_errors:g} standard error{'s' * (standard_errors != 1)}"
    of, over = ("trial", "users") if seeds == 1 else (f"finalist of {seeds} seeds", "users, and over seeds")
    return (
        f"the cheapest {of} whose AUC is at most {errors} below that of the best, the standard error being that of "
        f"the paired difference over resampled {over}, and both rounded to {DIGITS} decimals"
    )
