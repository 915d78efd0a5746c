"""The log's item series: events that an item had strictly before any time, plain and fading, and the age of the newest.

The events of all items lie in one array, item by item in time order, each with the fading sums up to it. So a question
is a binary search and one multiplication per half-life, whoever asks: training, evaluation, A/B test or a server, which
keeps one row per item (`Snapshot`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np

from hisac_lab.base.artifacts import Array, load_array, save_arrays, save_blocks

DAY = 86_400
SPAN = 1 << 36
"""Seconds that a key of the series has for the time of an item's event, half of them before 1970."""
BLOCK = 1 << 20  # events merged at once


@dataclass(frozen=True)
class ItemCounts:
    """What items had before some times; arrays of one shape.

    Attributes:
        count: Events; (...,) int64.
        faded: The same, each event less with age, half at a half-life; (..., H) float64.
        age: Seconds since the newest, -1 where there is none; (...,) int64.
    """

    count: Array
    faded: Array
    age: Array


class Counter(Protocol):
    """What answers for the events of items."""

    def at(self, items: Array, times: Array) -> ItemCounts:
        """Counts of items strictly before times; two integer arrays that broadcast."""


@dataclass(frozen=True)
class ItemSeries:
    """Events of items, n of them, memory-mapped.

    Attributes:
        half_lives: Days, H of them.
        offsets: Where each item's events begin; (items + 1,) int64.
        keys: Item and time of each event in one rising number, see `key_of`; (n,) int64.
        sums: Fading sum of the item's events up to this one, itself among them, at its time; (n, H) float64.
    """

    half_lives: tuple[float, ...]
    offsets: Array
    keys: Array
    sums: Array

    @classmethod
    def of(cls, items: Array, times: Array, count: int, half_lives: Sequence[float]) -> ItemSeries:
        """The series of events in any order.

        Args:
            items: Item of each event; (n,) integers.
            times: Its time, seconds; (n,) integers.
            count: Number of items.
            half_lives: Days.
        """
        keys = np.sort(key_of(np.asarray(items), np.asarray(times)))
        offsets = np.r_[0, np.cumsum(np.bincount(items, minlength=count))]
        return cls(tuple(half_lives), offsets, keys, fading_sums(keys, half_lives))

    @classmethod
    def open(cls, folder: Path, name: str, half_lives: Sequence[float]) -> ItemSeries:
        """Opens the series `name` in the output of the stage `prepare`.

        Raises:
            UserError: It is not there.
        """
        offsets, keys, sums = (load_array(folder, f"{name}_{part}") for part in ("offsets", "keys", "sums"))
        return cls(tuple(half_lives), offsets, keys, sums)

    def at(self, items: Array, times: Array) -> ItemCounts:
        """Counts of items strictly before times; two integer arrays that broadcast."""
        items, times = np.broadcast_arrays(items, times)
        place = np.searchsorted(self.keys, key_of(items, times))
        count = place - self.offsets[items]
        if not len(self.keys):
            return _counts(count, np.zeros((*count.shape, len(self.half_lives))), count, self.half_lives)
        last = np.maximum(place - 1, 0)
        return _counts(count, self.sums[last], times - times_of(self.keys[last]), self.half_lives)

    def snapshot(self) -> Snapshot:
        """What is known of each item after the last event."""
        count = np.diff(self.offsets)
        there = np.flatnonzero(count)
        last = self.offsets[1:][there] - 1
        newest, sums = np.zeros(len(count), np.int64), np.zeros((len(count), len(self.half_lives)))
        newest[there], sums[there] = times_of(self.keys[last]), self.sums[last]
        return Snapshot(self.half_lives, count, newest, sums)


@dataclass(frozen=True)
class Snapshot:
    """The end of a series, one row per item: what a server keeps.

    Attributes:
        half_lives: Days, H of them.
        count: Events of each item; (items,) int64.
        newest: Time of the newest, seconds, 0 where there is none; (items,) int64.
        sums: Fading sum at that time; (items, H) float64.
    """

    half_lives: tuple[float, ...]
    count: Array
    newest: Array
    sums: Array

    @classmethod
    def open(cls, folder: Path, name: str, half_lives: Sequence[float]) -> Snapshot:
        """Opens what `save` wrote.

        Raises:
            UserError: It is not there.
        """
        count, newest, sums = (load_array(folder, f"{name}_{part}") for part in ("count", "newest", "sums"))
        return cls(tuple(half_lives), count, newest, sums)

    def save(self, folder: Path, name: str) -> None:
        """Writes the rows."""
        rows = {"count": self.count, "newest": self.newest, "sums": self.sums}
        save_arrays(folder, {f"{name}_{part}": values for part, values in rows.items()})

    def at(self, items: Array, times: Array) -> ItemCounts:
        """Counts of items at times after the last event; at an earlier one, that event counts as new."""
        items, times = np.broadcast_arrays(items, times)
        age = np.maximum(times - self.newest[items], 0)
        return _counts(self.count[items], self.sums[items], age, self.half_lives)


