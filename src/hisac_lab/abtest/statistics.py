"""Statistics of a two-arm test from per-user sufficient statistics."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import stats

from hisac_lab.abtest.records import Lift
from hisac_lab.base.artifacts import Array
from hisac_lab.ops.choice import rounded


def assign(names: list[str], salt: str) -> Array:
    """Arms by hash: True for treatment; the same user and salt always give the same arm."""
    return np.array([hashlib.sha256(f"{salt}/{name}".encode()).digest()[0] % 2 == 1 for name in names])


def relative_lift(treatment: Array, control: Array, confidence: float) -> Lift:
    """Lift of a per-user mean with a delta-method interval.

    Args:
        treatment: One value per user of the treatment arm.
        control: One value per user of the control arm.
        confidence: Level of the interval.
    """
    mean_t, mean_c = float(treatment.mean()), float(control.mean())
    var_t, var_c = treatment.var(ddof=1) / len(treatment), control.var(ddof=1) / len(control)
    value = mean_t / mean_c - 1
    error = float(np.sqrt(var_t / mean_c**2 + var_c * mean_t**2 / mean_c**4))
    reach = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    z = (mean_t - mean_c) / float(np.sqrt(var_t + var_c))
    p_value = float(2 * stats.norm.sf(abs(z)))
    return Lift(
        value=round(value, 6),
        low=round(value - reach, 6),
        high=round(value + reach, 6),
        p_value=round(p_value, 6),
    )


def verdict(lift: Lift) -> str:
    """Won or lost where the interval, as rounded, excludes zero, undecided otherwise."""
    return "won" if rounded(lift.low) > 0 else "lost" if rounded(lift.high) < 0 else "undecided"


def cuped(values: Array, before: Array) -> tuple[Array, float]:
    """Values less what the same user's behavior before the test explains (Deng et al., WSDM 2013, section 3).

    Args:
        values: One value per user, both arms.
        before: The same user's value before the test.

    Returns:
        Adjusted values with the same mean, and the share of variance removed.
    """
    covariance = np.cov(values, before)
    theta = covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else 0.0
    adjusted: Array = values - theta * (before - before.mean())
    removed = 1 - adjusted.var() / values.var() if values.var() > 0 else 0.0
    return adjusted, round(float(removed), 6)


def sample_ratio(treatment: int, control: int) -> float:
    """p-value of the chi-square test that users fell into equal halves."""
    return round(float(stats.chisquare([treatment, control]).pvalue), 6)
