"""Metrics of click models, exact and vectorized, each with weights for the bootstrap over users.

A user's resample weight multiplies all of the user's exposures, so one sort serves every resample.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hisac_lab.base.artifacts import Array
from hisac_lab.evaluation.records import Bin, Calibration, Interval, Pair
from hisac_lab.ops.auc import weighted_auc


@dataclass(frozen=True)
class PerUser:
    """Per-user values from which means and their resamples follow.

    Attributes:
        value: (U,) metric of each user.
        weight: (U,) weight of each user in the mean; 0 leaves the user out.
    """

    value: Array
    weight: Array

    def mean(self, resamples: Array) -> Array:
        """Weighted mean for each row of `resamples`, (B, U) to (B,); NaN where it leaves no user."""
        weight = resamples * self.weight
        total = weight.sum(axis=1)
        mean: Array = np.divide(weight @ self.value, total, out=np.full(len(total), np.nan), where=total > 0)
        return mean


def gauc(labels: Array, scores: Array, user: Array, users: int) -> PerUser:
    """AUC inside each user, weighted by the user's exposures; users with one class only are left out."""
    order = np.lexsort((scores, user))
    who, label = user[order], labels[order] > 0
    tie = _ties(who, scores[order])
    begins = np.searchsorted(who, np.arange(users))
    place = np.arange(len(who)) - begins[who] + 1.0
    rank = (np.bincount(tie, place) / np.bincount(tie))[tie]
    total, positive, both = _classes(labels, user, users)
    ranks = np.bincount(who, rank * label, minlength=users)
    value = np.zeros(users)
    value[both] = (ranks - positive * (positive + 1) / 2)[both] / (positive * (total - positive))[both]
    return PerUser(value, total * both)


def ranking_at(labels: Array, scores: Array, user: Array, users: int, top: int) -> tuple[PerUser, PerUser]:
    """NDCG@k and Recall@k of each user's real exposures in the period; users who cannot tell models apart are left out.

    These have exposures of one class only or, for Recall@k, at most k exposures. Of exposures with equal scores, the
    value is the mean over all their orders: it does not depend on the order of the samples.
    """
    order = np.lexsort((-scores, user))
    who, label = user[order], (labels[order] > 0).astype(float)
    tie = _ties(who, scores[order])
    share = (np.bincount(tie, label) / np.bincount(tie))[tie]  # of positives in the tie, at each of its places
    place = np.arange(len(who)) - np.searchsorted(who, np.arange(users))[who]
    inside = place < top
    gain = np.bincount(who, share * inside / np.log2(place + 2), minlength=users)
    hits = np.bincount(who, share * inside, minlength=users)
    _, positive, _ = _classes(labels, user, users)
    ideal = np.r_[0, np.cumsum(1 / np.log2(np.arange(top) + 2))][np.minimum(positive, top).astype(int)]
    ndcg = np.divide(gain, ideal, out=np.zeros(users), where=positive > 0)
    recall = np.divide(hits, positive, out=np.zeros(users), where=positive > 0)
    both, longer = _tellers(labels, user, users, top)
    return PerUser(ndcg, both.astype(float)), PerUser(recall, longer.astype(float))


def _ties(*columns: Array) -> Array:
    """Number of the run of equal rows that each row of sorted columns is in; (N,)."""
    change = np.any([np.diff(column) != 0 for column in columns], axis=0)
    number: Array = np.cumsum(np.r_[True, change]) - 1
    return number


def _classes(labels: Array, user: Array, users: int) -> tuple[Array, Array, Array]:
    """Exposures and positives of each user, and whether there are exposures of both classes; three (U,)."""
    total = np.bincount(user, minlength=users)
    positive = np.bincount(user, labels > 0, minlength=users)
    return total, positive, (positive > 0) & (positive < total)


def _tellers(labels: Array, user: Array, users: int, top: int) -> tuple[Array, Array]:
    """Users with exposures of both classes, and those of them with more than `top`; two (U,) bool."""
    total, _, both = _classes(labels, user, users)
    return both, both & (total > top)


def users_counted(labels: Array, user: Array, users: int, top: int) -> dict[str, int]:
    """How many users can tell models apart by each metric that is a mean over users."""
    both, longer = _tellers(labels, user, users, top)
    return {"gauc": int(both.sum()), f"ndcg@{top}": int(both.sum()), f"recall@{top}": int(longer.sum())}


def why_undefined(metric: str, top: int) -> str:
    """Why a metric of the whole test period has no value."""
    if metric.startswith("recall@"):
        return f"no user has a positive, a negative and more than {top} exposures"
    return "no user has both a positive and a negative"


def log_losses(labels: Array, logits: Array, user: Array, users: int) -> PerUser:
    """Mean log loss of each user's exposures, weighted by their number."""
    losses = np.logaddexp(0, logits) - labels * logits
    total = np.bincount(user, minlength=users)
    value = np.divide(np.bincount(user, losses, minlength=users), total, out=np.zeros(users), where=total > 0)
    return PerUser(value, total)


