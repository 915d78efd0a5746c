"""The table of an ablation against its formulas: paired differences, errors of users and seeds, the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisac_lab.config.sweep import Point, SweepConfig
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.sweep.ablation import ablate, is_ablation
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import Outcome
from hisac_lab.sweep.study import TrialResult


def trial(number: int, series: np.ndarray, fixed: bool = False, state: str = "complete") -> TrialResult:
    """A trial with these AUCs and resamples, a row a seed."""
    cost = ServingCost(state_bytes=8.0, encode_macs=10.0, candidate_macs=0.0)
    first, *more = (Outcome(state="complete", aucs=tuple(row), cost=cost) for row in series.tolist())
    point: Point = {"vote": "tree", "agents": number}
    made = TrialResult(number, point, Resolved(str(number)), "complete", first, fixed, more=tuple(more))
    return made if state == "complete" else replace(made, state="failed")


@pytest.fixture
def series() -> np.ndarray:
    """Of four trials three seeds with fifty resamples each."""
    return 0.7 + np.random.default_rng(0).normal(0, 0.01, (4, 3, 51)).round(6)


def test_rows_have_means_and_intervals_of_users_and_seeds_paired_with_the_first_fixed_trial(series: np.ndarray) -> None:
    trials = [
        trial(0, series[0]),
        trial(1, series[1], fixed=True),
        trial(2, series[2]),
        trial(3, series[3], fixed=True),
    ]
    rows = ablate(trials)
    assert [row.reference for row in rows] == [False, True, False, False]
    assert rows[0].settings == {"vote": "tree", "agents": "0"}
    for row, own in zip(rows, series, strict=True):
        for values, mean, interval in (
            (own, row.auc, row.interval),
            (own - series[1], row.difference, row.difference_interval),
        ):
            users = values.mean(axis=0)[1:].std()
            seeds = values[:, 0].std(ddof=1) / np.sqrt(3)
            half = 1.96 * np.hypot(users, seeds)
            assert mean == pytest.approx(values[:, 0].mean(), abs=1e-6)
            assert interval == pytest.approx((mean - half, mean + half), abs=5e-6)
        assert (row.seeds, row.request_macs, row.state_bytes) == (3, 10, 8.0)
    assert rows[1].difference_interval == (0.0, 0.0)


def test_trials_that_failed_with_some_seed_are_left_out_and_without_a_fixed_one_the_first_is_the_reference(
    series: np.ndarray,
) -> None:
    trials = [trial(0, series[0], state="failed"), trial(1, series[1]), trial(2, series[2, :2]), trial(3, series[3])]
    assert [(row.number, row.reference) for row in ablate(trials)] == [(1, True), (3, False)]


def test_a_sweep_is_an_ablation_where_no_trial_is_left_out_of_the_seeds() -> None:
    assert not is_ablation(SweepConfig())
    assert is_ablation(SweepConfig(finalists=8))
    assert not is_ablation(SweepConfig(finalists=8, finalist_seeds=1))
