"""The lift of a policy: in expected clicks, on the same users and pools as the control, with every source of chance.

With known click probabilities no click has to be drawn: the mean number of clicks of each slate is a sum. What varies
beside is stated part by part. Users and pools: the delta method over users as clusters, of which the spread between a
user's pools is a share. World: the spread of the lift over worlds refitted on resampled users. Family: the distance of
the lift from those in worlds of other families. Seeds: the spread of the two models' runs beyond what users explain.
The interval is Student's, with the degrees of freedom of Welch and Satterthwaite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hisac_lab.abtest.records import Lift, Part
from hisac_lab.abtest.statistics import combine, error_level, not_within, two_sided
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError

ARMS = "A/B test"


@dataclass(frozen=True)
class Spread:
    """Variance of a run's click rate among those of its model, relative to the control's rate.

    Attributes:
        variance: Pooled over the models that were asked.
        degrees: Of freedom behind it.
    """

    variance: float
    degrees: int


@dataclass(frozen=True)
class Estimate:
    """A lift and its error.

    Attributes:
        lift: With the interval of all parts.
        parts: Sources of chance.
        error: Of all parts.
        degrees: Of that.
    """

    lift: Lift
    parts: dict[str, Part]
    error: float
    degrees: float

    def corrected(self, p_holm: float, tests: int, confidence: float) -> Lift:
        """The lift as one of several: its interval leaves out zero where the corrected p-value is small enough.

        Args:
            p_holm: The corrected p-value.
            tests: How many.
            confidence: Level of an interval of one test.
        """
        level = error_level(p_holm, self.lift.p_value, tests, confidence)
        reach = float(stats.t.isf(level / 2, self.degrees)) * self.error
        return Lift(
            value=self.lift.value,
            low=round(self.lift.value - reach, 6),
            high=round(self.lift.value + reach, 6),
            p_value=round(p_holm, 6),
        )

    def not_within(self, margin: float) -> float:
        """p-value that the lift is not within the margin."""
        return not_within(self.lift.value, self.error, self.degrees, margin)


def expected_clicks(chances: Array, places: Array, examined: Array) -> Array:
    """Mean clicks of each slate: of every place, that it is looked at times that its item is liked.

    Args:
        chances: Of each item in the pools; (T, visits, pool).
        places: Of the shown items in their pools; (T, visits, slate).
        examined: Chance that each place is looked at; (slate,).

    Returns:
        (T, visits).
    """
    clicks: Array = (np.take_along_axis(chances, places, axis=2) * examined).sum(axis=2)
    return clicks


def seed_spread(clicks: Iterable[Array], base: float) -> Spread | None:
    """The spread over seeds, pooled over models; None where each model has one run.

    Runs are asked on the same users, so the variance of their rates holds, beside their own, a share of what a run and
    a user have in common (the interaction of a crossed design; Searle, Casella and McCulloch, Variance Components,
    1992). The part of the users has that already, and here it is taken out.

    Args:
        clicks: Expected clicks of each model that a seed varies; (seeds, T, visits).
        base: The control's mean rate, which counts as 1.
    """
    users = [arm.mean(axis=2) / base for arm in clicks]
    degrees = sum(len(arm) - 1 for arm in users)
    if not degrees:
        return None
    squares = sum(float(((arm.mean(axis=1) - arm.mean()) ** 2).sum()) - _interaction(arm) for arm in users)
    return Spread(max(0.0, squares / degrees), degrees)


def _interaction(arm: Array) -> float:
    """What the squares of its runs' means, about their mean, hold of runs with users; (seeds, T)."""
    count: int = arm.shape[1]
    own: Array = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0) + arm.mean()
    squares = float((own**2).sum())
    return squares / (count * max(1, count - 1))


