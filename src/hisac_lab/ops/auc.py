"""The area under the ROC curve, exact, for many weightings of the same scores at once."""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array


def weighted_auc(labels: Array, scores: Array, weights: Array) -> Array:
    """Area under the ROC curve, ties counted half, for B weightings at once.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        weights: (B, N), not negative.

    Returns:
        (B,); NaN where a weighting leaves one class empty.
    """
    order = np.argsort(scores, kind="stable")
    ordered, weights = labels[order] > 0, weights[:, order]
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    positive = np.cumsum(np.where(ordered, weights, 0), axis=1)[:, ends]
    negative = np.cumsum(np.where(ordered, 0, weights), axis=1)[:, ends]
    steps = np.diff(positive, axis=1, prepend=0)
    below = negative - np.diff(negative, axis=1, prepend=0) / 2
    total = positive[:, -1] * negative[:, -1]
    area: Array = np.divide((steps * below).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
    return area


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve, ties counted half."""
    return float(weighted_auc(labels, scores, np.ones((1, len(labels))))[0])
