"""Simulated tests: they find nothing in a policy against itself, and cover the lift that is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hisac_lab.abtest import simulated
from hisac_lab.abtest.simulated import Crowd, shown_chances

PEOPLE, SHOWN = 80, 10


def crowd(users: int = 500, seed: int = 0) -> tuple[Crowd, np.ndarray, np.ndarray]:
    """Users of two tastes each with two runs of a control, and of a treatment that is better by a tenth."""
    random = np.random.default_rng(0)
    taste = random.beta(2, 5, (1, PEOPLE, 1))
    control = np.clip(taste * random.uniform(0.6, 1.4, (2, PEOPLE, SHOWN)), 0, 0.9)
    before = np.clip(taste * random.uniform(0.6, 1.4, (2, PEOPLE, SHOWN)), 0, 0.9)
    return Crowd(users, 0.95, before, seed), control, 1.1 * control


def test_chances_of_what_is_shown_are_those_of_its_place_and_item() -> None:
    chances = np.array([[[0.5, 0.2, 0.8]]])
    places = np.array([[[[2, 0]]], [[[1, 2]]]])
    np.testing.assert_allclose(shown_chances(chances, places, np.array([1.0, 0.5])), [[[0.8, 0.25]], [[0.2, 0.4]]])


def test_the_interval_covers_the_known_lift_and_its_mean_is_that() -> None:
    made, control, treatment = crowd()
    known = treatment.mean() / control.mean() - 1
    found = [made.test(control, treatment, f"salt-{round_}") for round_ in range(200)]
    for kind in ("lift", "lift_cuped", "lift_stratified"):
        inside = [getattr(draw, kind).low <= known <= getattr(draw, kind).high for draw in found]
        assert abs(sum(inside) - 190) < 4 * math.sqrt(200 * 0.95 * 0.05)
    assert np.mean([draw.lift_cuped.value for draw in found]) == pytest.approx(known, abs=0.02)
    assert np.mean([draw.cuped_variance_removed for draw in found]) > 0.2
    assert all(draw.users.control + draw.users.treatment == 500 for draw in found)
    assert all(draw.lift_stratified == draw.lift for draw in found)  # there is one stratum


def test_strata_of_users_that_click_alike_sharpen_a_test() -> None:
    made, control, treatment = crowd(2000)
    rate = control.mean(axis=(0, 2))
    alike = replace(made, strata=np.searchsorted(np.quantile(rate, [0.25, 0.5, 0.75]), rate))
    found = [alike.test(control, treatment, f"salt-{round_}") for round_ in range(50)]
    removed = [draw.stratified_variance_removed for draw in found]
    assert 0.2 < np.mean(removed) < 0.9
    assert all(draw.lift_stratified.high - draw.lift_stratified.low < draw.lift.high - draw.lift.low for draw in found)
    known = treatment.mean() / control.mean() - 1
    assert np.mean([draw.lift_stratified.value for draw in found]) == pytest.approx(known, abs=0.02)


def test_a_policy_against_itself_gives_uniform_p_values() -> None:
    made, control, _ = crowd()
    found = made.against_itself(control, 300, "aa")
    assert found.tests == 300
    assert found.ks_p > 0.001
    assert sum(found.tenths) == pytest.approx(1)
    assert len(found.tenths) == 10
    assert max(found.tenths) < 0.1 + 4 * math.sqrt(0.1 * 0.9 / 300)
    for level, rate in found.rates.items():
        share = float(level)
        assert abs(rate - share) < 4 * math.sqrt(share * (1 - share) / 300)


def test_a_test_is_read_the_same_way_again_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    made, control, treatment = crowd(seed=3)
    whole = made.test(control, treatment, "salt")
    assert made.test(control, treatment, "salt") == whole
    assert made.test(control, treatment, "pepper") != whole
    monkeypatch.setattr(simulated, "CHUNK", 100)
    parts = made.test(control, treatment, "salt")
    assert parts.users == whole.users
    assert parts.ctr.control == pytest.approx(whole.ctr.control, abs=0.05)
