"""The world of boosted trees, on counts and ages with hindsight.

An exposure is a row of numbers, four for each thing that it shares with others: how much more often than expected these
were clicked, how many they are, how much more often the nearest in time were, before and after, and the time to the
nearest. What is shared: the user, the item, both, and at each level of the semantic ID the item's code, and user and
code. What is expected of an exposure is how often its item is clicked where the user is shared, and how often its user
clicks elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hisac_lab.abtest.hindsight import FOLDS, PRIOR, WIDTH, Exposures, World, folds_of
from hisac_lab.abtest.people import Population
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import Family
from hisac_lab.ops.boosting import Growth, boosted

GROWTH = Growth(rounds=0, leaves=15, depth=8, rate=0.1, least=50, column_share=0.8, bins=63)
"""How the trees grow; their number is a setting."""
NEVER = float(1 << 40)
"""Seconds to the nearest exposure where there is none."""
BLOCK = 1 << 18
"""Rows of things to be shown that are counted at once: memory does not grow with the number of users."""


class Places(NamedTuple):
    """Where n moments stand in a grouping's order; (n,) each.

    Attributes:
        begin: Of the group.
        end: Of the group.
        before: From `begin` to here stands what is earlier.
        after: From here to `end` stands what is later; the exposure itself is in neither.
        time: Seconds.
    """

    begin: Array
    end: Array
    before: Array
    after: Array
    time: Array


@dataclass(frozen=True)
class Grouping:
    """N exposures, group by group in time order.

    Attributes:
        order: Number of each; (N,).
        key: Its group, rising; (N,).
        time: Its seconds; (N,).
        one_user: Whether the exposures of a group are of one user.
    """

    order: Array
    key: Array
    time: Array
    one_user: bool

    @classmethod
    def of(cls, key: Array, time: Array, one_user: bool) -> Grouping:
        """Exposures that share a key; (N,), (N,)."""
        order = np.lexsort((time, key))
        return cls(order, key[order], time[order], one_user)

    def own(self) -> Places:
        """Of the exposures themselves, by their numbers."""
        rank = np.empty(len(self.order), np.int64)
        rank[self.order] = np.arange(len(rank))
        begin, end = (np.searchsorted(self.key, self.key, side)[rank] for side in ("left", "right"))
        return Places(begin, end, rank, rank + 1, self.time[rank])

    def find(self, key: Array, time: Array) -> Places:
        """Of any moments; nothing stands around one whose key no exposure has; (n,), (n,)."""
        distinct, starts = np.unique(self.key, return_index=True)
        starts = np.r_[starts, len(self.key)]
        first = self.time.min()
        span = int(self.time.max() - first) + 2
        group = np.minimum(np.searchsorted(distinct, key), len(distinct) - 1)
        there = distinct[group] == key
        begin = starts[group]
        end = np.where(there, starts[group + 1], begin)
        of_all = np.repeat(np.arange(len(distinct)), np.diff(starts)) * span + (self.time - first)
        at = np.clip(np.searchsorted(of_all, group * span + np.clip(time - first, 0, span - 1)), begin, end)
        return Places(begin, end, at, at, time)

    def columns(self, weight: Array, more: Array, places: Places) -> Array:
        """What exposures of some weight say of moments.

        Args:
            weight: Of each exposure, 0 for those that are not to be looked at; (N,).
            more: Label less what was expected; (N,).
            places: Of n moments.

        Returns:
            Mean, number, mean near, seconds to the nearest; (n, 4) float32.
        """
        begin, end, before, after, time = places
        mine = weight[self.order]
        shown = np.r_[0.0, np.cumsum(mine)]
        clicked = np.r_[0.0, np.cumsum(mine * more[self.order])]

        def rate(since: Array, till: Array) -> Array:
            share: Array = (clicked[till] - clicked[since]) / (shown[till] - shown[since] + PRIOR)
            return share

        place = np.arange(len(mine))
        last = np.r_[-1, np.maximum.accumulate(np.where(mine > 0, place, -1))][before]
        following = np.r_[np.minimum.accumulate(np.where(mine > 0, place, len(mine))[::-1])[::-1], len(mine)][after]
        since = np.where(last >= begin, time - self.time[last], NEVER)
        till = np.where(following < end, self.time[np.minimum(following, len(mine) - 1)] - time, NEVER)
        number = (shown[end] - shown[begin]) * len(mine) / shown[-1]
        near = rate(np.maximum(before - WIDTH, begin), np.minimum(after + WIDTH, end))
        return np.stack([rate(begin, end), number, near, np.minimum(since, till)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Grown:
    """One fit.

    Attributes:
        booster: The trees (a `lightgbm.Booster`).
        weight: Of the exposures that it counts; (N,).
    """

    booster: Any
    weight: Array

    def logits(self, rows: Array) -> Array:
        """Sums over the trees; (n, F) to (n,)."""
        return np.asarray(self.booster.predict(rows, raw_score=True, num_threads=1))


@dataclass(frozen=True)
class Counts:
    """Exposures, their groupings and their folds.

    Attributes:
        exposures: N of them.
        nodes: Code of each item at each level of its semantic ID, -1 without one; (items, L).
        groupings: By what they share.
        places: Of the exposures in each.
        fold: Of each exposure; (N,).
    """

    exposures: Exposures
    nodes: Array
    groupings: list[Grouping]
    places: list[Places]
    fold: Array

    @classmethod
    def of(cls, exposures: Exposures, nodes: Array, seed: int) -> Counts:
        """Of all exposures."""
        keys = _keys(exposures.who, exposures.item, nodes, exposures.items)
        groupings = [Grouping.of(key, exposures.time, one_user) for key, one_user in keys]
        return cls(exposures, nodes, groupings, [one.own() for one in groupings], folds_of(exposures, seed))

    def rows(self, weight: Array, places: Iterable[Places]) -> Array:
        """What exposures of some weight say of moments, whose places each grouping has; (N,) to (n, F) float32."""
        more = {of_items: self.exposures.label - self._expected(weight, of_items) for of_items in (True, False)}
        pairs = zip(self.groupings, places, strict=True)
        return np.concatenate([one.columns(weight, more[one.one_user], where) for one, where in pairs], axis=1)

    def held(self, weight: Array, held: Array) -> Array:
        """The same of exposures that are held out, and have no weight; (N,), (N,) bool to (n, F)."""
        return self.rows(weight, [Places(*(part[held] for part in one)) for one in self.places])

    def crossed(self, weight: Array) -> tuple[Array, Array]:
        """Rows of all exposures of a weight, each by the other folds, and which they are; (n, F), (n,)."""
        parts = [(self.fold == number) & (weight > 0) for number in range(FOLDS)]
        rows = [self.held(weight * ~part, part) for part in parts if part.any()]
        return np.concatenate(rows), np.concatenate([np.flatnonzero(part) for part in parts])

    def _expected(self, weight: Array, of_items: bool) -> Array:
        """How often each exposure's item is clicked, or its user clicks, by exposures of some weight; (N,) to (N,)."""
        label, group = self.exposures.label, self.exposures.item if of_items else self.exposures.who
        mean = (weight * label).sum() / weight.sum()
        shown, clicked = np.bincount(group, weight), np.bincount(group, weight * label)
        rate: Array = ((clicked + PRIOR * mean) / (shown + PRIOR))[group]
        return rate


