"""The rule: the cheapest trial that is as good as the best, as far as the users of the validation period can tell.

How far they can tell is the standard error of the difference in AUC, paired: both trials on the same resamples of the
users. AUCs, differences and limits are compared at three decimals, well above the noise of floats; costs are whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.evaluation.metrics import standard_error
from hisac_lab.ops.choice import higher, highest
from hisac_lab.sweep.study import DIGITS, TrialResult


@dataclass(frozen=True)
class Choice:
    """What the rule says of a study.

    Attributes:
        best: The trial with the highest AUC; of equals the cheapest, then the earliest.
        chosen: The cheapest trial near the best; of equals the earliest.
        errors: Standard error of the difference to the best by the trial's number, to 6 decimals.
    """

    best: TrialResult
    chosen: TrialResult
    errors: dict[int, float]


def choose(trials: list[TrialResult], standard_errors: float) -> Choice:
    """Applies the rule.

    Args:
        trials: One at least, in any order.
        standard_errors: How many standard errors of the difference a trial may be below the best.
    """
    best = highest(trials, lambda trial: trial.scores.aucs[0], lambda trial: (trial.scores.cost, trial.number), DIGITS)
    gaps = {trial.number: np.subtract(best.scores.aucs, trial.scores.aucs) for trial in trials}
    errors = {number: round(standard_error(gap), 6) for number, gap in gaps.items()}
    near = [
        trial for trial in trials if not higher(gaps[trial.number][0], standard_errors * errors[trial.number], DIGITS)
    ]
    return Choice(best, min(near, key=lambda trial: (trial.scores.cost, trial.number)), errors)


def describe(standard_errors: float) -> str:
    """The rule in words."""
    errors = f"{standard_errors:g} standard error{'s' * (standard_errors != 1)}"
    return (
        f"the cheapest trial whose AUC is at most {errors} below that of the best, the standard error being that of "
        f"the paired difference over resampled users, and both rounded to {DIGITS} decimals"
    )