def calibration(labels: Array, logits: Array, bins: int = 15) -> Calibration:
    """Expected calibration error over bins of equal size, the ratio of predicted to observed, and the curve.

    Of samples with equal predictions each counts as their mean: a bin that cuts them does not depend on their order.
    `chance` is the mean error of normal means, of labels drawn as predicted, each sample for itself.
    """
    probability = 1 / (1 + np.exp(-logits))
    order = np.argsort(probability, kind="stable")
    predicted, label = probability[order], labels[order]
    tie = _ties(predicted)
    shared = (np.bincount(tie, label) / np.bincount(tie))[tie]
    cells = np.array_split(np.arange(len(order)), bins)
    curve = [
        Bin(predicted=round(float(predicted[cell].mean()), 6), observed=round(float(shared[cell].mean()), 6))
        for cell in cells
        if len(cell)
    ]
    sizes = np.array([len(cell) for cell in cells if len(cell)])
    gaps = np.array([abs(point.predicted - point.observed) for point in curve])
    spreads = np.array([np.sqrt((predicted[cell] * (1 - predicted[cell])).sum()) for cell in cells if len(cell)])
    return Calibration(
        error=round(float((gaps * sizes).sum() / sizes.sum()), 6),
        ratio=round(float(probability.mean() / labels.mean()), 6),
        curve=curve,
        chance=round(float(np.sqrt(2 / np.pi) * spreads.sum() / sizes.sum()), 6),
    )


def interval(values: Array, confidence: float) -> Interval:
    """Percentile interval of resampled values."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return round(float(low), 6), round(float(high), 6)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): p-values that keep the chance of any false alarm among all tests at the level."""
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(raised))
    return [float(value) for value in corrected]


def paired(values: Mapping[str, Array], confidence: float) -> list[Pair]:
    """Every pair of models on the same resampled users; see `paired_by_bin`, of one bin.

    Args:
        values: Of each model, a metric for every resample; the first entry is the metric itself; (B,).
        confidence: Of the intervals, which are not corrected.
    """
    return paired_by_bin({"": values}, confidence)[""]


def paired_by_bin(values: Mapping[str, Mapping[str, Array]], confidence: float) -> dict[str, list[Pair]]:
    """Every pair of models in each bin, on the same resampled users.

    The p-value is two-sided, of a normal difference with the bootstrap's standard error, Holm-corrected over all pairs
    in all bins.

    Args:
        values: By bin, then model: a metric for every resample; the first entry is the metric itself; (B,).
        confidence: Of the intervals, which are not corrected.
    """
    gaps = {
        (label, one, other): of_model[one] - of_model[other]
        for label, of_model in values.items()
        for one, other in itertools.combinations(of_model, 2)
    }
    corrected = holm([_p_value(gap) for gap in gaps.values()])
    found: dict[str, list[Pair]] = {label: [] for label in values}
    for ((label, one, other), gap), p in zip(gaps.items(), corrected, strict=True):
        difference, ends = round(float(gap[0]), 6), interval(gap[1:], confidence)
        found[label].append(Pair(one=one, other=other, difference=difference, interval=ends, p=float(f"{p:.6g}")))
    return found


def _p_value(gap: Array) -> float:
    """Two-sided, of no difference; (B,)."""
    error = standard_error(gap)
    return float(2 * stats.norm.sf(abs(float(gap[0])) / error)) if error else float(gap[0] == 0)


def standard_error(series: Array) -> float:
    """Spread of a metric, or of a difference of two, over its resamples; the first entry is the metric itself; (B,)."""
    return float(np.nanstd(series[1:]))


def draw_users(users: int, count: int, seed: int) -> Iterator[Array]:
    """Bootstrap weights: all ones, then `count` times how often each user is drawn; (users,) each."""
    random = np.random.default_rng(seed)
    yield np.ones(users)
    for _ in range(count):
        yield random.multinomial(users, np.full(users, 1 / users)).astype(float)


def user_resamples(users: int, count: int, seed: int) -> Array:
    """The weights of `draw_users` as rows; (1 + count, users)."""
    return np.vstack(list(draw_users(users, count, seed)))


def seed_draws(seeds: int, count: int, seed: int, name: str) -> Array:
    """Bootstrap weights of a model's runs: equal ones, then `count` times its seeds drawn anew; (1 + count, seeds).

    Args:
        seeds: Runs of the model.
        count: Resamples.
        seed: Of the bootstrap.
        name: Of the model: runs of different models are drawn independently, whatever else is compared.
    """
    random = np.random.default_rng([seed, *name.encode()])
    drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)
    weights: Array = np.vstack([np.ones((1, seeds)), drawn]) / seeds
    return weights


def all_metrics(labels: Array, logits: Array, user: Array, resamples: Array, top: int) -> dict[str, Array]:
    """Every metric for every resample.

    Args:
        labels: (N,) 0 or 1.
        logits: (N,).
        user: Number of each exposure's user, 0..U-1; (N,).
        resamples: (B, U) from `user_resamples`.
        top: k of the ranking metrics.

    Returns:
        Name to (B,) values; the first entry is the metric itself.
    """
    users = resamples.shape[1]
    ndcg, recall = ranking_at(labels, logits, user, users, top)
    per_user: dict[str, PerUser] = {
        "gauc": gauc(labels, logits, user, users),
        "log_loss": log_losses(labels, logits, user, users),
        f"ndcg@{top}": ndcg,
        f"recall@{top}": recall,
    }
    return {
        "auc": weighted_auc(labels, logits, resamples, user),
        **{name: values.mean(resamples) for name, values in per_user.items()},
    }