def estimate(
    control: Array,
    treatment: Array,
    refitted: Sequence[float],
    confidence: float,
    drawn: tuple[bool, bool] = (True, True),
    elsewhere: Sequence[float] = (),
) -> Estimate:
    """The lift of a treatment.

    Args:
        control: Expected clicks of the control; (seeds, T, visits).
        treatment: Of the treatment, on the same users and pools; (seeds, T, visits).
        refitted: The lift in each refitted world; none where the truth is known.
        confidence: Level of the interval.
        drawn: Whether control and treatment are of seeds that could have been others. Their spread is measured where
            one of these has two runs.
        elsewhere: The lift in worlds of other families, each as likely to be right as this one.

    Raises:
        UserError: The arms are not of the same two users or more, a chance is not a number, or the control is never
            clicked.
    """
    _comparable(control, treatment)
    base, other = control.mean(axis=0), treatment.mean(axis=0)
    mean = float(base.mean())
    if mean == 0:
        what = "nobody ever clicks on what the control shows: there is no lift"
        raise UserError(SETTINGS, what, "give another control", "abtest.control")
    value = float(other.mean()) / mean - 1
    parts = clustered((other - (1 + value) * base) / mean)
    if len(refitted):
        parts["world"] = Part(error=round(float(np.std(refitted, ddof=1)), 8), degrees=len(refitted) - 1)
    else:
        parts["world"] = Part(error=0.0)
    if len(elsewhere):
        between = sum((value - other) ** 2 for other in elsewhere) / (1 + len(elsewhere))
        parts["family"] = Part(error=round(math.sqrt(between), 8))
    else:
        parts["family"] = Part(error=None if len(refitted) else 0.0)
    parts["seeds"] = _seeds(control, treatment, mean, value, drawn)
    parts["clicks"] = Part(error=0.0)
    error, degrees = combine(parts)
    reach = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * error
    lift = Lift(
        value=round(value, 6),
        low=round(value - reach, 6),
        high=round(value + reach, 6),
        p_value=round(two_sided(value, error, degrees), 6),
    )
    return Estimate(lift, parts, error, degrees)


def _seeds(control: Array, treatment: Array, base: float, lift: float, drawn: tuple[bool, bool]) -> Part:
    """The part of the seeds: of the two models' own runs, since models differ in how much a seed changes them."""
    if not any(drawn):
        return Part(error=0.0)
    spread = seed_spread((arm for arm, varies in zip((control, treatment), drawn, strict=True) if varies), base)
    if spread is None:
        return Part(error=None)
    share = drawn[1] / len(treatment) + drawn[0] * (1 + lift) ** 2 / len(control)
    return Part(error=round(math.sqrt(spread.variance * share), 8), degrees=spread.degrees)


def _comparable(control: Array, treatment: Array) -> None:
    """Raises a UserError where no lift can be read from two arms; (seeds, T, visits)."""
    if control.shape[1:] != treatment.shape[1:]:
        told = " and ".join(f"{arm.shape[1]:,} users with {arm.shape[2]} slates" for arm in (control, treatment))
        raise UserError(ARMS, f"control and treatment were asked about other candidates: {told}", "ask both the same")
    if control.shape[1] < 2:
        what = f"a lift needs two users for its error, there are {control.shape[1]}"
        raise UserError(ARMS, what, "give a longer test period")
    broken = sum(int((~np.isfinite(arm)).sum()) for arm in (control, treatment))
    if broken:
        raise UserError(ARMS, f"{broken:,} expected clicks are not numbers", "look at the scores of that model")


def clustered(gap: Array) -> dict[str, Part]:
    """Error of a mean over users, and how much of it is the draw of pools.

    Args:
        gap: What each user's pool adds; (T, visits). Of one pool each the users' part holds both.
    """
    users, visits = gap.shape
    total = float(gap.mean(axis=1).var(ddof=1)) / users
    if visits == 1:
        return {"users": Part(error=round(math.sqrt(total), 8), degrees=users - 1), "pools": Part(error=None)}
    pools = min(total, float(gap.var(axis=1, ddof=1).mean()) / visits / users)
    return {
        "users": Part(error=round(math.sqrt(total - pools), 8), degrees=users - 1),
        "pools": Part(error=round(math.sqrt(pools), 8), degrees=users * (visits - 1)),
    }


def lift_of(control: Iterable[Array], treatment: Iterable[Array]) -> float:
    """Relative lift in expected clicks, means over seeds."""
    return float(np.mean(list(treatment)) / np.mean(list(control)) - 1)
