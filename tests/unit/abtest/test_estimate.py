"""The lift in expected clicks: its parts by closed forms, its interval by worlds whose lift is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import says
from scipy import stats

from hisac_lab.abtest.estimate import Estimate, clustered, estimate, expected_clicks, lift_of, seed_spread
from hisac_lab.abtest.records import Lift
from hisac_lab.abtest.statistics import combine, decide, two_sided
from hisac_lab.evaluation.metrics import holm


def test_expected_clicks_are_sums_of_looked_at_times_liked() -> None:
    chances = np.array([[[0.5, 0.2, 0.9]], [[0.1, 0.3, 0.4]]])
    places = np.array([[[2, 0]], [[1, 2]]])
    found = expected_clicks(chances, places, np.array([1.0, 0.5]))
    np.testing.assert_allclose(found, [[0.9 + 0.25], [0.3 + 0.2]])


def test_the_parts_of_users_and_pools_add_up_to_the_clustered_error() -> None:
    gap = np.random.default_rng(0).normal(size=(40, 6)) + np.random.default_rng(1).normal(size=(40, 1))
    parts = clustered(gap)
    total = gap.mean(axis=1).var(ddof=1) / 40
    assert parts["users"].error ** 2 + parts["pools"].error ** 2 == pytest.approx(total, rel=1e-5)  # type: ignore[operator]
    assert parts["pools"].error == pytest.approx(math.sqrt(gap.var(axis=1, ddof=1).mean() / 6 / 40), rel=1e-5)
    assert (parts["users"].degrees, parts["pools"].degrees) == (39, 200)


def test_the_spread_over_seeds_is_pooled_over_models() -> None:
    def arm(*rates: float) -> np.ndarray:
        return np.array(rates)[:, None, None] * np.ones((1, 3, 2))

    spread = seed_spread([arm(0.9, 1.1), arm(1.2, 1.4), arm(1.0)], 1.0)
    assert spread is not None
    assert spread.degrees == 2
    assert spread.variance == pytest.approx((2 * 0.1**2 + 2 * 0.1**2) / 2)
    assert seed_spread([arm(1.0), arm(2.0)], 1.0) is None


def test_the_spread_over_seeds_leaves_out_what_runs_and_users_have_in_common() -> None:
    """Runs of one skill that err apart on each user: the users' part has that, the seeds' would count it twice."""
    random = np.random.default_rng(0)
    own, common = list[float](), list[float]()
    for _ in range(300):
        apart = 1 + random.normal(0, 0.5, (3, 40, 1))
        skilled = apart + random.normal(0, 0.2, (3, 1, 1))
        spreads = (seed_spread([np.ones((1, 40, 1)), arm], 1.0) for arm in (apart, skilled))
        for found, spread in zip((common, own), spreads, strict=True):
            assert spread is not None
            found.append(spread.variance)
    whole = 0.5**2 / 40
    assert np.mean(common) < whole / 2
    assert np.mean(own) == pytest.approx(0.2**2, rel=0.2)


def test_a_model_of_the_same_runs_is_found_different_as_often_as_it_says() -> None:
    """Runs and users are drawn anew; a run errs for all users alike and for each user apart."""
    random, fooled, rounds = np.random.default_rng(1), 0, 400
    for _ in range(rounds):
        taste = random.gamma(9, 1 / 9, (60, 1))
        control, same = (
            taste * (1 + random.normal(0, 0.03, (3, 1, 1)) + random.normal(0, 0.4, (3, 60, 2))) for _ in range(2)
        )
        fooled += estimate(control, same, [], 0.95).lift.p_value < 0.05
    assert abs(fooled - 0.05 * rounds) < 4 * math.sqrt(rounds * 0.05 * 0.95)


def test_an_interval_holds_every_part_that_was_measured() -> None:
    random = np.random.default_rng(0)
    control, treatment = (random.uniform(1, 2, (2, 30, 4)) * random.uniform(0.8, 1.2, (2, 1, 1)) for _ in range(2))
    alone = estimate(control.mean(axis=0)[None], treatment.mean(axis=0)[None], [], 0.95)
    whole = estimate(control, treatment, [0.05, 0.06, 0.09], 0.95)
    assert alone.lift.value == whole.lift.value == pytest.approx(lift_of(control, treatment), abs=1e-6)
    assert alone.parts["seeds"].error is None
    assert alone.parts["world"].error == alone.parts["clicks"].error == 0
    assert whole.parts["world"].error == pytest.approx(np.std([0.05, 0.06, 0.09], ddof=1), abs=1e-8)
    measured = [part.error for part in whole.parts.values() if part.error]
    assert whole.error == pytest.approx(math.sqrt(sum(error**2 for error in measured)))
    reach = stats.t.ppf(0.975, whole.degrees) * whole.error
    assert whole.lift.high - whole.lift.value == pytest.approx(reach, abs=2e-6)
    assert whole.lift.high - whole.lift.low > alone.lift.high - alone.lift.low


def test_worlds_of_other_families_add_their_distance_as_a_part() -> None:
    """As far as the truth is from the told lift, where each world is as likely to be right."""
    control, treatment = np.random.default_rng(0).uniform(1, 2, (2, 2, 30, 4))
    value = lift_of(control, treatment)
    refits = [0.05, 0.06, 0.09]
    for elsewhere in ([value + 0.04], [value + 0.04, value - 0.1]):
        part = estimate(control, treatment, refits, 0.95, elsewhere=elsewhere).parts["family"]
        squares = [0.0, *((value - other) ** 2 for other in elsewhere)]
        assert part.error == pytest.approx(math.sqrt(np.mean(squares)), abs=1e-8)
        assert part.degrees is None
    assert estimate(control, treatment, refits, 0.95).parts["family"].error is None
    assert estimate(control, treatment, [], 0.95).parts["family"].error == 0


def test_the_seeds_add_the_spread_of_the_two_arms_that_have_them() -> None:
    """Two means of two and four runs, by the closed form; runs of an arm that no seed varies are not looked at."""
    runs = [np.array([0.9, 1.1]), np.array([1.1, 1.3, 1.25, 1.15])]
    control, treatment = (one[:, None, None] * np.ones((1, 30, 4)) for one in runs)
    lift = 0.2
    squares = [float(((one - one.mean()) ** 2).sum()) for one in runs]
    both = sum(squares) / 4
    wanted = {
        (True, True): (both * (1 / 4 + (1 + lift) ** 2 / 2), 4),
        (False, True): (squares[1] / 3 / 4, 3),
        (True, False): (squares[0] * (1 + lift) ** 2 / 2, 1),
        (False, False): (0.0, None),
    }
    for drawn, (variance, degrees) in wanted.items():
        part = estimate(control, treatment, [], 0.95, drawn).parts["seeds"]
        assert part.error == pytest.approx(math.sqrt(variance), abs=1e-8)
        assert part.degrees == degrees


def test_one_run_of_each_arm_says_nothing_of_seeds() -> None:
    control, treatment = np.random.default_rng(0).uniform(1, 2, (2, 1, 30, 4))
    assert estimate(control, treatment, [], 0.95).parts["seeds"].error is None


@given(
    errors=st.lists(st.floats(0.001, 0.05), min_size=1, max_size=5),
    values=st.lists(st.floats(-0.1, 0.1), min_size=5, max_size=5),
    degrees=st.floats(3, 200),
)
def test_a_corrected_interval_holds_zero_where_and_only_where_the_verdict_is_not_better_or_worse(
    errors: list[float], values: list[float], degrees: float
) -> None:
    found = []
    for value, error in zip(values, errors, strict=False):
        p_value = round(two_sided(value, error, degrees), 6)
        found.append(Estimate(Lift(value=value, low=value, high=value, p_value=p_value), {}, error, degrees))
    p_holm = holm([one.lift.p_value for one in found])
    for one, p in zip(found, p_holm, strict=True):
        lift = one.corrected(p, len(found), 0.95)
        alone, all_of_them = (stats.t.ppf(1 - 0.025 / times, degrees) * one.error for times in (1, len(found)))
        assert alone - 2e-6 <= lift.high - lift.value <= all_of_them + 2e-6
        if abs(p - 0.05) > 1e-3:
            verdict = decide(lift.value, p, 1.0, 0.95)
            assert (lift.low <= 0 <= lift.high) == (verdict not in ("better", "worse"))
            assert (verdict == "better") == (lift.low > 0)


def test_degrees_of_freedom_are_those_of_welch_and_satterthwaite() -> None:
    gap = np.random.default_rng(0).normal(size=(10, 2))
    parts = clustered(gap)
    users, pools = (parts[name].error or 0.0 for name in ("users", "pools"))
    error, degrees = combine(parts)
    assert error == pytest.approx(math.hypot(users, pools))
    assert degrees == pytest.approx((users**2 + pools**2) ** 2 / (users**4 / 9 + pools**4 / 10))
    assert combine({}) == (0.0, math.inf)


def test_the_interval_covers_the_lift_of_all_users_as_often_as_it_says() -> None:
    """Users and their pools are drawn anew each time; the lift over all of them is 10 %."""
    random, covered, rounds = np.random.default_rng(0), 0, 500
    for _ in range(rounds):
        taste = random.gamma(4, 0.25, (60, 1))
        control = taste * random.uniform(0.5, 1.5, (60, 4))
        treatment = 1.1 * control + 0.2 * taste * random.normal(size=(60, 4)) + random.normal(0, 0.2, (60, 1))
        low, high = estimate(control[None], treatment[None], [], 0.95).lift.interval
        covered += low <= 0.1 <= high
    assert abs(covered - 0.95 * rounds) < 4 * math.sqrt(rounds * 0.95 * 0.05)


def test_a_policy_is_exactly_as_good_as_itself() -> None:
    control = np.random.default_rng(0).uniform(1, 2, (1, 20, 3))
    found = estimate(control, control, [0.0, 0.0], 0.95)
    assert found.lift.interval == (0.0, 0.0)
    assert found.lift.p_value == 1.0
    assert found.not_within(0.01) == 0.0


def test_a_control_that_nobody_clicks_is_refused() -> None:
    with says("settings", "abtest.control", "nobody ever clicks on what the control shows"):
        estimate(np.zeros((1, 5, 2)), np.ones((1, 5, 2)), [], 0.95)


@pytest.mark.parametrize(
    ("control", "treatment", "said"),
    [
        (np.ones((1, 5, 2)), np.ones((1, 4, 2)), "other candidates: 5 users with 2 slates and 4 users with 2 slates"),
        (np.ones((1, 5, 2)), np.ones((3, 5, 3)), "5 users with 2 slates and 5 users with 3 slates"),
        (np.ones((2, 1, 2)), np.ones((2, 1, 2)), "two users for its error, there are 1"),
        (np.ones((1, 0, 2)), np.ones((1, 0, 2)), "two users for its error, there are 0"),
        (np.ones((1, 5, 2)), np.full((1, 5, 2), np.nan), "10 expected clicks are not numbers"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(control: np.ndarray, treatment: np.ndarray, said: str) -> None:
    with says("A/B test", said):
        estimate(control, treatment, [], 0.95)
