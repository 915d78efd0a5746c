"""The benchmark of the A/B instrument: coverage, lifts read off logged slates, and tests of trained models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from finished import make
from kit import says
from scripts import load

from hisac_lab.abtest.records import Lift
from hisac_lab.base.artifacts import Array


def test_lifts_read_off_logged_slates_are_ordered_as_the_true_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tiny world."""
    script = load("ab_tables", monkeypatch)
    monkeypatch.setattr(script, "RUNS", 1)
    monkeypatch.setattr(script, "DRAWS", 5)
    tables = script.Tables.draw(25)
    found = script.off_policy(tables, 2)
    assert 0.3 < found <= 1


def test_the_page_tells_how_well_off_policy_estimates_order_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    script, models = load("ab", monkeypatch), load("ab_models", monkeypatch)
    judged = {
        name: models.Judged(0.6 + lift, Lift(value=lift, low=lift, high=lift, p_value=0.5), lift)
        for name, lift in (("one", 0.1), ("two", 0.2), ("three", 0.3))
    }
    numbers = {"fitted_rank_correlation": 0.91, "off_policy_rank_correlation": 0.73}
    page = " ".join(script._order(numbers, judged))
    assert "of the control alone, doubly robust, the mean over 20 logs: 0.730." in page


def shown(lift: float, runs: int = 5, users: int = 200, pools: int = 10) -> dict[str, Array]:
    """Clicks of a control and of another policy, which users, pools and runs vary; (runs, users, pools)."""
    random = np.random.default_rng(0)
    users_and_pools = 2 + random.gamma(2, 0.5, (1, users, 1)) + random.normal(0, 0.2, (1, users, pools))
    own = [random.normal(0, 0.03, (runs, 1, 1)) + random.normal(0, 0.2, (runs, users, pools)) for _ in range(2)]
    return {"base": users_and_pools + own[0], "new": users_and_pools * (1 + lift) + own[1]}


def test_intervals_hold_a_lift_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("ab_tables", monkeypatch)
    found = script.covered(shown(0.1), "base", 300)
    assert 0.9 <= found["coverage"] <= 0.99
    assert found["wrong_sign"] == 0
    assert found["decided"] > 0.9
    alike = {name: np.repeat(arm[:1], 5, axis=0) for name, arm in shown(0.1).items()}
    assert 0.9 <= script.covered(alike, "base", 300)["coverage"] <= 0.99, "a policy that no seed varies"
    biased = shown(0.1)
    monkeypatch.setattr(script, "lift_of", lambda *_: 0.2)
    assert script.covered(biased, "base", 30)["coverage"] < 0.1


def test_tests_of_trained_models_make_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("ab_known", monkeypatch)
    make(tmp_path / "artifacts")
    monkeypatch.setattr(script, "_clicks", lambda *_: shown(0.1))
    lines, numbers = script.known(tmp_path, 30)
    assert numbers["gauc_rank_correlation"] == pytest.approx(1)
    assert "5 runs of every model show 200 users what they like best of 10 pools each." in " ".join(lines)
    monkeypatch.setattr(script, "_clicks", lambda *_: {"new": shown(0.1)["new"]})
    with says(str(tmp_path), "'base' and another model are wanted, there are: new", "finish its graph"):
        script.known(tmp_path, 30)


def test_a_log_of_no_simulated_world_has_no_known_lift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("ab_known", monkeypatch)
    made = make(tmp_path / "artifacts")
    with says(str(tmp_path), "its log is not of the simulated world", "another project"):
        script._clicks(tmp_path, made)
