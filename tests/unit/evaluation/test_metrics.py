"""Metrics against scikit-learn and against plain loops, with ties and weights."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from hisac_lab.evaluation import metrics
from hisac_lab.ops.auc import auc, weighted_auc

USERS = 7
OFTEN = settings(max_examples=80, deadline=None)
Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels, scores with ties, users; some users have one class only or no exposure."""
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    count = draw(st.integers(4, 80))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    labels = random.integers(0, 2, count)
    labels[:2] = 0, 1
    return labels, random.integers(-levels, levels, count) / 4, random.integers(0, USERS, count)


def _groups(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    labels, scores, user = case
    return [(labels[user == one], scores[user == one]) for one in range(USERS)]


@given(case=cases(), seed=st.integers(0, 100))
@OFTEN
def test_auc_is_that_of_scikit_learn_for_every_weighting(case: Case, seed: int) -> None:
    labels, scores, _ = case
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(labels))).astype(float)
    weights[:, :2] += 1  # both classes keep some weight
    weights[0] = 1
    found = weighted_auc(labels, scores, weights)
    expected = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert auc(labels, scores) == pytest.approx(expected[0], abs=1e-12)


@given(case=cases(), seed=st.integers(0, 100))
@OFTEN
def test_auc_of_whole_weights_is_exactly_the_share_of_pairs_won(case: Case, seed: int) -> None:
    """The plain form: every positive against every negative, a tie counted half."""
    labels, scores, user = case
    weights = np.random.default_rng(seed).integers(0, 4, (5, USERS)).astype(float)
    positive, negative = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    won = np.sign(scores[positive, None] - scores[negative]) / 2 + 0.5
    found = weighted_auc(labels, scores, weights, user)
    np.testing.assert_array_equal(found, weighted_auc(labels, scores, weights[:, user]))
    for area, row in zip(found, weights[:, user], strict=True):
        pairs = row[positive, None] * row[negative]
        expected = (pairs * won).sum() / pairs.sum() if pairs.sum() else np.nan
        np.testing.assert_array_equal(area, expected)


def test_auc_of_one_class_is_not_a_number() -> None:
    labels, scores = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])
    found = weighted_auc(labels, scores, np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]]))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1])


@pytest.mark.parametrize(
    ("scores", "expected"), [([1, 2, 3, 4], 0.75), ([4, 3, 2, 1], 0.25), ([0, 0, 0, 0], 0.5), ([1, 2, 2, 3], 0.875)]
)
def test_auc_counts_ties_half(scores: list[float], expected: float) -> None:
    assert auc(np.array([0, 1, 0, 1]), np.array(scores)) == expected


@given(case=cases())
@OFTEN
def test_gauc_is_the_weighted_mean_of_users_aucs(case: Case) -> None:
    total = weight = 0.0
    for labels, scores in _groups(case):
        if len(set(labels)) == 2:
            total += len(labels) * roc_auc_score(labels, scores)
            weight += len(labels)
    labels, scores, user = case
    found = metrics.gauc(labels, scores, user, USERS)
    assert found.weight.sum() == weight
    if weight:
        assert found.mean(np.ones((1, USERS)))[0] == pytest.approx(total / weight, abs=1e-12)


@given(case=cases(), top=st.integers(1, 12))
@OFTEN
def test_ndcg_and_recall_are_those_of_a_loop(case: Case, top: int) -> None:
    labels, scores, user = case
    scores = scores + np.random.default_rng(0).permutation(len(scores)) / 1e4  # no ties: they have a test of their own
    ndcgs, recalls = [], []
    for own, ranks in _groups((labels, scores, user)):
        if 0 < own.sum() < len(own):
            gain, hits = _ranked(own[np.argsort(-ranks)], top)
            ndcgs.append(gain)
            if len(own) > top:
                recalls.append(hits)
    ndcg, recall = metrics.ranking_at(labels, scores, user, USERS, top)
    counted = metrics.users_counted(labels, user, USERS, top)
    for found, expected, name in ((ndcg, ndcgs, "ndcg"), (recall, recalls, "recall")):
        assert counted[f"{name}@{top}"] == len(expected)
        mean = found.mean(np.ones((1, USERS)))[0]
        assert mean == pytest.approx(np.mean(expected), abs=1e-12) if expected else np.isnan(mean)


def _ranked(labels: np.ndarray, top: int) -> tuple[float, float]:
    """NDCG@k and Recall@k of labels in the order of their scores."""
    gain = sum(label / math.log2(place + 2) for place, label in enumerate(labels[:top]))
    ideal = sum(1 / math.log2(place + 2) for place in range(min(top, int(labels.sum()))))
    return gain / ideal, labels[:top].sum() / labels.sum()


