"""Who is asked, at which moment, and from which items a policy may choose then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.abtest.records import NothingToJudge
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.events.store import SPLITS, EventStore

DAY = 86_400
LATELY = 50
"""Exposures before the moment that say how a user clicks lately."""
PRIOR = 4.0
"""Exposures at everybody's rate that are added to those of a user."""
RARELY = 0.01
"""Share of exposures to items met before, below which a log is one that shows nothing twice."""
SHORT = 0.1
"""Share of users who may be left out because too few items are theirs to choose from."""


@dataclass(frozen=True)
class Population:
    """T users, each at a moment of their own.

    Attributes:
        user: Number of each in the event store; (T,).
        time: The moment of the test, seconds; (T,).
        end: Where the history before it ends in the store; (T,).
        requests: How many requests the user has in the test period; (T,).
        request: Number of the request at the moment, as samples have it; (T,). None: they are of no log.
    """

    user: Array
    time: Array
    end: Array
    requests: Array
    request: Array | None = None

    def take(self, index: Array) -> Population:
        """The users at `index`."""
        request = None if self.request is None else self.request[index]
        return Population(self.user[index], self.time[index], self.end[index], self.requests[index], request)


@dataclass(frozen=True)
class Log:
    """N exposures, those of the test period last, and who had met what.

    Attributes:
        user: Of each exposure; (N,).
        item: (N,).
        time: Seconds; (N,).
        label: Clicked or not; (N,) float64.
        judged: Whether it is of the test period; (N,) bool.
        pairs: User and item in one number, of all that any user ever met, rising; (M,).
        since: When they first met, seconds; (M,).
        first: When each item was first met by anybody; (items,).
        last: And last; (items,).
        weight: Of each exposure, by `prepare.weight`; (N,). None: all weigh the same.
    """

    user: Array
    item: Array
    time: Array
    label: Array
    judged: Array
    pairs: Array
    since: Array
    first: Array
    last: Array
    weight: Array | None = None

    @classmethod
    def of(cls, store: EventStore) -> Log:
        """The exposures of all periods, and the histories beside them."""
        parts = [np.asarray(store.samples(split)) for split in SPLITS]
        samples = np.concatenate(parts)
        owners = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))
        user = np.concatenate([samples["user"], owners]).astype(np.int64)
        item = np.concatenate([samples["item"], store.items]).astype(np.int64)
        time = np.concatenate([samples["time"], store.times])
        items = store.manifest.items
        pairs, since, _ = _span(user * items + item, time)
        known, begin, end = _span(item, time)
        first, last = np.full(items, np.iinfo(np.int64).max), np.full(items, np.iinfo(np.int64).min)
        first[known], last[known] = begin, end
        count = len(samples)
        judged = np.arange(count) >= count - len(parts[-1])
        label = samples["label"].astype(float)
        weights = [one for split in SPLITS if (one := store.weights(split)) is not None]
        weight = np.concatenate(weights).astype(float) if weights else None
        return cls(user[:count], item[:count], time[:count], label, judged, pairs, since, first, last, weight)

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.first)

    @property
    def repeated(self) -> float:
        """Share of the test exposures whose item the user had met before."""
        keys = self.user[self.judged] * self.items + self.item[self.judged]
        return float((self.since[np.searchsorted(self.pairs, keys)] < self.time[self.judged]).mean())

    def met(self, user: int, time: int) -> Array:
        """Items that a user had met before a time."""
        begin, end = np.searchsorted(self.pairs, (user * self.items, (user + 1) * self.items))
        earlier = self.since[begin:end] < time
        items: Array = self.pairs[begin:end][earlier] - user * self.items
        return items


