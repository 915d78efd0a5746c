"""Logged exposures as evidence: what a policy would show in place of what was shown, judged by the clicks that came.

A policy chooses its slate from a pool of items. Each item is in it by a chance of its own, independently, so that the
chance that the logged item is in a pool is known, and the place that the policy gives it there is looked up.
Propensities stand in the log (the column `propensity`: the chance of the item at its place, given the user and what
stood above), or the exposures are uniform at random, as KuaiRand's are. Beside, the real slates are put in the policy's
order.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from hisac_lab.abtest.evidence import looked_at
from hisac_lab.abtest.factors import fit_factor_world
from hisac_lab.abtest.hindsight import Exposures, World
from hisac_lab.abtest.offpolicy import PROPENSITY, Rounds, checked_propensities
from hisac_lab.abtest.people import Log, Population
from hisac_lab.abtest.records import NothingToJudge
from hisac_lab.abtest.truth import examined
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.events.store import RANDOM, SPLITS, EventStore
from hisac_lab.world.simulate import Simulator

POSITION = "position"


@dataclass(frozen=True)
class Slates:
    """R logged requests of T users, at most L exposures each, and a pool of at most M items beside each.

    Attributes:
        people: Of each request: who, when, with which history; R of them.
        row: Number of each request's user, 0..T-1; (R,).
        items: Logged items; (R, L).
        there: False in the padding; (R, L) bool.
        click: (R, L).
        propensity: 1 in the padding; (R, L).
        above: Whether exposure k stood above exposure j, whose propensity knows it; (R, L, L), the later axis is k.
        seen: Chance that each logged place was looked at; (R, L).
        pool: Items of the pool; (R, M).
        filled: False in the padding; (R, M) bool.
        inclusion: Chance of each item of the catalog to be in a pool; (items,).
        examined: Chance that each place of a slate is looked at; (slate,).
    """

    people: Population
    row: Array
    items: Array
    there: Array
    click: Array
    propensity: Array
    above: Array
    seen: Array
    pool: Array
    filled: Array
    inclusion: Array
    examined: Array

    @property
    def asked(self) -> Array:
        """What a policy scores: logged items, then those of the pool; (R, L + M)."""
        return np.concatenate([self.items, self.pool], axis=1)

    @property
    def users(self) -> int:
        """Number T of users."""
        return int(self.row.max()) + 1

    @classmethod
    def of(cls, store: EventStore, config: ABTestConfig, simulator: Simulator | None) -> Slates:
        """Requests of the test period, with propensities of the log or at random.

        Args:
            store: The events.
            config: The section `abtest`.
            simulator: The world that made the log, which knows how well its places are seen; None: it is of no world,
                and a click is taken to say the same at every place.

        Raises:
            UserError: No propensities stand in the log and nothing was shown at random; or they are no chances.
            NothingToJudge: There are no four users, whom an A/A test needs.
        """
        logged = PROPENSITY in store.manifest.logged
        part = "test" if logged else RANDOM
        samples, columns = np.asarray(store.samples(part)), np.asarray(store.logged(part))
        kept = np.flatnonzero(samples["time"] >= store.manifest.cuts["test"])
        if not len(kept):
            what = (
                "replay needs propensities: the log has no column `propensity`, and its test period holds no exposures "
                "at random"
            )
            raise UserError(SETTINGS, what, "log them, or set it to fitted", "abtest.evidence")
        kept = kept[_drawn(samples[kept], config)]
        samples, columns = samples[kept], columns[kept]
        if (users := len(np.unique(samples["user"]))) < 4:
            what = f"of the four users that a test needs, {users} have exposures to replay"
            raise NothingToJudge(store.path, what, "give a longer test period", part)
        random_items = np.unique(store.samples(RANDOM)["item"])
        if logged:
            chance = checked_propensities(columns[:, list(store.manifest.logged).index(PROPENSITY)], f"{store.path}")
            weight = _shown_before(store)
        else:
            chance = np.full(len(samples), 1 / len(random_items))
            weight = np.bincount(random_items, minlength=store.manifest.items).astype(float)
        position = (
            columns[:, list(store.manifest.logged).index(POSITION)].astype(np.int64)
            if POSITION in store.manifest.logged
            else np.zeros(len(samples), np.int64)
        )
        return cls._grid(samples, chance, position, weight, config, simulator)

    @classmethod
    def _grid(
        cls,
        samples: Array,
        chance: Array,
        position: Array,
        weight: Array,
        config: ABTestConfig,
        simulator: Simulator | None,
    ) -> Slates:
        """Exposures laid out by request, with a pool drawn for each; `weight` of each item in a pool, (items,)."""
        heads = np.flatnonzero(np.r_[True, np.diff(samples["request"]) != 0])
        counts = np.diff(np.r_[heads, len(samples)])
        row, column = np.repeat(np.arange(len(heads)), counts), np.arange(len(samples)) - np.repeat(heads, counts)

        def laid(values: Array, fill: float = 0) -> Array:
            grid = np.full((len(heads), int(counts.max())), fill, values.dtype)
            grid[row, column] = values
            return grid

        there, place = laid(np.ones(len(samples), bool)), laid(position)
        seen, wanted = np.ones(len(samples)), np.ones(config.slate)
        if simulator is not None:
            seen, wanted = examined(simulator, int(position.max()) + 1)[position], examined(simulator, config.slate)
        first = samples[heads]
        inclusion = np.minimum(1.0, config.pool * weight / weight.sum())
        random = np.random.default_rng([config.seed, 7])
        drawn = [np.flatnonzero(random.random(len(weight)) < inclusion) for _ in heads]
        filled = np.arange(max(1, *map(len, drawn))) < np.array([len(one) for one in drawn])[:, None]
        pool = np.zeros(filled.shape, np.int64)
        pool[filled] = np.concatenate(drawn)
        user = first["user"].astype(np.int64)
        return cls(
            Population(user, first["time"], first["end"], np.ones(len(heads), np.int64), first["request"]),
            np.unique(user, return_inverse=True)[1],
            laid(samples["item"].astype(np.int64)),
            there,
            laid(samples["label"].astype(float)),
            laid(chance, 1),
            (place[:, None, :] < place[:, :, None]) & there[:, None, :],
            laid(seen, 1),
            pool,
            filled,
            inclusion,
            wanted,
        )

    def rounds(self, scores: Array, liked: Array, nodes: Array | None) -> Rounds:
        """What a policy makes of every exposure.

        Args:
            scores: Of the logged items and the pools, as `asked` has them; (R, L + M).
            liked: Chance of a click on the same by the click model, where a place is looked at; (R, L + M).
            nodes: Semantic ID of each item, a code; (items,). None: there are none.
        """
        width = self.items.shape[1]
        mine, theirs = scores[:, :width], scores[:, width:]
        order = np.lexsort((self.pool, -theirs, ~self.filled))
        pool, theirs, filled, would = (
            np.take_along_axis(part, order, axis=1) for part in (self.pool, theirs, self.filled, liked[:, width:])
        )
        chance = self.inclusion[self.items]
        found = [np.zeros(self.items.shape) for _ in range(4)]
        weight, expected, direct, by_code = found
        logged = self.items[:, None, :] == pool[:, :, None]
        for place in range(width):
            item = self.items[:, place, None]
            open_ = filled & ~(logged & self.above[:, place, None, :]).any(axis=2)
            seen = self._seen(np.cumsum(open_, axis=1) - 1, open_)
            expected[:, place], direct[:, place] = seen.sum(axis=1), (seen * would).sum(axis=1)
            score = mine[:, place, None]
            ahead = open_ & (pool != item) & ((theirs > score) | ((theirs == score) & (pool < item)))
            at = ahead.sum(axis=1)
            weight[:, place] = chance[:, place] * self._seen(at, np.ones(len(at), bool)) / self.propensity[:, place]
            if nodes is not None:
                by_code[:, place] = self._of_code(nodes, place, (seen * (nodes[pool] == nodes[item])).sum(axis=1))
        there = self.there
        user = np.repeat(self.row, width).reshape(there.shape)[there]
        reward = (self.click / self.seen)[there]
        parts = (weight[there], expected[there], liked[:, :width][there], direct[there])
        return Rounds(user, reward, *parts, None if nodes is None else by_code[there])

    def _of_code(self, nodes: Array, place: int, shown: Array) -> Array:
        """Weight of the exposure at a place: what the slate shows of its code, spread over the code's items; (R,)."""
        node = nodes[self.items[:, place]]
        whole = np.bincount(nodes - nodes.min(), self.inclusion)[node - nodes.min()]
        same = self.above[:, place] & (nodes[self.items] == node[:, None])
        rest = whole - (self.inclusion[self.items] * same).sum(axis=1)
        share = np.divide(self.inclusion[self.items[:, place]], rest, out=np.zeros(len(rest)), where=rest > 0)
        weight: Array = shown * share / self.propensity[:, place]
        return weight

    def _seen(self, place: Array, there: Array) -> Array:
        """Chance that a place is looked at, 0 below the slate and where nothing is."""
        known = there & (place < len(self.examined))
        return np.where(known, self.examined[np.minimum(place, len(self.examined) - 1).clip(0)], 0.0)

    def reranked(self, scores: Array) -> Array:
        """Discounted clicks of the real slates in the policy's order, 1 / log2(place + 2); (R, L + M) to (T,)."""
        width = self.items.shape[1]
        order = np.lexsort((self.items, -scores[:, :width], ~self.there))
        clicks = np.take_along_axis(np.where(self.there, self.click / self.seen, 0.0), order, axis=1)
        found = (clicks * looked_at(width)).sum(axis=1)
        means: Array = np.bincount(self.row, found) / np.bincount(self.row)
        return means


