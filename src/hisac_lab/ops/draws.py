"""Random numbers that depend on their keys alone: the same draw whatever the order, the sharding or the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_STEP = np.uint64(0x9E3779B97F4A7C15)
_ONE, _TWO = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(*keys: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Hash of integer keys, broadcast against each other: splitmix64 (Steele, Lea and Flood 2014), key after key."""
    state: npt.NDArray[Any] = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = (state ^ np.asarray(key).astype(np.uint64)) + _STEP
            state = (state ^ (state >> np.uint64(30))) * _ONE
            state = (state ^ (state >> np.uint64(27))) * _TWO
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*keys: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform in [0, 1), one number per combination of keys."""
    fraction: npt.NDArray[np.float64] = (mix(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return fraction


def distinct(chance: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Draws without replacement: of each row up to k different numbers below its size; (n, k), -1 where there are none.

    Every set of numbers is as likely as any other (Floyd's algorithm: Bentley and Floyd, CACM 1987).

    Args:
        chance: Uniform in [0, 1), one for each draw; (n, k).
        sizes: (n,).
    """
    k = chance.shape[1]
    wanted = np.minimum(sizes, k)
    drawn = np.full(chance.shape, -1, np.int64)
    for column in range(k):
        top = sizes - wanted + column
        number = (chance[:, column] * (top + 1)).astype(np.int64)
        taken = (drawn[:, :column] == number[:, None]).any(axis=1)
        drawn[:, column] = np.where(column < wanted, np.where(taken, top, number), -1)
    return drawn
