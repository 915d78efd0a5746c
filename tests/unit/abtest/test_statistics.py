"""Statistics of a two-arm test: they hold their promises when the truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from kit import says
from scipy import stats
from sklearn.linear_model import LinearRegression

from hisac_lab.abtest.statistics import (
    assign,
    cuped,
    decide,
    detectable,
    differences,
    least,
    level_of_look,
    not_within,
    post_stratified,
    power_of,
    relative_lift,
    sample_ratio,
    sequence_reach,
    two_sided,
)

NAMES = [f"user-{number}" for number in range(20_000)]
ROUNDS = 500


def _within(hits: int, rounds: int, share: float) -> bool:
    """Whether a count fits a binomial: four standard deviations to each side."""
    return abs(hits - rounds * share) < 4 * math.sqrt(rounds * share * (1 - share))


def _tests(lift: float, users: int = 400, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Click rates of both arms over 20 exposures per user; users differ, the treatment's rate is higher by `lift`."""
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        rates = random.beta(4, 36, (2, users)) * np.array([[1 + lift], [1]])
        treatment, control = random.binomial(20, rates) / 20
        yield treatment, control


def test_arms_are_stable_and_known() -> None:
    """Hashes are part of an experiment's record: another Python or machine must give the same arms."""
    assert assign([f"user-{number}" for number in range(10)], "salt").astype(int).tolist() == [
        0,
        0,
        1,
        1,
        0,
        1,
        0,
        0,
        0,
        1,
    ]
    np.testing.assert_array_equal(assign(NAMES, "salt"), assign(NAMES, "salt"))
    np.testing.assert_array_equal(assign(NAMES[::-1], "salt"), assign(NAMES, "salt")[::-1])


@pytest.mark.parametrize("salt", ["a", "b", "hisac-lab/hisac", "hisac-lab/aa"])
def test_arms_are_balanced(salt: str) -> None:
    assert _within(int(assign(NAMES, salt).sum()), len(NAMES), 0.5)


def test_experiments_with_other_salts_split_independently() -> None:
    one, other = assign(NAMES, "one"), assign(NAMES, "other")
    assert _within(int((one == other).sum()), len(NAMES), 0.5)


@pytest.mark.parametrize("lift", [-0.2, 0.0, 0.3])
def test_the_interval_covers_the_true_lift_as_often_as_it_says(lift: float) -> None:
    covered = 0
    for treatment, control in _tests(lift):
        found = relative_lift(treatment, control, 0.95)
        covered += found.low <= lift <= found.high
    assert _within(covered, ROUNDS, 0.95)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_without_a_difference_the_test_is_fooled_as_often_as_it_says(alpha: float) -> None:
    fooled = sum(relative_lift(one, other, 0.95).p_value < alpha for one, other in _tests(0.0, seed=1))
    assert _within(fooled, ROUNDS, alpha)


def test_a_real_difference_is_found() -> None:
    found = [relative_lift(one, other, 0.95) for one, other in _tests(0.3)]
    assert np.mean([lift.low > 0 for lift in found]) > 0.9
    assert np.mean([lift.value for lift in found]) == pytest.approx(0.3, abs=0.02)


def test_a_lift_is_worked_out_by_hand() -> None:
    treatment, control = np.array([0.2, 0.4, 0.6]), np.array([0.1, 0.3])
    found = relative_lift(treatment, control, 0.9)
    error = np.sqrt(0.04 / 3 / 0.2**2 + 0.02 / 2 * 0.4**2 / 0.2**4)
    reach = stats.norm.ppf(0.95) * error
    z = 0.2 / np.sqrt(0.04 / 3 + 0.02 / 2)
    by_hand = {"value": 1.0, "low": 1 - reach, "high": 1 + reach, "p_value": 2 * stats.norm.sf(z)}
    assert found.facts() == pytest.approx(by_hand, abs=1e-6)


