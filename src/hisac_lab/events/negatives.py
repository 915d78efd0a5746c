"""Sampled negatives, for logs that tell what was touched and not what was shown.

A draw depends on (seed, user, place of the positive in the user's log, number of the draw) and on events up to the
positive's time: neither later events nor the sharding change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.touches import Touches
from hisac_lab.ops.draws import distinct, uniform
from hisac_lab.ops.ranks import dense_rank

DAY = 86_400
POSITIVES_SALT = 0x706F7369  # the draws of `positives_per_request` are not those of negatives


@dataclass(frozen=True)
class Clicks:
    """Events of one shard, sorted by user and time, n of them.

    Attributes:
        user_hash: Hash of each one's user; (n,) uint64.
        place: Its place in the user's log; (n,) int64.
        request: Its user and time unit, numbered; (n,) int64.
        item: (n,) int32.
        time: Seconds; (n,) int64.
        start: Begin of its time unit in seconds; (n,) int64.
    """

    user_hash: Array
    place: Array
    request: Array
    item: Array
    time: Array
    start: Array


@dataclass(frozen=True)
class Alive:
    """Draws items that were alive, that is, had been seen in the log, at the positive's time; repeats are possible.

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


@dataclass(frozen=True)
class Touched:
    """Draws items by when anybody had touched them last before the positive's time unit.

    No item is drawn twice for a positive, and none that is a positive of the same request. Where there are not enough
    others, all are drawn; what nobody had touched before is matched by none.

    Attributes:
        touches: All events.
        window: Days before the unit in which an item must have been touched; None: as many days before it as the
            positive, in powers of two (1, 2 to 3, 4 to 7 and so on; the 24 hours before the unit are day 1).
        seed: Seed of the draws.
    """

    touches: Touches
    window: int | None
    seed: int

    def draw(self, clicks: Clicks, positives: Array, asked: Array, count: int) -> Array:
        """Negatives of the positives that are `asked`; (k, count) int32, -1 where no item is left.

        Args:
            clicks: The events.
            positives: Positions of all positives, an item once in a request; (p,) int64.
            asked: Which of them are to have negatives, k in all; (p,) bool.
            count: Negatives per positive.
        """
        item, start = clicks.item[positives], clicks.start[positives]
        last = self.touches.last(item, start)
        low, high = self._window(start, last)
        ends = np.concatenate([low, high, np.maximum(last, 0)])
        below_low, below_high, place = self.touches.count(np.tile(start, 3), ends).reshape(3, -1)
        # Positives of a request with one window are a group: none of them is drawn for another.
        group = dense_rank(clicks.request[positives] * (len(self.touches) + 1) + low)
        blocked = np.flatnonzero((last >= low) & (last < high))
        blocked = blocked[np.lexsort((place[blocked], group[blocked]))]
        free = below_high - below_low - np.bincount(group[blocked], minlength=len(positives))[group]

        user_hash, number = clicks.user_hash[positives[asked]], clicks.place[positives[asked]]
        chance = uniform(self.seed, user_hash[:, None], number[:, None], np.arange(count))
        drawn = distinct(chance, free[asked])
        row, column = np.nonzero(drawn >= 0)
        of = np.flatnonzero(asked)[row]
        rank = nth_free(group[blocked], place[blocked] - below_low[blocked], group[of], drawn[row, column])
        found = np.full(drawn.shape, -1, np.int32)
        found[row, column] = self.touches.item(start[of], below_low[of] + rank)
        return found

    def _window(self, start: Array, last: Array) -> tuple[Array, Array]:
        """Touches from which and up to which an item may be drawn; empty for an item that nobody had touched."""
        times = self.touches.times
        if self.window is not None:
            return np.searchsorted(times, start - self.window * DAY), np.searchsorted(times, start)
        days = -(-(start - times[np.maximum(last, 0)]) // DAY)
        power = 1 << (np.frexp(np.maximum(days, 1).astype(np.float64))[1].astype(np.int64) - 1)
        low = np.searchsorted(times, start - (2 * power - 1) * DAY)
        return low, np.where(last >= 0, np.searchsorted(times, start - (power - 1) * DAY), low)


def nth_free(blocked_group: Array, blocked_place: Array, group: Array, rank: Array) -> Array:
    """Place of the rank-th place of a group, from 0, that is not blocked; (q,) int64.

    Args:
        blocked_group: Groups of the blocked places, rising; (b,) int64.
        blocked_place: Those places, rising within a group; (b,) int64.
        group: Of each query; (q,) int64.
        rank: Of each query; (q,) int64.
    """
    within = np.arange(len(blocked_group)) - np.searchsorted(blocked_group, blocked_group)
    span = int(max(blocked_place.max(initial=0), rank.max(initial=0))) + 1
    free_before = blocked_group * span + blocked_place - within
    skipped = np.searchsorted(free_before, group * span + rank, side="right") - np.searchsorted(blocked_group, group)
    place: Array = rank + skipped
    return place


def add_negatives(config: PrepareConfig, ingested: Path, clicks: Clicks, source: Array) -> tuple[Array, Array, Array]:
    """Candidates of all requests: what was touched, and negatives drawn beside it.

    Args:
        config: The section `prepare`.
        ingested: Output of the stage `ingest`.
        clicks: The events.
        source: Positions of the positives among them; (p,) int64.

    Returns:
        Item, label and position of the event it comes from, request by request; a request has an item once.
    """
    positives = source[_first_of_each(clicks.request[source], clicks.item[source])]
    kept = _kept(config, clicks, positives, load_array(ingested, "births"))
    asked, drawn = _draw(config, ingested, clicks, source, positives, kept)
    row, column = np.nonzero(drawn >= 0)
    item = np.concatenate([clicks.item[source], drawn[row, column]])
    label = np.r_[np.ones(len(source), np.int8), np.zeros(len(row), np.int8)]
    source = np.concatenate([source, asked[row]])
    # Positives of a request stand first, so that of two equal candidates the positive stays; those that are left out go
    # last, so that none of them is a negative.
    chosen = _first_of_each(clicks.request[source], item)
    chosen = chosen[kept[source[chosen]]]
    chosen = chosen[np.lexsort((chosen, source[chosen], clicks.request[source[chosen]]))]
    return item[chosen], label[chosen], source[chosen]


def new_items(births: Array, item: Array, start: Array) -> Array:
    """Whether nobody had touched an item before the time unit; (n,) bool."""
    new: Array = births[item] >= start
    return new


def _kept(config: PrepareConfig, clicks: Clicks, positives: Array, births: Array) -> Array:
    """Events whose candidates stay; (n,) bool."""
    kept = np.ones(len(clicks.item), bool)
    if config.new_items == "drop":
        kept = ~new_items(births, clicks.item, clicks.start)
    if config.positives_per_request is not None:
        able = positives[kept[positives]]
        chance = uniform(config.seed, POSITIVES_SALT, clicks.user_hash[able], clicks.place[able])
        kept = np.zeros(len(clicks.item), bool)
        kept[able] = _smallest(chance, clicks.request[able], config.positives_per_request)
    return kept


def _draw(
    config: PrepareConfig, ingested: Path, clicks: Clicks, source: Array, positives: Array, kept: Array
) -> tuple[Array, Array]:
    """Positions of k events that negatives are drawn for, and the items drawn; (k, negatives) int32."""
    if config.negatives_by in ("uniform", "popularity"):
        sampler = Alive(
            config.negatives_by,
            load_array(ingested, "births"),
            config.seed,
            *(load_timeline(ingested) if config.negatives_by == "popularity" else (None, None)),
        )
        chosen = clicks.user_hash[source], clicks.place[source], clicks.time[source]
        return source, sampler.draw(*chosen, config.negatives)
    window = config.negatives_window if config.negatives_by == "recent" else None
    touched = Touched(Touches(*load_timeline(ingested)), window, config.seed)
    asked = kept[positives]
    return positives[asked], touched.draw(clicks, positives, asked, config.negatives)


def load_timeline(ingested: Path) -> tuple[Array, Array]:
    """Times of all events, rising, and their items."""
    return load_array(ingested, "timeline_times"), load_array(ingested, "timeline_items")


def _first_of_each(request: Array, item: Array) -> Array:
    """Positions of the first of each request and item, sorted by both; (k,) int64."""
    order = np.lexsort((item, request))
    fresh = np.ones(len(order), bool)
    request, item = request[order], item[order]
    fresh[1:] = (request[1:] != request[:-1]) | (item[1:] != item[:-1])
    return order[fresh]


def _smallest(chance: Array, group: Array, count: int) -> Array:
    """True at the `count` smallest of each group."""
    order = np.lexsort((chance, group))
    sizes = np.bincount(group)
    rank = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    smallest = np.zeros(len(group), bool)
    smallest[order] = rank < count
    return smallest
