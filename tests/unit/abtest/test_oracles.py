"""The A/B test's statistics are those of statsmodels and tea-tasting, which others wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hisac_lab.abtest.records import Part
from hisac_lab.abtest.statistics import (
    combine,
    cuped,
    not_within,
    power_of,
    relative_lift,
    sample_ratio,
    two_sided,
)
from hisac_lab.base.artifacts import Array
from hisac_lab.evaluation.metrics import holm

MEND = "pip install -c constraints.txt -e '.[test]'"
sm = pytest.importorskip("statsmodels.api", reason=MEND)
tt = pytest.importorskip("tea_tasting", reason=MEND)

CONFIDENCE = 0.9
EXACT = 1e-9
ROUNDED = 5.1e-7
"""Of what records hold with six decimals."""


@pytest.fixture
def arms() -> tuple[Array, Array]:
    """Clicks of users of two arms of unequal sizes and spreads."""
    random = np.random.default_rng(0)
    return random.gamma(2.0, 1.1, 70), random.gamma(1.5, 1.2, 45)


def compared(arms: tuple[Array, Array]) -> Any:
    """Both arms, as statsmodels compares them."""
    return sm.stats.CompareMeans(*map(sm.stats.DescrStatsW, arms))


def effect(arms: tuple[Array, Array]) -> tuple[float, float, float]:
    """Difference of the means, its error and degrees of freedom."""
    parts = {
        str(place): Part(error=float(arm.std(ddof=1)) / len(arm) ** 0.5, degrees=len(arm) - 1)
        for place, arm in enumerate(arms)
    }
    return (float(arms[0].mean() - arms[1].mean()), *combine(parts))


def test_parts_of_an_error_join_as_welchs_test_joins_two_arms(arms: tuple[Array, Array]) -> None:
    value, error, degrees = effect(arms)
    statistic, p_value, wanted = compared(arms).ttest_ind(usevar="unequal")
    assert value / error == pytest.approx(statistic, rel=EXACT)
    assert degrees == pytest.approx(wanted, rel=EXACT)
    assert two_sided(value, error, degrees) == pytest.approx(p_value, abs=EXACT)


@pytest.mark.parametrize("margin", [0.05, 0.5, 2.0])
def test_equivalence_is_that_of_two_one_sided_tests(arms: tuple[Array, Array], margin: float) -> None:
    wanted, *_ = compared(arms).ttost_ind(-margin, margin, usevar="unequal")
    assert not_within(*effect(arms), margin) == pytest.approx(wanted, abs=EXACT)


@pytest.mark.parametrize("size", [0.01, 0.2, 0.7])
def test_power_is_that_of_a_t_test_and_of_a_normal_one(size: float) -> None:
    users = 40
    wanted = sm.stats.TTestPower().power(size, nobs=users, alpha=1 - CONFIDENCE)
    assert power_of(size, users**-0.5, users - 1, CONFIDENCE) == pytest.approx(wanted, abs=EXACT)
    wanted = sm.stats.NormalIndPower(ddof=0).power(size, users, 1 - CONFIDENCE, ratio=0)
    assert power_of(size, users**-0.5, np.inf, CONFIDENCE) == pytest.approx(wanted, abs=EXACT)


def test_corrected_p_values_are_holms() -> None:
    p_values = np.random.default_rng(1).random(12) ** 3
    assert holm(list(p_values)) == pytest.approx(sm.stats.multipletests(p_values, method="holm")[1], abs=EXACT)


def test_what_cuped_leaves_is_what_a_regression_leaves() -> None:
    random = np.random.default_rng(2)
    before = random.normal(3, 2, (200, 3))
    values = before @ [0.5, -0.2, 0.1] + random.normal(size=200)
    fitted = sm.OLS(values, sm.add_constant(before)).fit()
    adjusted, removed = cuped(values, before)
    assert adjusted == pytest.approx(fitted.resid + values.mean(), abs=EXACT)
    assert removed == pytest.approx(fitted.rsquared, abs=ROUNDED)


def test_the_sample_ratio_is_the_chi_square_test_of_a_half() -> None:
    _, p_value, _ = sm.stats.proportions_chisquare(5_120, 10_000, value=0.5)
    assert sample_ratio(5_120, 4_880) == pytest.approx(p_value, abs=ROUNDED)


@pytest.mark.parametrize("covariate", [None, "before"])
def test_a_lift_with_and_without_cuped_is_tea_tastings(covariate: str | None) -> None:
    """Its interval is that of the logarithm of the ratio: the same error, by the delta method, on another scale."""
    random = np.random.default_rng(3)
    before, arm = random.gamma(2.0, 1.0, 900), random.integers(0, 2, 900)
    clicks = 0.6 * before + random.gamma(2.0, 1.0, 900) + 0.2 * arm
    metric = tt.Mean("clicks", covariate, use_t=False, equal_var=False, confidence_level=CONFIDENCE)
    users = pd.DataFrame({"variant": arm, "clicks": clicks, "before": before})
    wanted = tt.Experiment(clicks=metric).analyze(users, control=0)["clicks"]
    values = clicks if covariate is None else cuped(clicks, before)[0]
    found = relative_lift(values[arm == 1], values[arm == 0], CONFIDENCE)
    ratio = 1 + wanted.rel_effect_size
    reach = ratio * np.log((1 + wanted.rel_effect_size_ci_upper) / ratio)
    assert found.value == pytest.approx(wanted.rel_effect_size, abs=ROUNDED)
    assert found.interval == pytest.approx((found.value - reach, found.value + reach), abs=2 * ROUNDED)
    assert found.p_value == pytest.approx(wanted.pvalue, abs=ROUNDED)
