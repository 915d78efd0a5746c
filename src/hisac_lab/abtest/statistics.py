"""Statistics of a two-arm test from per-user sufficient statistics, and what follows from a lift and its error."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from scipy import special, stats

from hisac_lab.abtest.records import Difference, Lift, Part, Verdict
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.evaluation.metrics import holm
from hisac_lab.ops.choice import higher, rounded

POWER = 0.8
BROKEN = 0.001
"""p-value below which what has to hold does not: a split in halves, an instrument, weights of logged exposures."""
Key = TypeVar("Key")


def assign(names: list[str], salt: str) -> Array:
    """Arms by hash: True for treatment; the same user and salt always give the same arm."""
    return np.array([hashlib.sha256(f"{salt}/{name}".encode()).digest()[0] % 2 == 1 for name in names])


def relative_lift(treatment: Array, control: Array, confidence: float) -> Lift:
    """Lift of a per-user mean with a delta-method interval.

    Args:
        treatment: One value per user of the treatment arm.
        control: One value per user of the control arm.
        confidence: Level of the interval.

    Raises:
        UserError: An arm has fewer than two users or values that are not numbers, or the control's mean is zero.
    """
    for arm, values in (("treatment", treatment), ("control", control)):
        if len(values) < 2:
            what = f"the {arm} arm has {len(values)} of the two users that a spread needs"
            raise UserError(SETTINGS, what, "raise it", "abtest.users")
        if not np.isfinite(values).all():
            what = f"{int((~np.isfinite(values)).sum()):,} of the values of the {arm} arm are not numbers"
            raise UserError("A/B test", what, "look at the clicks of these users")
    means = float(treatment.mean()), float(control.mean())
    if means[1] == 0:
        raise UserError(SETTINGS, "nobody in the control arm clicks: there is no lift", "raise it", "abtest.users")
    variances = float(treatment.var(ddof=1)) / len(treatment), float(control.var(ddof=1)) / len(control)
    return _ratio(means, variances, confidence)


def _ratio(means: tuple[float, float], variances: tuple[float, float], confidence: float) -> Lift:
    """Lift of two independent means, of treatment and control, by their own variances (delta method)."""
    (mean_t, mean_c), (var_t, var_c) = means, variances
    value = mean_t / mean_c - 1
    error = float(np.sqrt(var_t / mean_c**2 + var_c * mean_t**2 / mean_c**4))
    reach = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    spread = math.sqrt(var_t + var_c)
    p_value = float(2 * stats.norm.sf(abs(mean_t - mean_c) / spread)) if spread else float(mean_t == mean_c)
    return Lift(
        value=round(value, 6),
        low=round(value - reach, 6),
        high=round(value + reach, 6),
        p_value=round(p_value, 6),
    )


def cuped(values: Array, before: Array) -> tuple[Array, float]:
    """Values less what is known of the same users before the test explains (Deng et al., WSDM 2013, section 3).

    With several things known it is their least-squares regression, of both arms together.

    Args:
        values: One value per user, both arms; (n,).
        before: What was known of each before the test; (n,) or (n, k).

    Returns:
        Adjusted values with the same mean, and the share of variance removed.
    """
    known = before.reshape(len(values), -1)
    known = known - known.mean(axis=0)
    spread = known.std(axis=0)
    known = known[:, spread > 0] / spread[spread > 0]
    if not known.shape[1]:
        return values, 0.0
    theta = np.linalg.lstsq(known.T @ known, known.T @ (values - values.mean()), rcond=1e-10)[0]
    adjusted: Array = values - known @ theta
    removed = 1 - adjusted.var() / values.var() if values.var() > 0 else 0.0
    return adjusted, round(float(removed), 6)


def post_stratified(values: Array, treated: Array, stratum: Array, confidence: float) -> tuple[Lift, float]:
    """Lift of means over strata, each weighing as much as both arms together have users in it.

    Miratrix, Sekhon and Yu (Journal of the Royal Statistical Society B, 2013). Strata of which an arm has fewer than
    two users are joined with their neighbors.

    Args:
        values: One value per user, both arms; (n,).
        treated: Whether a user is of the treatment arm; (n,) bool. Each arm has two users or more.
        stratum: Number of each user's stratum, known before the test; neighbors are alike; (n,).
        confidence: Level of the interval.

    Returns:
        The lift, and the share that the variance of the difference of the means has lost.

    Raises:
        UserError: As `relative_lift` does.
    """
    relative_lift(values[treated], values[~treated], confidence)
    stratum = _whole_strata(stratum, treated)
    share = np.bincount(stratum) / len(stratum)
    means, variances, plain = [], [], 0.0
    for arm in (treated, ~treated):
        mine, group = values[arm], stratum[arm]
        count = np.bincount(group, minlength=len(share))
        mean = np.bincount(group, mine, len(share)) / count
        variance = np.bincount(group, (mine - mean[group]) ** 2, len(share)) / (count - 1)
        means.append(float((share * mean).sum()))
        variances.append(float((share**2 * variance / count).sum()))
        plain += float(mine.var(ddof=1)) / len(mine)
    removed = 1 - sum(variances) / plain if plain else 0.0
    return _ratio((means[0], means[1]), (variances[0], variances[1]), confidence), round(removed, 6)


def _whole_strata(stratum: Array, treated: Array) -> Array:
    """Numbers 0.. of strata of which each arm has two users: one that lacks them is one with the next; (n,)."""
    numbers, found = np.unique(stratum, return_inverse=True)
    arms = np.stack([np.bincount(found[arm], minlength=len(numbers)) for arm in (treated, ~treated)])
    label, number, have = np.zeros(len(numbers), np.int64), 0, np.zeros(2, np.int64)
    for at in range(len(numbers)):
        label[at], have = number, have + arms[:, at]
        if (have >= 2).all():
            number, have = number + 1, np.zeros(2, np.int64)
    whole: Array = np.minimum(label, max(0, number - 1))[found]
    return whole


def sample_ratio(treatment: int, control: int) -> float:
    """p-value of the chi-square test that users fell into equal halves."""
    return round(float(stats.chisquare([treatment, control]).pvalue), 6)


def least(p_values: Mapping[str, float]) -> tuple[str, float, float]:
    """Whose p-value is the least, the value, and it by Bonferroni's correction for their number.

    Six decimals count, as many as a corrected value near `BROKEN` needs; of equals the first by name.
    """
    kept = {name: rounded(p_value, 6) for name, p_value in p_values.items()}
    name = min(kept, key=lambda name: (kept[name], name))
    return name, kept[name], rounded(min(1.0, kept[name] * len(kept)), 6)


def combine(parts: Mapping[str, Part]) -> tuple[float, float]:
    """Standard error of a sum of independent parts, and its degrees of freedom by Welch and Satterthwaite.

    Parts that were not measured, and those without an error, are left out; the degrees are infinite where none is left.
    """
    errors = [(part.error, part.degrees) for part in parts.values() if part.error]
    variance = sum(error**2 for error, _ in errors)
    spread = sum(error**4 / degrees for error, degrees in errors if degrees)
    return math.sqrt(variance), variance**2 / spread if spread else math.inf


def two_sided(value: float, error: float, degrees: float) -> float:
    """p-value of no effect, by Student's t."""
    return float(2 * stats.t.sf(abs(value) / error, degrees)) if error else float(value == 0)