@given(seed=st.integers(0, 10_000), top=st.integers(1, 5))
@OFTEN
def test_of_ties_ndcg_and_recall_are_the_mean_over_all_orders(seed: int, top: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.r_[1, 0, random.integers(0, 2, 4)]
    scores, user = random.integers(0, 3, 6).astype(float), np.zeros(6, int)
    every = [np.array(order) for order in itertools.permutations(range(6))]
    ranked = [_ranked(labels[order][np.argsort(-scores[order], kind="stable")], top) for order in every]
    found = metrics.ranking_at(labels, scores, user, 1, top)
    np.testing.assert_allclose([part.value[0] for part in found], np.mean(ranked, axis=0), atol=1e-12)


def test_constant_scores_are_worth_a_coin_whatever_stands_first() -> None:
    labels, user = np.r_[np.ones(3), np.zeros(7)], np.zeros(10, int)
    found = metrics.all_metrics(labels, np.zeros(10), user, np.ones((1, 1)), 5)
    assert found["auc"][0] == found["gauc"][0] == 0.5
    assert found["recall@5"][0] == 0.5
    assert found["ndcg@5"][0] < 0.5


@given(case=cases(), top=st.integers(1, 12))
@OFTEN
def test_the_order_of_the_samples_changes_no_metric(case: Case, top: int) -> None:
    labels, scores, user = case
    order = np.random.default_rng(0).permutation(len(labels))
    resamples = metrics.user_resamples(USERS, 5, 0)
    here = metrics.all_metrics(labels, scores, user, resamples, top)
    there = metrics.all_metrics(labels[order], scores[order], user[order], resamples, top)
    for name, values in here.items():
        np.testing.assert_allclose(values, there[name], atol=1e-12, err_msg=name)
    assert metrics.calibration(labels, scores) == metrics.calibration(labels[order], scores[order])


def test_a_list_no_longer_than_k_says_nothing_and_is_counted() -> None:
    labels, scores, user = np.array([1, 0, 0, 1, 0]), np.array([3.0, 2, 1, 1, 2]), np.array([0, 0, 0, 1, 1])
    assert metrics.users_counted(labels, user, 2, 2) == {"gauc": 2, "ndcg@2": 2, "recall@2": 1}
    assert metrics.ranking_at(labels, scores, user, 2, 2)[1].mean(np.ones((1, 2)))[0] == 1
    assert np.isnan(metrics.ranking_at(labels, scores, user, 2, 3)[1].mean(np.ones((1, 2)))[0])
    assert metrics.why_undefined("recall@3", 3) == "no user has a positive, a negative and more than 3 exposures"


def test_ndcg_without_ties_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, (USERS, 20)), random.random((USERS, 20))
    user = np.repeat(np.arange(USERS), 20)
    found = metrics.ranking_at(labels.ravel(), scores.ravel(), user, USERS, 5)[0]
    assert found.mean(np.ones((1, USERS)))[0] == pytest.approx(ndcg_score(labels, scores, k=5), abs=1e-12)


@given(case=cases())
@OFTEN
def test_log_loss_is_that_of_scikit_learn(case: Case) -> None:
    labels, scores, user = case
    logits = np.clip(scores, -8, 8)  # scikit-learn cuts probabilities off near 0 and 1
    found = metrics.log_losses(labels, logits, user, USERS).mean(np.ones((1, USERS)))[0]
    assert found == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-logits))), abs=1e-9)


def test_log_loss_of_extreme_logits_stays_finite() -> None:
    found = metrics.log_losses(np.array([1, 0]), np.array([-800.0, 800.0]), np.array([0, 0]), 1)
    assert found.value[0] == 800


@given(case=cases(), seed=st.integers(0, 100))
@OFTEN
def test_a_users_weight_counts_like_copies_of_the_user(case: Case, seed: int) -> None:
    """Every metric of a resample equals the metric of the log in which each user stands as often as drawn."""
    labels, scores, user = case
    times = np.random.default_rng(seed).integers(0, 3, USERS)
    times[user[:2]] += 1
    rows = [
        (row, USERS * copy + user[row])
        for copy in range(int(times.max()))
        for row in range(len(user))
        if times[user[row]] > copy
    ]
    index, copies = (np.array(part) for part in zip(*rows, strict=True))
    known = np.unique(copies, return_inverse=True)[1]
    found = metrics.all_metrics(labels, scores, user, np.vstack([np.ones(USERS), times]).astype(float), 3)
    whole = metrics.all_metrics(labels[index], scores[index], known, np.ones((1, known.max() + 1)), 3)
    for name, values in found.items():
        np.testing.assert_allclose(values[1], whole[name][0], atol=1e-9, err_msg=name)


def test_all_metrics_starts_with_the_metric_itself() -> None:
    random = np.random.default_rng(0)
    labels, logits, user = random.integers(0, 2, 300), random.normal(size=300), random.integers(0, 20, 300)
    resamples = metrics.user_resamples(20, 120, 0)
    found = metrics.all_metrics(labels, logits, user, resamples, 4)
    assert set(found) == {"auc", "gauc", "log_loss", "ndcg@4", "recall@4"}
    assert all(values.shape == (121,) for values in found.values())
    assert found["auc"][0] == pytest.approx(roc_auc_score(labels, logits))
    by_one = [weighted_auc(labels, logits, row[None, user])[0] for row in resamples]
    np.testing.assert_allclose(found["auc"], by_one)


