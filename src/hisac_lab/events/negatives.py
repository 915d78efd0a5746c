"""Sampled negatives, for logs that tell what was touched and not what was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.ops.draws import uniform


@dataclass(frozen=True)
class NegativeSampler:
    """Draws items that were alive, that is, had been seen in the log, at the positive's time.

    A draw depends on (seed, user, place of the positive in the user's log, number of the draw) and on events up to
    the positive's time: neither later events nor the sharding change it.

    Attributes:
        by: uniform: any item alive; popularity: the item of any event up to then, of whatever user.
        births: Time of each item's first event; (items,) int64.
        seed: Seed of the draws.
        timeline_times: Times of all events, rising; popularity only.
        timeline_items: Their items.
    """

    by: Literal["uniform", "popularity"]
    births: Array
    seed: int
    timeline_times: Array | None = None
    timeline_items: Array | None = None

    def draw(self, user_hash: Array, place: Array, time: Array, count: int) -> Array:
        """Negatives of n positives; (n, count) int32.

        Args:
            user_hash: Hash of each positive's user; (n,) uint64.
            place: Its place in the user's log; (n,) int64.
            time: Its time in seconds; (n,) int64.
            count: Negatives per positive.
        """
        chance = uniform(self.seed, user_hash[:, None], place[:, None], np.arange(count))
        if self.by == "popularity":
            assert self.timeline_times is not None
            assert self.timeline_items is not None
            items, seen = self.timeline_items, np.searchsorted(self.timeline_times, time, side="right")
        else:
            items = np.argsort(self.births, kind="stable")
            seen = np.searchsorted(self.births[items], time, side="right")
        drawn: Array = items[(chance * seen[:, None]).astype(np.int64)]
        return drawn.astype(np.int32)
