"""The area under the ROC curve, exact, for many weightings of the same scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hisac_lab.base.artifacts import Array


def weighted_auc(labels: Array, scores: Array, weights: Iterable[Array], user: Array | None = None) -> Array:
    """Area under the ROC curve, ties counted half, for B weightings.

    The scores are sorted once; of each weighting only the negatives are summed up, and read where a positive stands.
    Whole weights give the same bits in whatever order they are added.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        weights: B times (N,), not negative; (U,) with `user`. One at a time is looked at, so they may be drawn lazily.
        user: The column of `weights` that weighs each sample; (N,).

    Returns:
        (B,); NaN where a weighting leaves one class empty.
    """
    user = np.arange(len(labels)) if user is None else user
    order = np.argsort(scores, kind="stable")
    positive, negative = order[labels[order] > 0], order[labels[order] <= 0]
    below = np.searchsorted(scores[negative], scores[positive], "left")
    not_above = np.searchsorted(scores[negative], scores[positive], "right")
    winners, losers = user[positive], user[negative]
    beaten = np.zeros(len(losers) + 1)
    areas = []
    for weight in weights:
        np.cumsum(weight[losers], out=beaten[1:])
        weight_won = weight[winners]
        total = weight_won.sum() * beaten[-1]
        areas.append(weight_won @ (beaten[below] + beaten[not_above]) / 2 / total if total > 0 else np.nan)
    return np.array(areas)


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve, ties counted half."""
    return float(weighted_auc(labels, scores, np.ones((1, len(labels))))[0])