def test_resamples_draw_as_many_users_as_there_are_and_start_with_all() -> None:
    found = metrics.user_resamples(30, 200, 5)
    assert found.shape == (201, 30)
    assert (found[0] == 1).all()
    assert (found.sum(axis=1) == 30).all()
    assert found[1:].mean() == 1
    assert 0.9 < found[1:].var() < 1.05  # a multinomial's: 1 - 1/30
    np.testing.assert_array_equal(found, metrics.user_resamples(30, 200, 5))
    assert not np.array_equal(found, metrics.user_resamples(30, 200, 6))


def test_calibration_of_a_well_calibrated_model_is_near_zero() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=60_000)
    labels = (random.random(60_000) < 1 / (1 + np.exp(-logits))).astype(float)
    found = metrics.calibration(labels, logits)
    assert found.error < 0.01
    assert found.ratio == pytest.approx(1, abs=0.01)
    assert len(found.curve) == 15
    shifted = metrics.calibration(labels, logits + 1)
    assert shifted.error > 0.1
    assert shifted.ratio > 1.2


def test_the_error_of_right_predictions_is_that_of_chance() -> None:
    random = np.random.default_rng(0)
    for count in (150, 1500):
        chances = random.beta(2, 3, count)
        logits = np.log(chances / (1 - chances))
        found = [metrics.calibration((random.random(count) < chances).astype(float), logits) for _ in range(200)]
        assert np.mean([one.error for one in found]) == pytest.approx(found[0].chance, rel=0.05)
        assert len({one.chance for one in found}) == 1


def test_calibration_of_four_exposures_is_what_one_counts_by_hand() -> None:
    found = metrics.calibration(np.array([0, 1, 1, 1]), np.log([1 / 3, 1 / 3, 3, 3]), bins=2)
    assert [(point.predicted, point.observed) for point in found.curve] == [(0.25, 0.5), (0.75, 1)]
    assert found.error == 0.25
    assert found.ratio == pytest.approx(0.5 / 0.75, abs=1e-6)


def test_an_interval_holds_the_middle_and_skips_what_is_not_a_number() -> None:
    values = np.r_[np.arange(101) / 100, np.nan]
    assert metrics.interval(values, 0.9) == (0.05, 0.95)
    assert metrics.interval(values, 0.5) == (0.25, 0.75)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Users with click rates of their own; the mean rate is known, its 90 % interval must cover it."""
    random = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        rates = random.beta(2, 2, 60)
        values = metrics.PerUser(rates, np.full(60, 5.0)).mean(metrics.user_resamples(60, 200, seed))
        low, high = metrics.interval(values[1:], 0.9)
        covered += low <= 0.5 <= high
    assert 165 <= covered <= 195  # binomial(200, 0.9) within four standard deviations, on the low side for bias


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 * 0.01, then 2 * 0.03, then at least that
        ([0.9, 0.5], [1.0, 1.0]),
    ],
)
def test_holm_is_what_one_computes_by_hand(p_values: list[float], expected: list[float]) -> None:
    assert metrics.holm(p_values) == pytest.approx(expected)


def test_pairs_find_the_difference_that_is_there_and_seldom_one_that_is_not() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
        users = random.normal(size=(3, 200))
        users[2] += 0.5
        weights = metrics.user_resamples(200, 300, int(random.integers(1 << 30))) / 200
        values = {name: weights @ row for name, row in zip("abc", users, strict=True)}
        pairs = metrics.paired(values, 0.95)
        assert [(pair.one, pair.other) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
        for pair in pairs:
            gap = values[pair.one] - values[pair.other]
            assert pair.difference == pytest.approx(gap[0], abs=1e-6)
            assert pair.interval == metrics.interval(gap[1:], 0.95)
        assert pairs[1].p < 0.05
        alarms += pairs[0].p < 0.05
    assert alarms <= 4


def test_pairs_of_bins_are_corrected_over_all_of_them() -> None:
    """By hand: each p-value alone, sorted over both bins, times how many are left, never falling."""
    random = np.random.default_rng(1)
    values = {
        label: {name: random.normal(0.01 * place, 0.02, 400) for place, name in enumerate("abc")}
        for label in ("rare", "common")
    }
    found = metrics.paired_by_bin(values, 0.95)
    assert {label: [(pair.one, pair.other) for pair in pairs] for label, pairs in found.items()} == {
        label: [("a", "b"), ("a", "c"), ("b", "c")] for label in values
    }
    alone = []
    for label, pairs in found.items():
        for pair in pairs:
            gap = values[label][pair.one] - values[label][pair.other]
            assert pair.difference == pytest.approx(gap[0], abs=1e-6)
            assert pair.interval == metrics.interval(gap[1:], 0.95)
            alone.append((math.erfc(abs(gap[0]) / gap[1:].std() / math.sqrt(2)), pair.p))
    floor = 0.0
    for left, (p, corrected) in enumerate(sorted(alone)):
        floor = min(1.0, max(floor, p * (6 - left)))
        assert corrected == pytest.approx(floor, rel=1e-4)


def test_equal_models_are_no_pair_that_differs() -> None:
    same = np.linspace(0.5, 0.7, 20)
    (pair,) = metrics.paired({"a": same, "b": same}, 0.95)
    assert pair.difference == 0
    assert pair.p == 1