def test_a_higher_confidence_gives_a_wider_interval() -> None:
    treatment, control = next(_tests(0.1))
    narrow, wide = (relative_lift(treatment, control, level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
    assert wide.p_value == narrow.p_value


def _before_and_during(seed: int, likeness: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    before = random.normal(5, 1, 4000)
    return before, likeness * (before - 5) + np.sqrt(1 - likeness**2) * random.normal(size=4000)


@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.9])
def test_cuped_keeps_the_mean_and_removes_the_explained_variance(likeness: float) -> None:
    before, values = _before_and_during(0, likeness)
    adjusted, removed = cuped(values, before)
    assert adjusted.mean() == pytest.approx(values.mean(), abs=1e-12)
    assert removed == pytest.approx(np.corrcoef(values, before)[0, 1] ** 2, abs=1e-5)
    assert removed == pytest.approx(likeness**2, abs=0.04)
    assert adjusted.var() == pytest.approx(values.var() * (1 - removed), rel=1e-4)


def test_cuped_keeps_the_difference_of_the_arms_and_sharpens_it() -> None:
    plain, sharp = [], []
    for seed in range(200):
        before, values = _before_and_during(seed, 0.8)
        treated = assign(NAMES[:4000], str(seed))
        values = values + 0.1 * treated
        adjusted, _ = cuped(values, before)
        plain.append(values[treated].mean() - values[~treated].mean())
        sharp.append(adjusted[treated].mean() - adjusted[~treated].mean())
    for found in (plain, sharp):
        assert np.mean(found) == pytest.approx(0.1, abs=4 * np.std(found) / np.sqrt(200))
    assert np.std(sharp) < 0.75 * np.std(plain)


def test_cuped_by_several_things_known_is_their_regression() -> None:
    """Ordinary least squares of scikit-learn, to 1e-9; a column that repeats another changes nothing."""
    random = np.random.default_rng(0)
    known = random.normal(size=(500, 3)) * [1.0, 10.0, 0.1]
    values = 0.3 * known[:, 0] + 0.05 * known[:, 1] + random.normal(size=500)
    adjusted, removed = cuped(values, known)
    fitted = LinearRegression().fit(known, values)
    np.testing.assert_allclose(adjusted, values - fitted.predict(known) + values.mean(), atol=1e-9)
    assert removed == pytest.approx(fitted.score(known, values), abs=1e-6)
    assert removed > max(cuped(values, column)[1] for column in known.T)
    twice = np.column_stack([known, known[:, :1]])
    np.testing.assert_allclose(cuped(values, twice)[0], adjusted, atol=1e-9)


def test_cuped_without_any_variation_changes_nothing() -> None:
    values = np.array([1.0, 2.0, 3.0])
    adjusted, removed = cuped(values, np.ones(3))
    np.testing.assert_array_equal(adjusted, values)
    assert removed == 0
    assert cuped(np.ones(3), values)[1] == 0


def _stratified(seed: int, users: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of users in three strata of different size and level, and an effect of a tenth of the mean, 2.4."""
    random = np.random.default_rng(seed)
    stratum = random.choice(3, users, p=[0.5, 0.3, 0.2]) * 4 + 1
    treated = random.random(users) < 0.5
    values = np.array([0, 1.0, 0, 0, 0, 3.0, 0, 0, 0, 5.0])[stratum] + random.normal(0, 1, users) + 0.24 * treated
    return values, treated, stratum


def test_post_stratification_weighs_strata_as_both_arms_have_them() -> None:
    """Its closed form, stratum by stratum, to 1e-6 as rounded; the reference is a regression on their indicators."""
    values, treated, stratum = _stratified(0)
    found, removed = post_stratified(values, treated, stratum, 0.9)
    means, variances, plain = [], [], 0.0
    for arm in (treated, ~treated):
        each = [values[arm & (stratum == one)] for one in (1, 5, 9)]
        share = [np.mean(stratum == one) for one in (1, 5, 9)]
        means.append(sum(w * one.mean() for w, one in zip(share, each, strict=True)))
        variances.append(sum(w**2 * one.var(ddof=1) / len(one) for w, one in zip(share, each, strict=True)))
        plain += values[arm].var(ddof=1) / arm.sum()
    error = math.sqrt(variances[0] / means[1] ** 2 + variances[1] * means[0] ** 2 / means[1] ** 4)
    reach = stats.norm.ppf(0.95) * error
    value = means[0] / means[1] - 1
    by_hand = {"value": value, "low": value - reach, "high": value + reach}
    by_hand["p_value"] = 2 * stats.norm.sf(abs(means[0] - means[1]) / math.sqrt(sum(variances)))
    assert found.facts() == pytest.approx(by_hand, abs=1e-6)
    assert removed == pytest.approx(1 - sum(variances) / plain, abs=1e-6)
    indicators = np.stack([stratum == one for one in (1, 5, 9)], axis=1).astype(float)
    by_arm = np.concatenate([indicators * treated[:, None], indicators * ~treated[:, None]], axis=1)
    slopes = LinearRegression(fit_intercept=False).fit(by_arm, values).coef_.reshape(2, 3) @ indicators.mean(axis=0)
    assert found.value == pytest.approx(slopes[0] / slopes[1] - 1, abs=1e-6)


def test_post_stratified_intervals_cover_the_lift_and_are_narrower() -> None:
    inside, narrower, shares = 0, 0, []
    for seed in range(300):
        values, treated, stratum = _stratified(seed)
        found, removed = post_stratified(values, treated, stratum, 0.95)
        plain = relative_lift(values[treated], values[~treated], 0.95)
        inside += found.low <= 0.1 <= found.high
        narrower += found.high - found.low < plain.high - plain.low
        shares.append(removed)
    assert _within(inside, 300, 0.95)
    assert narrower == 300
    assert np.mean(shares) == pytest.approx(2.44 / 3.44, abs=0.02)


def test_strata_that_an_arm_is_not_in_are_joined_and_one_stratum_is_the_plain_lift() -> None:
    values, treated, stratum = _stratified(1)
    plain = relative_lift(values[treated], values[~treated], 0.95)
    assert post_stratified(values, treated, np.zeros(len(values), int), 0.95) == (plain, 0.0)
    lonely = np.where(stratum == 5, np.where(treated, 5, 6), stratum)
    joined = np.where(stratum == 5, 6, stratum)
    assert post_stratified(values, treated, lonely, 0.95) == post_stratified(values, treated, joined, 0.95)
    assert post_stratified(values, treated, treated.astype(int), 0.95) == (plain, 0.0)
    assert post_stratified(values, treated, np.arange(len(values)), 0.95)[0].p_value < 1


def test_the_least_p_value_is_found_where_correction_makes_small_ones_count() -> None:
    many = {f"m{number:02}": 0.5 for number in range(40)}
    assert least(many | {"zz": 0.00001, "aa": 0.00004}) == ("zz", 0.00001, 0.00042)
    assert least({"b": 0.3, "a": 0.3}) == ("a", 0.3, 0.6)
    assert least({"b": 0.7, "a": 0.8}) == ("b", 0.7, 1.0)


@pytest.mark.parametrize(
    ("treatment", "control", "suspicious"),
    [(5200, 4800, True), (4800, 5200, True), (5020, 4980, False), (52, 48, False), (5000, 5000, False)],
)
def test_an_uneven_split_is_detected_when_it_cannot_be_chance(treatment: int, control: int, suspicious: bool) -> None:
    p_value = sample_ratio(treatment, control)
    z = abs(treatment - control) / np.sqrt(treatment + control)
    assert p_value == pytest.approx(2 * stats.norm.sf(z), abs=1e-6)
    assert (p_value < 0.001) == suspicious


@pytest.mark.parametrize(
    ("value", "p_holm", "p_equivalence", "said"),
    [
        (0.02, 0.0499, 0.9, "better"),
        (0.02, 0.05, 0.9, "undecided"),
        (0.02, 0.04996, 0.9, "undecided"),
        (-0.02, 0.001, 0.9, "worse"),
        (0.0001, 0.3, 0.049, "equivalent"),
        (0.0001, 0.001, 0.001, "better"),
        (0.0001, 0.3, 0.05, "undecided"),
    ],
)
def test_the_verdict_is_that_of_the_corrected_p_values_as_rounded(
    value: float, p_holm: float, p_equivalence: float, said: str
) -> None:
    assert decide(value, p_holm, p_equivalence, 0.95) == said


def test_p_values_of_a_lift_are_those_of_students_tests() -> None:
    """Beside SciPy's one-sample tests of the same numbers."""
    values = np.random.default_rng(0).normal(0.3, 1, 25)
    error = float(values.std(ddof=1) / np.sqrt(25))
    mean = float(values.mean())
    assert two_sided(mean, error, 24) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)
    margin = 0.9
    one = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    other = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert not_within(mean, error, 24, margin) == pytest.approx(max(one, other), rel=1e-9)
    assert two_sided(0.0, 0.0, 24) == 1
    assert two_sided(0.1, 0.0, 24) == 0
    assert not_within(0.1, 0.0, 24, 0.2) == 0


def test_power_is_the_share_of_tests_that_find_the_effect() -> None:
    random, users, effect = np.random.default_rng(0), 12, 0.8
    drawn = random.normal(effect, 1, (20_000, users))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert power_of(effect, 1 / math.sqrt(users), users - 1, 0.95) == pytest.approx(found.mean(), abs=0.012)
    assert power_of(0.0, 1.0, 30, 0.95) == pytest.approx(0.05, abs=1e-6)
    assert power_of(2.0, 1.0, math.inf, 0.9) == pytest.approx(power_of(2.0, 1.0, 1e6, 0.9), abs=1e-4)
    assert power_of(-2.0, 1.0, 30, 0.9) == pytest.approx(power_of(2.0, 1.0, 30, 0.9))
    assert power_of(0.1, 0.0, 30, 0.9) == 1


@pytest.mark.parametrize("degrees", [2, 4, 38, 198, 2e6])
def test_power_rises_to_one_with_the_effect(degrees: float) -> None:
    found = [power_of(effect, 1.0, degrees, 0.99) for effect in (0, 1, 2, 3, 5, 8, 10, 16, 20, 40, 1000)]
    assert found == sorted(found)
    assert found[-1] == 1


def test_the_detectable_effect_is_found_with_its_power() -> None:
    assert detectable(1.0, math.inf, 0.95) == pytest.approx(1.959964 + 0.841621, abs=1e-6)
    assert power_of(detectable(0.3, 40, 0.95), 0.3, 40, 0.95) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_a_confidence_sequence_is_narrowest_at_its_first_look(confidence: float) -> None:
    """Beside a search over the mixture's variance of Robbins' boundary, at information 1."""
    level = (1 - confidence) ** 2
    weights = np.geomspace(0.1, 100, 20_001)
    best = np.sqrt((1 + 1 / weights) * np.log((1 + weights) / level)).min()
    assert sequence_reach(1.0, 1.0, confidence) == pytest.approx(best, rel=1e-7)
    assert sequence_reach(0.3, 0.3, confidence) == pytest.approx(0.3 * best, rel=1e-7)
    in_errors = [sequence_reach(error, 1.0, confidence) / error for error in (1.0, 0.7, 0.3, 0.1)]
    assert in_errors == sorted(in_errors)
    assert sequence_reach(0.0, 1.0, confidence) == 0


def _looks(effect: float, days: int, rounds: int, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and their errors on each day: users differ for good by `shared` and each day by 1; (rounds, days)."""
    random, users = np.random.default_rng(0), 400
    number = np.arange(1, days + 1)
    steady = random.normal(0, shared, (rounds, 1))
    daily = np.cumsum(random.normal(0, 1, (rounds, days)), axis=1) / number
    return effect + (steady + daily) / math.sqrt(users), np.sqrt((shared**2 + 1 / number) / users)


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_looking_daily_fools_a_fixed_interval_and_neither_bound_nor_sequence(shared: float) -> None:
    days, rounds = 14, 4000
    values, errors = _looks(0.0, days, rounds, shared)
    fixed = (abs(values) > 1.959964 * errors).any(axis=1).mean()
    reach = float(stats.norm.ppf(0.5 + level_of_look(0.95, days) / 2))
    bound = (abs(values) > reach * errors).any(axis=1).mean()
    widths = np.array([sequence_reach(error, errors[0], 0.95) for error in errors])
    sequence = (abs(values) > widths).any(axis=1).mean()
    assert fixed > 0.08
    assert bound <= 0.05
    assert sequence <= 0.05


def test_levels_of_independent_looks_multiply_to_that_of_all() -> None:
    assert level_of_look(0.95, 14) ** 14 == pytest.approx(0.95, rel=1e-12)
    assert level_of_look(0.9, 1) == 0.9


def test_differences_of_metrics_are_paired_over_users() -> None:
    random = np.random.default_rng(0)
    control = random.normal(3, 2, 30)
    treatment = control + random.normal(0.5, 0.3, 30)
    found = differences({"one": (treatment, control)}, 0.95)["one"]
    whole = stats.ttest_rel(treatment, control)
    low, high = whole.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert found.p_holm == pytest.approx(whole.pvalue, abs=1e-6)
    assert found.value == pytest.approx(found.treatment - found.control, abs=2e-6)


def test_differences_of_several_metrics_are_corrected_by_holm() -> None:
    """The least p-value counts three times and its interval errs a third as often, the next twice, the last once."""
    random = np.random.default_rng(2)
    pairs = {name: (random.normal(mean, 1, 40), np.zeros(40)) for name, mean in (("a", 0.1), ("b", 0.7), ("c", 0.4))}
    found = differences(pairs, 0.95)
    raw = {name: stats.ttest_1samp(one, 0).pvalue for name, (one, _) in pairs.items()}
    assert sorted(raw, key=lambda name: raw[name]) == ["b", "c", "a"]
    for name, times in (("b", 3), ("c", 2), ("a", 1)):
        assert found[name].p_holm == pytest.approx(times * raw[name], abs=1e-6)
        ends = stats.ttest_1samp(pairs[name][0], 0).confidence_interval(1 - 0.05 / times)
        assert found[name].interval == pytest.approx(tuple(ends), abs=1e-6)
        assert (found[name].low <= 0 <= found[name].high) == (found[name].p_holm >= 0.05)
    assert differences({}, 0.95) == {}


def test_among_metrics_without_a_difference_any_is_found_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    fooled = 0
    for _ in range(ROUNDS):
        drawn = random.normal(size=(6, 40))
        found = differences({row: (one, np.zeros(40)) for row, one in enumerate(drawn)}, 0.9)
        fooled += any(one.low > 0 or one.high < 0 for one in found.values())
    assert fooled < ROUNDS * 0.1 + 4 * math.sqrt(ROUNDS * 0.1 * 0.9)
    assert fooled > ROUNDS * 0.05


@pytest.mark.parametrize(
    ("treatment", "control", "said"),
    [
        ([0.1], [0.1, 0.2], "the treatment arm has 1 of the two users"),
        ([0.1, 0.2], [], "the control arm has 0 of the two users"),
        ([0.1, 0.2], [0.0, 0.0], "nobody in the control arm clicks"),
    ],
)
def test_arms_without_users_or_clicks_are_refused(treatment: list[float], control: list[float], said: str) -> None:
    with says("settings", "abtest.users", said):
        relative_lift(np.array(treatment), np.array(control), 0.95)


def test_values_that_are_not_numbers_are_refused() -> None:
    with says("A/B test", "1 of the values of the control arm are not numbers"):
        relative_lift(np.ones(3), np.array([1.0, np.nan, 2.0]), 0.95)
