"""A prepared log in the words of requests: ids, values of feedback, columns of users and requests."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.events.side_columns import SideColumns, SideTable
from hisac_lab.events.store import REST, SPLITS, EventStore, sample_array
from hisac_lab.serving.states import UserHistory


class LogWords:
    """What requests say where a prepared log has numbers.

    Args:
        store: The log.
    """

    def __init__(self, store: EventStore) -> None:
        levels = store.manifest.feedback
        self.store, self.items = store, store.item_table["item"].to_numpy()
        self.values = np.array([None, *(levels.begins if levels else ())], dtype=object)

    def history(self, events: slice, columns: dict[str, Any], feedback: Array | None = None) -> UserHistory:
        """Events as a request brings them.

        Args:
            events: Where in the store they lie.
            columns: What is known beside them.
            feedback: Level of the feedback on each, 0 where it is unknown; None: as it lies in the store.
        """
        items, times = (np.asarray(part[events]) for part in (self.store.items, self.store.times))
        if feedback is None:
            known = self.store.feedback
            feedback = np.zeros(len(times), np.int64) if known is None else np.asarray(known[events])
        return UserHistory(self.items[items].tolist(), times.tolist(), self.values[feedback].tolist(), columns)

    def columns(self, user: int, request: int) -> dict[str, Any]:
        """What the log knows of a user and of a request, -1 for none: values by the names that requests have."""
        named = dict[str, Any]()
        for side, row in (("user", user), ("request", request)):
            table = self._sides.get(side)
            if table is not None and row >= 0:
                named |= {f"{side}_{name}": value for name, value in _values(table.columns, table.values[row]).items()}
        return named

    @cached_property
    def newest(self) -> Array:
        """Number of each user's newest request, -1 without one; (U,) int64."""
        newest = np.full(len(self.store.user_ids), -1)
        if "request" not in self._sides:
            return newest
        since = np.full(len(newest), np.iinfo(np.int64).min)
        for part in (*SPLITS, *(f"{REST}_{name}" for name in self.store.manifest.exposures)):
            samples = load_array(self.store.path, sample_array(part))
            last = samples[np.flatnonzero(np.diff(samples["user"], append=-1))]
            last = last[last["time"] >= since[last["user"]]]
            newest[last["user"]], since[last["user"]] = last["request"], last["time"]
        return newest

    @cached_property
    def _sides(self) -> dict[str, SideTable]:
        sides: tuple[Literal["user", "request"], ...] = ("user", "request")
        return {side: self.store.side(side) for side in sides if getattr(self.store.manifest.context, side).names}


def _values(columns: SideColumns, row: Array) -> dict[str, Any]:
    """Values of a row of a `SideTable`, without those that are not known."""
    found = dict[str, Any]()
    for category, code in zip(columns.fields, row.tolist(), strict=False):
        if code:
            found[category.name] = category.values[int(code) - 1]
    for number, value in zip(columns.numbers, row[len(columns.fields) :].tolist(), strict=True):
        if not np.isnan(value):
            found[number.name] = value
    return found
