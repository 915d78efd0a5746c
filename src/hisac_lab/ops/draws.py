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
