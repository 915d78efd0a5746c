"""Does a fitted world click as people do? What was shown in the test period, shown again to the world.

Clicks are drawn on the logged exposures, each by fits that its label has not reached, and two distributions over users
are compared with the log's: the share that a user clicks, and the share of a user's consecutive clicks that are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hisac_lab.base.artifacts import Array

DRAWS = 20


def apart(label: Array, chance: Array, who: Array, code: Array | None, seed: int) -> dict[str, tuple[float, float]]:
    """How far the world's clicks are from the log's.

    Args:
        label: Of the test exposures, user by user in time order; (M,).
        chance: Of a click by the world; (M,).
        who: User, 0..U-1; (M,).
        code: First code of the item's semantic ID, -1 without one; (M,). None: there are no codes.
        seed: Of the draws.

    Returns:
        Kolmogorov-Smirnov distance of the log to all draws, and the largest of one draw to them. `users`: of the
        shares that users click. `sequence`: of the shares of users' consecutive clicks with a code in common; left out
        without codes, and where nobody clicks twice.
    """
    random = np.random.default_rng([seed, 9])
    clicks = [label > 0, *(random.random(len(chance)) < chance for _ in range(DRAWS))]
    shown = np.bincount(who)
    found = {"users": _gaps([np.bincount(who, one) / shown for one in clicks])}
    if code is not None:
        shares = [_alike(one, who, code) for one in clicks]
        if all(len(one) for one in shares):
            found["sequence"] = _gaps(shares)
    return found


def _alike(clicked: Array, who: Array, code: Array) -> Array:
    """Share of each user's consecutive clicks whose items have the code in common, of users with two clicks."""
    user, node = who[clicked], code[clicked]
    pair = user[1:] == user[:-1]
    pairs = np.bincount(user[1:], pair)
    alike = np.bincount(user[1:], pair & (node[1:] == node[:-1]))
    share: Array = alike[pairs > 0] / pairs[pairs > 0]
    return share


def _gaps(values: Sequence[Array]) -> tuple[float, float]:
    """Distance of the first sample to the others together, and the largest of one of these."""
    together = np.sort(np.concatenate(values[1:]))
    first, *others = (_distance(np.sort(one), together) for one in values)
    return first, max(others)


def _distance(sample: Array, others: Array) -> float:
    """Largest difference of two distribution functions (Kolmogorov-Smirnov), of sorted values."""
    at = np.concatenate([sample, others])
    gaps = np.searchsorted(sample, at, "right") / len(sample) - np.searchsorted(others, at, "right") / len(others)
    return float(np.abs(gaps).max())