@dataclass(frozen=True)
class TreeWorld(World):
    """A fitted world of boosted trees.

    Attributes:
        counts: What it counts.
        growth: How trees grow.
        seed: Of the trees.
        grown: Fitted on all exposures.
    """

    family: ClassVar[Family] = "trees"

    counts: Counts
    growth: Growth
    seed: int
    grown: Grown

    def chances(self, people: Population, items: Array, fit: Grown | None = None) -> Array:
        """Of a click (see `World`)."""
        grown = self.grown if fit is None else fit
        counts = self.counts
        who = np.searchsorted(self.exposures.users, people.user)
        flat = items.reshape(len(items), -1)
        found = np.empty(flat.shape)
        step = max(1, BLOCK // flat.shape[1])
        for at in range(0, len(flat), step):
            asked = flat[at : at + step]
            users, times = (np.repeat(of[at : at + step], flat.shape[1]) for of in (who, people.time))
            keys = _keys(users, asked.ravel(), counts.nodes, self.exposures.items)
            places = [grouping.find(key, times) for grouping, (key, _) in zip(counts.groupings, keys, strict=True)]
            found[at : at + step] = grown.logits(counts.rows(grown.weight, places)).reshape(asked.shape)
        chances: Array = 1 / (1 + np.exp(-found.reshape(items.shape)))
        return chances

    def refit(self, weight: Array) -> Grown:
        """Trees by other weights of the users, which also weigh what is counted; (U,)."""
        return _grow(self.counts, weight[self.exposures.who], self.growth, self.seed)


def fit_tree_world(exposures: Exposures, nodes: Array, trees: int, seed: int) -> TreeWorld:
    """Judges every test exposure by trees without it, and fits all.

    Trees for a fold grow on rows of the other folds, each of which counts the folds beside both.

    Args:
        exposures: From both sides of the moment.
        nodes: Code of each item at each level of its semantic ID, -1 without one; (items, L).
        trees: Their number.
        seed: Of the folds and the trees.

    Raises:
        UserError: LightGBM is not installed.
    """
    growth = GROWTH._replace(rounds=trees)
    counts = Counts.of(exposures, nodes, seed)
    logits = np.empty(len(exposures.label))
    for number in range(FOLDS):
        held = exposures.judged & (counts.fold == number)
        if held.any():
            grown = _grow(counts, (counts.fold != number) * 1.0, growth, seed)
            logits[held] = grown.logits(counts.held(grown.weight, held))
    grown = _grow(counts, np.ones(len(logits)), growth, seed)
    size = {"trees": float(trees), "leaves": float(growth.leaves)}
    return TreeWorld(exposures, logits[exposures.judged], size, counts, growth, seed, grown)


def _grow(counts: Counts, weight: Array, growth: Growth, seed: int) -> Grown:
    """Trees on exposures of a weight; (N,)."""
    rows, which = counts.crossed(weight)
    each = None if (weight[which] == 1).all() else weight[which]
    return Grown(boosted(rows, counts.exposures.label[which], each, growth, seed), weight)


def _keys(who: Array, item: Array, nodes: Array, items: int) -> Iterator[tuple[Array, bool]]:
    """What an exposure shares with others: a number for each thing, and whether it is of one user; (n,), (n,)."""
    yield who, True
    yield item, False
    yield who * items + item, True
    for level in nodes.T:
        code = level[item] + 1
        yield code, False
        yield who * (int(level.max()) + 2) + code, True