def key_of(items: Array, times: Array) -> Array:
    """Item and time in one number, rising by item and then by time; two (...,) integers to (...,) int64."""
    seconds = (np.asarray(times, np.int64) + SPAN // 2).clip(0, SPAN - 1)
    keys: Array = np.asarray(items, np.int64) * SPAN + seconds
    return keys


def times_of(keys: Array) -> Array:
    """The time in each key; (...,) int64."""
    times: Array = keys % SPAN - SPAN // 2
    return times


def fading_sums(keys: Array, half_lives: Sequence[float]) -> Array:
    """Sum over an item's events up to each one of 2^(-days between them / half-life); (n,) to (n, H) float64.

    Each sum is one more than the faded sum before it, so those of a half-life solve a system with two diagonals: S_i -
    f_i S_(i-1) = 1, where f_i is what is left of an event after the gap before i, and 0 at the first of an item. BLAS
    solves it from the first on, one multiply-add for each event.

    Args:
        keys: Of events, rising; (n,) int64.
        half_lives: Days.
    """
    from scipy.linalg.blas import dtbsv  # slow to import, and most who read a series make none

    sums = np.empty((len(keys), len(half_lives)))
    if not len(keys):
        return sums
    bands = np.zeros((2, len(keys)), order="F")  # the ones of the diagonal are not read
    days = np.diff(keys, append=keys[-1:]) / DAY
    stays = np.diff(keys // SPAN, append=-1) == 0  # the next event is of the same item
    for column, half in enumerate(half_lives):
        bands[1] = -np.exp2(-days / half) * stays
        sums[:, column] = dtbsv(1, bands, np.ones(len(keys)), lower=1, diag=1, overwrite_x=1)
    return sums


def _counts(count: Array, sums: Array, age: Array, half_lives: Sequence[float]) -> ItemCounts:
    """Counts from the sums at the newest event and the seconds since it."""
    there = count > 0
    fade = np.exp2(-np.where(there, age, 0)[..., None] / (np.asarray(half_lives, np.float64) * DAY))
    return ItemCounts(count, np.where(there[..., None], sums * fade, 0.0), np.where(there, age, -1))


def save_events(folder: Path, name: str, items: Array, times: Array, count: int) -> None:
    """Writes a shard's events of a series, item by item in time order; `join_events` reads them.

    Args:
        folder: The shard's output.
        name: Of the series.
        items: Item of each event; (n,) integers.
        times: Its time, seconds; (n,) int64.
        count: Number of items.
    """
    offsets = np.r_[0, np.cumsum(np.bincount(items, minlength=count))]
    save_arrays(folder, {f"{name}_offsets": offsets, f"{name}_keys": np.sort(key_of(items, times))})


def join_events(shards: Sequence[Path], name: str, half_lives: Sequence[float], out: Path) -> None:
    """Merges what `save_events` wrote into the series `name`, some items at a time: memory grows with none but one.

    Args:
        shards: Outputs of the stage `shard`.
        name: Of the series.
        half_lives: Days.
        out: Where `ItemSeries.open` finds it.
    """
    begins = [load_array(path, f"{name}_offsets") for path in shards]
    parts = [load_array(path, f"{name}_keys") for path in shards]
    offsets = reduce(np.add, begins)
    save_arrays(out, {f"{name}_offsets": offsets})

    spans = list(_spans(offsets))

    def merged() -> Iterator[Array]:
        yield np.zeros(0, np.int64)
        for first, last in spans:
            yield np.sort(np.concatenate([part[of[first] : of[last]] for part, of in zip(parts, begins, strict=True)]))

    save_blocks(out, f"{name}_keys", int(offsets[-1]), merged())
    keys = load_array(out, f"{name}_keys")
    blocks = (keys[offsets[first] : offsets[last]] for first, last in [(0, 0), *spans])
    save_blocks(out, f"{name}_sums", int(offsets[-1]), (fading_sums(block, half_lives) for block in blocks))


def _spans(offsets: Array) -> Iterator[tuple[int, int]]:
    """Ranges of items with about `BLOCK` events each, at least one item."""
    first = 0
    while first < len(offsets) - 1:
        last = max(int(np.searchsorted(offsets, offsets[first] + BLOCK, side="right")) - 1, first + 1)
        yield first, last
        first = last
