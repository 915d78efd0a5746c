"""Logistic regression by Newton's method, in arithmetic that is the same on every processor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hisac_lab.base.artifacts import Array

STEPS, HALVINGS = 25, 30
BLOCK = 1 << 13  # rows whose products are added at once


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean log loss of (n,) logits."""
    return float(nn.functional.binary_cross_entropy_with_logits(logits, labels))


def logistic(rows: Tensor, labels: Tensor, ridge: float, share: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weights w and bias b that minimize the weighted sum of the log losses of `rows w + b` and ridge |w|^2 / 2.

    Args:
        rows: (n, F) float64.
        labels: 0 or 1; (n,) float64.
        ridge: Above 0.
        share: Weight of each row; (n,) float64. None: all weigh 1.

    Returns:
        (F,) and () float64.
    """
    share = torch.ones_like(labels) if share is None else share
    wide = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
    penalty = torch.full((wide.shape[1],), ridge, dtype=torch.float64)
    penalty[-1] = 0.0  # none on the bias
    best = torch.zeros_like(penalty)
    least = _objective(wide, labels, share, penalty, best)
    for _ in range(STEPS):
        gradient, curvature = _derivatives(wide, labels, share, penalty, best)
        step = torch.from_numpy(solve(curvature.numpy(), gradient.numpy()))
        for _ in range(HALVINGS):
            objective = _objective(wide, labels, share, penalty, best - step)
            if objective < least:
                break
            step = step / 2
        else:
            break
        best, least = best - step, objective
    return best[:-1], best[-1]


def _objective(wide: Tensor, labels: Tensor, share: Tensor, penalty: Tensor, weights: Tensor) -> float:
    losses = nn.functional.binary_cross_entropy_with_logits(wide @ weights, labels, share, reduction="sum")
    return float(losses + (penalty * weights.square()).sum() / 2)


def _derivatives(
    wide: Tensor, labels: Tensor, share: Tensor, penalty: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient and matrix of second derivatives."""
    gradient, curvature = penalty * weights, torch.diag(penalty)
    blocks = (torch.split(column, BLOCK) for column in (wide, labels, share))
    for part, answers, weight in zip(*blocks, strict=True):
        chance = torch.sigmoid(part @ weights)
        gradient = gradient + part.T @ (weight * (chance - answers))
        curvature = curvature + part.T @ (part * (weight * chance * (1 - chance))[:, None])
    curvature[-1, -1] += 1e-9  # of the bias, where all chances are 0 or 1
    return gradient, curvature


def solve(matrix: Array, vector: Array) -> Array:
    """X with matrix x = vector, for a positive definite matrix, by elimination: no library decides the order of sums.

    Args:
        matrix: (F, F) float64.
        vector: (F,) float64.
    """
    table = np.concatenate([matrix, vector[:, None]], axis=1)
    for place in range(len(matrix)):
        table[place] /= table[place, place]
        column = table[:, place].copy()
        column[place] = 0.0
        table -= column[:, None] * table[place]
    return table[:, -1]
