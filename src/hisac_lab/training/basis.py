"""How far the vectors of one state of the compressor are those of another, and the rotation that brings them nearest.

Vectors of different chunks are written by different weights, so the same exposure would have other numbers in each. An
orthogonal map (Schoenemann 1966, "A generalized solution of the orthogonal Procrustes problem") keeps all distances
between vectors of a chunk: it changes the basis they are written in and nothing of what they say.
"""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array


def rotation(own: Array, last: Array) -> Array:
    """The orthogonal map that brings one set of vectors nearest to another, row by row.

    Args:
        own: N vectors; (N, E).
        last: Of the same exposures, by other weights; (N, E).

    Returns:
        (E, E) float64: `own @ rotation` is nearest to `last` in squared distance.
    """
    left, _, right = np.linalg.svd(own.astype(np.float64).T @ last.astype(np.float64))
    turn: Array = left @ right
    return turn


def explained(own: Array, last: Array, turn: Array) -> float | None:
    """Share of the variance of `last` that `own`, turned, explains: 1 the same, 0 no better than the mean, or worse.

    Args:
        own: (N, E).
        last: (N, E).
        turn: (E, E).

    Returns:
        None where `last` does not vary.
    """
    wanted = last.astype(np.float64)
    total = float(((wanted - wanted.mean(axis=0)) ** 2).sum())
    left = float(((own.astype(np.float64) @ turn - wanted) ** 2).sum())
    return None if total == 0 else round(1 - left / total, 4)