def not_within(value: float, error: float, degrees: float, margin: float) -> float:
    """p-value that an effect is not within the margin: the larger of two one-sided ones (Schuirmann 1987)."""
    if not error:
        return float(abs(value) >= margin)
    return float(stats.t.sf((margin - abs(value)) / error, degrees))


def power_of(effect: float, error: float, degrees: float, confidence: float) -> float:
    """Chance that a two-sided test finds an effect of this size, by the noncentral t."""
    if not error:
        return float(effect != 0)
    if math.isinf(degrees):
        reach = float(stats.norm.ppf(0.5 + confidence / 2))
        shift = abs(effect) / error
        return float(stats.norm.sf(reach - shift) + stats.norm.cdf(-reach - shift))
    reach = float(stats.t.ppf(0.5 + confidence / 2, degrees))
    found = stats.nct(degrees, abs(effect) / error)
    other = np.nan_to_num(found.cdf(-reach))  # SciPy gives NaN where this tail is below what it can add
    return float(np.clip(found.sf(reach) + other, 0, 1))


def detectable(error: float, degrees: float, confidence: float, power: float = POWER) -> float:
    """The least effect that is found with such power: a multiple of the error (Bloom, Evaluation Review 1995)."""
    return float(stats.t.ppf(0.5 + confidence / 2, degrees) + stats.t.ppf(power, degrees)) * error


