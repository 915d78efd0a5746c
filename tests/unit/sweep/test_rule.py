"""The rule of the sweep: the cheapest trial that the validation users cannot tell from the best, and no noise flips it.

`demo/` holds numbers, AUCs, errors and costs of a sweep of the demo that was recorded, with the AUCs of its resamples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hisac_lab.config.sweep import SweepConfig
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import Outcome
from hisac_lab.sweep.rule import choose, describe, error_of, finalists, mean_auc
from hisac_lab.sweep.study import TrialResult

DEMO = Path(__file__).parent / "demo"
DEFAULT = SweepConfig().standard_errors
SPREAD = np.array([0.0, 1.0, -1.0, 1.0, -1.0])
"""An AUC, then how far four resamples are from it: the spread of this series is one."""


def result(number: int, aucs: Any, cost: int, *more: Any) -> TrialResult:
    """A trial of this cost with the AUCs of one seed, or of more."""
    serving = ServingCost(state_bytes=1.0, encode_macs=float(cost), candidate_macs=0.0)
    first, *others = (Outcome(state="complete", aucs=tuple(one), cost=serving) for one in (aucs, *more))
    return TrialResult(number, {}, Resolved(str(number)), "complete", first, more=tuple(others))


def trial(number: int, auc: float, cost: int, error: float = 0.0) -> TrialResult:
    """A trial whose difference to one of no error has this standard error."""
    return result(number, (auc + error * SPREAD).tolist(), cost)


CASES: dict[str, tuple[list[tuple[float, int, float]], float, int, int]] = {
    "the best, where the cheaper one is too far": ([(0.70, 10, 0.004), (0.71, 50, 0)], 2, 1, 1),
    "the cheaper one, where its error covers the gap": ([(0.70, 10, 0.005), (0.71, 50, 0)], 2, 1, 0),
    "a noisy trial may be farther off than a steady one": (
        [(0.705, 20, 0.003), (0.706, 10, 0.001), (0.71, 50, 0)], 2, 2, 0,
    ),
    "of the near ones the cheapest, not the better": ([(0.708, 9, 0.01), (0.709, 10, 0.01), (0.71, 50, 0)], 1, 2, 0),
    "of equal cost the earlier, not the better": ([(0.708, 10, 0.01), (0.709, 10, 0.01), (0.71, 50, 0)], 1, 2, 0),
    "of equally good ones the cheaper is the best": ([(0.7104, 50, 0), (0.7096, 40, 0)], 0, 1, 1),
    "of equally good and cheap ones the earlier": ([(0.7096, 40, 0), (0.7104, 40, 0)], 0, 0, 0),
    "a gap that is zero as rounded needs no error": ([(0.7104, 50, 0), (0.7101, 40, 0)], 0, 1, 1),
    "the only one": ([(0.5, 1, 0)], 2, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize(("points", "standard_errors", "best", "chosen"), CASES.values(), ids=list(CASES))
def test_the_cheapest_within_the_error_is_chosen_whatever_the_order(
    points: list[tuple[float, int, float]], standard_errors: float, best: int, chosen: int
) -> None:
    trials = [trial(number, *point) for number, point in enumerate(points)]
    for order in itertools.permutations(trials):
        choice = choose(list(order), standard_errors)
        assert (choice.best.number, choice.chosen.number) == (best, chosen)


def test_errors_are_of_the_paired_difference() -> None:
    """Both trials swing by 0.05 with the users, together: their difference does not."""
    trials = [trial(0, 0.70, 10, 0.05), trial(1, 0.71, 50, 0.05), trial(2, 0.705, 20, 0.047)]
    assert choose(trials, 2).errors == {0: 0.0, 1: 0.0, 2: 0.003}
    assert choose(trials, 2).chosen.number == 2


def test_a_resample_with_one_class_only_is_left_out() -> None:
    trials = [trial(0, 0.70, 10, 0.01), trial(1, 0.71, 50)]
    choice = choose(perturbed(trials, lambda aucs: np.append(aucs, np.nan)), 2)
    assert choice.errors == {0: 0.01, 1: 0.0}
    assert choice.chosen.number == 0


@pytest.mark.parametrize(("errors", "words"), [(1.0, "1 standard error below"), (1.5, "1.5 standard errors below")])
def test_the_rule_is_said_in_words(errors: float, words: str) -> None:
    assert words in describe(errors)


def away_from_edges(trials: list[TrialResult], standard_errors: float, noise: float) -> bool:
    """Whether no number that the rule rounds can be carried over the edge of a rounding by noise in each AUC."""
    aucs = np.array([trial.outcome.aucs for trial in trials])
    gaps = aucs[:, None] - aucs
    values = np.concatenate([aucs[:, 0], gaps[..., 0].ravel(), standard_errors * gaps[..., 1:].std(axis=-1).ravel()])
    room = np.abs(values * 1000 % 1 - 0.5) / 1000
    # A gap moves by twice the noise, and so does the spread of gaps; that is rounded to six decimals besides.
    return bool((room > max(2, 2 * standard_errors) * noise + standard_errors * 1e-6).all())


POINTS = st.lists(
    st.tuples(st.integers(700_000, 712_000), st.integers(1, 4), st.integers(0, 4000)), min_size=1, max_size=5
)


@given(POINTS, st.sampled_from([0.0, 1.0, 2.0]), st.integers(0, 10**6))
def test_noise_far_below_the_rounding_changes_no_choice(
    points: list[tuple[int, int, int]], standard_errors: float, seed: int
) -> None:
    """Relative noise of one in a million, on each AUC alone; cases within its reach of an edge are no cases."""
    trials = [trial(at, auc / 1e6, cost, error / 1e6) for at, (auc, cost, error) in enumerate(points)]
    assume(away_from_edges(trials, standard_errors, 1e-6))
    random = np.random.default_rng(seed)
    noisy = perturbed(trials, lambda aucs: aucs * (1 + random.uniform(-1e-6, 1e-6, aucs.shape)))
    before, after = choose(trials, standard_errors), choose(noisy, standard_errors)
    assert (before.best.number, before.chosen.number) == (after.best.number, after.chosen.number)


def perturbed(trials: list[TrialResult], change: Callable[[np.ndarray], np.ndarray]) -> list[TrialResult]:
    """The same trials with changed AUCs."""

    def new(one: TrialResult) -> TrialResult:
        first, *more = (change(np.array(aucs)).tolist() for aucs in one.series)
        return result(one.number, first, one.outcome.request_macs, *more)

    return [new(one) for one in trials]


@pytest.fixture(scope="module")
def demo() -> list[TrialResult]:
    """The demo's trials as recorded."""
    table, resamples = pd.read_csv(DEMO / "trials.csv"), pd.read_csv(DEMO / "resamples.csv")
    rows = zip(table["number"], table["cost"], strict=True)
    return [result(n, resamples[str(n)].tolist(), cost) for n, cost in rows]