def _span(keys: Array, time: Array) -> tuple[Array, Array, Array]:
    """Distinct keys, rising, and the first and last time of each."""
    order = np.lexsort((time, keys))
    ordered = keys[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[begins[1:], len(order)] - 1
    return ordered[begins], time[order[begins]], time[order[ends]]


def population(samples: Array) -> Population:
    """Users at the middle of their test exposures; those whose exposures all share one time have none.

    Args:
        samples: Of the test period; (N,) of `SAMPLE`.
    """
    order = np.lexsort((samples["time"], samples["user"]))
    ordered = samples[order]
    users, begins, counts = np.unique(ordered["user"], return_index=True, return_counts=True)
    moments = ordered["time"][begins + counts // 2]
    at = begins + np.array(
        [np.searchsorted(ordered["time"][b : b + n], t) for b, n, t in zip(begins, counts, moments, strict=True)], int
    )
    fresh = np.r_[True, (np.diff(ordered["time"]) != 0) | (np.diff(ordered["user"]) != 0)]
    requests = np.add.reduceat(fresh.astype(np.int64), begins)
    kept = moments > ordered["time"][begins]
    first = ordered[at][kept]
    return Population(users[kept], moments[kept], first["end"], requests[kept], first["request"])


def habits(user: Array, time: Array, label: Array, people: Population) -> Array:
    """How active each user was before their moment, and how they clicked: what CUPED may know.

    Args:
        user: Of each logged exposure; (N,).
        time: Seconds; (N,).
        label: Clicked or not; (N,).
        people: T users and their moments.

    Returns:
        Log of one more than the exposures, share that was clicked, and the same lately; (T, 3).
    """
    order = np.lexsort((time, user))
    user, time, clicked = user[order], time[order], np.r_[0.0, np.cumsum(label[order])]
    begins = np.searchsorted(user, people.user)
    ends = begins + np.array(
        [
            np.searchsorted(time[begin : np.searchsorted(user, one, side="right")], moment)
            for begin, one, moment in zip(begins, people.user, people.time, strict=True)
        ],
        int,
    )
    mean = float(label.mean())

    def rate(begin: Array) -> Array:
        share: Array = (clicked[ends] - clicked[begin] + PRIOR * mean) / (ends - begin + PRIOR)
        return share

    return np.stack([np.log1p(ends - begins), rate(begins), rate(np.maximum(begins, ends - LATELY))], axis=1)


def choose_pools(log: Log, people: Population, config: ABTestConfig, without_met: bool) -> tuple[Population, Array]:
    """Items a policy may choose from at each user's moment.

    Pools hold what the test period shows and what was alive at the moment: met by somebody before it and after it, or
    within a day of it. They are drawn without repetition, an item as often as the test period shows it, so that they
    are like the exposures on which a world of clicks is judged.

    Args:
        log: All exposures.
        people: Users and moments.
        config: The section `abtest`.
        without_met: Leave out what the user has met before the moment.

    Returns:
        Users with items enough, and (T, pools, pool) items, rising: `visits` for the test, as many for before it, and
        one for each day of a test that has several.

    Raises:
        UserError: A slate is larger than all that the test period shows.
        NothingToJudge: Most users have less than a slate, or nothing, to choose from.
    """
    weight = np.bincount(log.item[log.judged], minlength=log.items).astype(float)
    choices = []
    for user, time in zip(people.user.tolist(), people.time.tolist(), strict=True):
        alive = (weight > 0) & (log.first <= time + DAY) & (log.last >= time - DAY)
        if without_met:
            alive[log.met(user, time)] = False
        choices.append(np.flatnonzero(alive))
    sizes = np.array([len(choice) for choice in choices])
    size = min(config.pool, int(np.quantile(sizes, SHORT, method="lower"))) if len(sizes) else 0
    if size < 2:
        what = "most users can choose from fewer than two items that were alive when they were asked"
        raise NothingToJudge("test period", what, "give a longer test period")
    if config.slate > (shown := np.count_nonzero(weight)):
        what = f"{config.slate} is more than the {shown} items that the test period shows"
        raise UserError(SETTINGS, what, "lower it", "abtest.slate")
    if size < config.slate:
        what = f"a slate of {config.slate} is more than the {size} items that most users can choose from"
        raise NothingToJudge("test period", f"{what} (lower abtest.slate)", "lower it", "abtest.slate")
    random = np.random.default_rng([config.seed, 1])
    kept = np.flatnonzero(sizes >= size)
    count = 2 * config.visits + (config.days if config.days > 1 else 0)
    pools = np.empty((len(kept), count, size), np.int64)
    for row, index in enumerate(kept):
        choice = choices[index]
        # Of exponential waiting times, the shortest are a draw by weight without repetition.
        waits = random.exponential(size=(count, len(choice))) / weight[choice]
        pools[row] = choice[np.sort(np.argsort(waits, axis=1, kind="stable")[:, :size], axis=1)]
    return people.take(kept), pools


def asked_about(
    store: EventStore, log: Log, config: ABTestConfig, without_met: bool
) -> tuple[Population, Array, Array]:
    """T users at their moments, what they choose from, (T, 2 * visits, pool), and on later days, (T, days, pool).

    Raises:
        UserError: A slate is larger than all that the test period shows.
        NothingToJudge: There are no two users to ask, or they have less than a slate to choose from.
    """
    everybody = population(store.samples("test"))
    if len(everybody.user) < 2:
        what = "no two test users have exposures at two times"
        raise NothingToJudge(store.path, what, "give a longer test period", "test")
    people, pools = choose_pools(log, everybody, config, without_met)
    pools, later = np.split(pools, [2 * config.visits], axis=1)
    return people, pools, later
