"""When each item was touched last before a time, by anybody: for any number of times at once."""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.ops.ranks import count_below, select

NEVER = np.iinfo(np.int64).max


class Touches:
    """All events of a log as touches of items, n of them.

    A touch is the last of its item before every time from then to the item's next touch. With the touches in the order
    of that next one, those which are not over at a time are a suffix; of it, the earlier ones by time are last touches.

    Args:
        times: Rising; (n,) int64.
        items: (n,) integers.
    """

    def __init__(self, times: Array, items: Array) -> None:
        n = len(times)
        order = np.argsort(items, kind="stable")
        same = items[order][1:] == items[order][:-1]
        over = np.full(n, NEVER)
        over[order[:-1][same]] = times[order[1:][same]]
        self.times, self.items = times, items
        self._by_item = items[order].astype(np.int64) * (n + 1) + order
        self._by_end = np.argsort(over, kind="stable")
        self._ends = over[self._by_end]

    def __len__(self) -> int:
        return len(self.times)

    def last(self, item: Array, start: Array) -> Array:
        """Position of each item's last touch before a time, -1 where there is none; (q,) int64."""
        key = item.astype(np.int64) * (len(self) + 1)
        at = np.searchsorted(self._by_item, key + np.searchsorted(self.times, start)) - 1
        position = self._by_item[np.maximum(at, 0)] - key
        return np.where((at >= 0) & (position >= 0), position, -1)

    def count(self, start: Array, position: Array) -> Array:
        """How many items have their last touch before a time below a position; (q,) int64.

        Args:
            start: Times; (q,) int64.
            position: Positions of which none is later than the last touch before that time; (q,) int64.
        """
        return count_below(self._by_end, np.searchsorted(self._ends, start), position)

    def item(self, start: Array, rank: Array) -> Array:
        """The item of a rank, from 0, by its last touch before a time, longest ago first; (q,).

        Args:
            start: Times; (q,) int64.
            rank: Below the number of items touched before that time; (q,) int64.
        """
        touched: Array = self.items[select(self._by_end, np.searchsorted(self._ends, start), rank)]
        return touched