def test_the_rule_gives_the_demo_s_recorded_errors(demo: list[TrialResult]) -> None:
    table = pd.read_csv(DEMO / "trials.csv")
    assert [one.outcome.aucs[0] for one in demo] == table["auc"].tolist()
    assert list(choose(demo, DEFAULT).errors.values()) == table["standard_error"].tolist()


def any_last_digits(aucs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same first three decimals, the other three drawn."""
    return np.floor(aucs * 1e3 + 1e-6) / 1e3 + random.integers(0, 1000, aucs.shape) / 1e6


def any_half_a_step(aucs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Up to half of the third decimal more or less."""
    return np.round(aucs + random.uniform(-5e-4, 5e-4, aucs.shape), 6)


@pytest.mark.parametrize("change", [any_last_digits, any_half_a_step])
def test_the_demo_s_choice_is_the_same_whatever_the_last_three_digits(
    demo: list[TrialResult], change: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> None:
    random = np.random.default_rng(0)
    chosen = {choose(perturbed(demo, lambda aucs: change(aucs, random)), DEFAULT).chosen.number for _ in range(200)}
    assert chosen == {choose(demo, DEFAULT).chosen.number}


def test_the_error_over_seeds_is_added_to_that_over_users() -> None:
    """Gaps of two seeds are 0.01 and 0.03: variance 0.0002, a mean's half of it; users spread the mean by 0.004."""
    series = np.array([0.01 + 0.004 * SPREAD, 0.03 + 0.004 * SPREAD])
    assert error_of(series) == round(float(np.hypot(0.004, 0.01)), 6)
    assert error_of(series[:1]) == 0.004


def test_with_seeds_the_choice_is_among_the_finalists_by_their_means() -> None:
    steady = np.full(5, 0.70)
    trials = [
        result(0, steady + 0.02, 5),
        result(1, steady + 0.01, 50, steady + 0.01),
        result(2, steady + 0.02, 20, steady - 0.02),
    ]
    choice = choose(trials, 2)
    assert choice.best.number == 1
    assert mean_auc(choice.best) == pytest.approx(0.71)
    assert choice.gaps == pytest.approx({0: -0.01, 1: 0.0, 2: 0.01})
    assert choice.errors == {0: 0.0, 1: 0.0, 2: 0.02}  # gaps of -0.01 and 0.03
    assert choice.chosen.number == 2
    assert choose(trials, 0).chosen.number == 1


def test_a_finalist_that_fails_with_another_seed_is_none() -> None:
    good = result(0, [0.7] * 3, 50, [0.7] * 3)
    broken = result(1, [0.8] * 3, 5)
    failed = replace(broken, more=(Outcome(state="failed", reason="the loss is nan"),))
    assert choose([good, failed], 2).chosen.number == 0


def test_finalists_are_the_best_the_choice_and_the_nearest_that_cost_less() -> None:
    trials = [trial(0, 0.70, 50), trial(1, 0.71, 60, 0.0), trial(2, 0.705, 90), trial(3, 0.69, 10), trial(4, 0.71, 70)]
    assert [one.number for one in finalists(trials, 2, 2)] == [1, 0]
    assert [one.number for one in finalists(trials, 2, 3)] == [1, 0, 3]
    near = [trial(0, 0.71, 60), trial(1, 0.70, 20, 0.02), trial(2, 0.709, 30)]
    assert {one.number for one in finalists(near, 2, 2)} == {0, 1}
    assert len(finalists(trials, 2, 99)) == 5


@pytest.mark.parametrize("change", [any_half_a_step])
def test_the_choice_among_finalists_is_the_same_whatever_the_last_three_digits(
    demo: list[TrialResult], change: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> None:
    """Each finalist's further seeds stand a stated distance from its first."""
    chosen = finalists(demo, DEFAULT, 4)
    trials = [
        result(one.number, one.outcome.aucs, one.outcome.request_macs, np.add(one.outcome.aucs, 0.002 * (at % 2)))
        if (at := [each.number for each in chosen].index(one.number) if one in chosen else -1) >= 0
        else one
        for one in demo
    ]
    random = np.random.default_rng(1)
    found = {choose(perturbed(trials, lambda aucs: change(aucs, random)), DEFAULT).chosen.number for _ in range(100)}
    assert found == {choose(trials, DEFAULT).chosen.number}