def click_model(log: Log, config: ABTestConfig) -> World | None:
    """A world of clicks fitted on what was shown before the test period, so that it saw no click it is to explain.

    None where there was nothing, or all of it or none was clicked.
    """
    before = ~log.judged
    past = {name: getattr(log, name)[before] for name in ("user", "item", "time", "label", "judged")}
    if len(np.unique(past["label"])) < 2:
        return None
    exposures = Exposures.of(dataclasses.replace(log, **past), config.seed)
    return fit_factor_world(exposures, config.world_dim, config.world_penalties, config.seed)


def liked_by(world: World | None, slates: Slates) -> Array:
    """Chance of a click on what policies are asked about, where it is looked at; zero of users it never saw."""
    asked = slates.asked
    found = np.zeros(asked.shape)
    if world is not None:
        known = np.isin(slates.people.user, world.exposures.users)
        if known.any():
            found[known] = world.chances(slates.people.take(known), asked[known])
    chances: Array = np.minimum(1.0, found / slates.seen[slates.there].mean())
    return chances


def _shown_before(store: EventStore) -> Array:
    """How often each item was shown before the test period; (items,)."""
    before = [np.asarray(store.samples(split)["item"]) for split in SPLITS[:-1]]
    return np.bincount(np.concatenate(before), minlength=store.manifest.items).astype(float)


def _drawn(samples: Array, config: ABTestConfig) -> Array:
    """Places of the samples of at most `replay_requests` requests of each user, drawn at random."""
    number, first = np.unique(samples["request"], return_index=True)
    user = samples["user"][first]
    chance = np.random.default_rng([config.seed, 8]).random(len(number))
    order = np.lexsort((chance, user))
    begins = np.flatnonzero(np.r_[True, np.diff(user[order]) != 0])
    within = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    places: Array = np.flatnonzero(np.isin(samples["request"], number[order[within < config.replay_requests]]))
    return places