def sequence_reach(error: float, first: float, confidence: float) -> float:
    """Half-width of a confidence sequence: its intervals hold together at all looks, however many there will be.

    The normal mixture of Robbins (Annals of Mathematical Statistics 1970) for an estimate whose information grows by
    independent steps, with an estimated error as in Waudby-Smith et al. (Annals of Statistics 2024, theorem 2.2). It is
    narrowest, in errors, at the first look.

    Args:
        error: Standard error at this look.
        first: At the first look.
        confidence: That all intervals hold together.
    """
    if not error:
        return 0.0
    level = (1 - confidence) ** 2
    weight = -float(special.lambertw(-level / math.e, -1).real) - 1  # the mixture's variance in units of `first`
    ratio = (error / first) ** 2
    return error * math.sqrt((1 + ratio / weight) * math.log((1 + weight / ratio) / level))


def level_of_look(confidence: float, looks: int) -> float:
    """Level of each interval so that as many hold together, whatever ties them (Sidak, JASA 1967)."""
    return float(confidence ** (1 / looks))


def error_level(p_holm: float, p_value: float, tests: int, confidence: float) -> float:
    """How often the interval of one of several tests may err: it leaves out zero where the corrected p-value is small.

    The correction multiplied the p-value by 1 to the number of tests, so the chance of a false alarm is divided by as
    much.

    Args:
        p_holm: The corrected p-value.
        p_value: As it was.
        tests: How many.
        confidence: Level of an interval of one test.
    """
    times = min(max(p_holm / p_value, 1.0), tests) if p_value else tests
    return (1 - confidence) / times


def differences(pairs: Mapping[Key, tuple[Array, Array]], confidence: float) -> dict[Key, Difference]:
    """Paired differences of per-user means by Student's t, with Holm's correction over all of them.

    Args:
        pairs: Values of the treatment and of the control, of the same T users; two (T,).
        confidence: One less the chance that any interval leaves out zero where there is no difference.
    """
    read = {}
    for key, (treatment, control) in pairs.items():
        gap = treatment - control
        error = float(gap.std(ddof=1)) / math.sqrt(len(gap))
        read[key] = float(gap.mean()), error, len(gap) - 1
    p_values = [two_sided(*one) for one in read.values()]
    found = {}
    for (key, (value, error, degrees)), p_value, p_holm in zip(read.items(), p_values, holm(p_values), strict=True):
        level = error_level(p_holm, p_value, len(pairs), confidence)
        reach = float(stats.t.isf(level / 2, degrees)) * error
        treatment, control = pairs[key]
        found[key] = Difference(
            control=round(float(control.mean()), 6),
            treatment=round(float(treatment.mean()), 6),
            value=round(value, 6),
            low=round(value - reach, 6),
            high=round(value + reach, 6),
            p_holm=round(p_holm, 6),
        )
    return found


def decide(value: float, p_holm: float, p_equivalence: float, confidence: float) -> Verdict:
    """Better or worse where no difference is refuted, equivalent where a difference beyond the margin is, as rounded.

    Args:
        value: The lift.
        p_holm: Of no difference, corrected.
        p_equivalence: That it is not within the margin, corrected.
        confidence: One less the chance of a false alarm.
    """
    alpha = 1 - confidence
    if higher(alpha, p_holm):
        return "better" if rounded(value, 6) > 0 else "worse"
    return "equivalent" if higher(alpha, p_equivalence) else "undecided"
