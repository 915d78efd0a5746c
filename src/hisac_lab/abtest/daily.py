"""A test of several days in the simulated world: what was shown and clicked on a day is part of the next ones.

Arms are shown slates to the same users from the same pools, with the same luck. On every later day a model reads the
clicks that its own slates brought, and the world knows which items it has shown before. The lift till each day stands
with an interval that may be looked at daily. Intervals are over users: luck of trained seeds is not in them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from hisac_lab.abtest import truth
from hisac_lab.abtest.people import DAY, Population
from hisac_lab.abtest.records import Day, Span
from hisac_lab.abtest.statistics import level_of_look, sequence_reach
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.events.store import EventStore
from hisac_lab.world.simulate import Simulator

LOWEST = 1
"""Level of the feedback of an item that was shown and not clicked."""
Policy = Callable[[EventStore, Population, Array], Array]
"""Places of a slate in each pool, by histories and moments; (T, 1, pool) to (T, 1, slate)."""


@dataclass(frozen=True)
class LiveTest:
    """What every arm meets.

    Attributes:
        store: The log.
        people: T users at the moment the test begins.
        pools: Items to choose from; (T, days, pool).
        fresh: Chance of a click on each, if looked at and not shown by the test before; (T, days, pool).
        again: If it was shown before; (T, days, pool).
        examined: Chance that each place is looked at; (slate,).
        luck: A place is clicked where it is below the chance; (T, days, slate).
        with_unclicked: Whether histories hold what was shown and not clicked.
        novelty: What a policy that is new to the users adds to every click's logit on the first day; half of it is left
            on each next day.
        carry_over: Whether a day's slates are known to the world, and their clicks to the policy, on the days after.
    """

    store: EventStore
    people: Population
    pools: Array
    fresh: Array
    again: Array
    examined: Array
    luck: Array
    with_unclicked: bool
    novelty: float = 0.0
    carry_over: bool = True

    @classmethod
    def of(
        cls, simulator: Simulator, store: EventStore, people: Population, pools: Array, config: ABTestConfig
    ) -> LiveTest:
        """The test of these pools, one a day.

        Args:
            simulator: The world.
            store: Its log.
            people: T users at the moment the test begins.
            pools: Items to choose from; (T, days, pool).
            config: The section `abtest`.
        """
        fresh, again = truth.later_chances(simulator, store, people, pools)
        luck = np.random.default_rng([config.seed, 5]).random((*pools.shape[:2], config.slate))
        levels, feedback = store.manifest.feedback, store.feedback
        unclicked = levels is not None and feedback is not None and bool((feedback < levels.positive).any())
        looked, switches = truth.examined(simulator, config.slate), (config.novelty, config.carry_over)
        return cls(store, people, pools, fresh, again, looked, luck, unclicked, *switches)

    def run(self, policy: Policy, new: bool = False) -> Array:
        """Expected clicks on each day's slate of a policy, given what its own slates brought before; (T, days).

        Args:
            policy: What it shows.
            new: Whether it is new to the users.
        """
        users, days = self.pools.shape[:2]
        expected = np.empty((users, days))
        shown, clicked = np.empty((users, 0), np.int64), np.empty((users, 0), bool)
        for day in range(days):
            store, people = self._after(day, shown, clicked)
            pool = self.pools[:, day]
            places = policy(store, people, pool[:, None])[:, 0]
            slate = np.take_along_axis(pool, places, axis=1)
            known = (slate[:, :, None] == shown[:, None]).any(axis=2)
            again, fresh = (np.take_along_axis(table[:, day], places, axis=1) for table in (self.again, self.fresh))
            liked = np.where(known, again, fresh)
            if new and self.novelty:
                liked = special.expit(special.logit(liked) + self.novelty / 2**day)
            chances = liked * self.examined
            expected[:, day] = chances.sum(axis=1)
            if not self.carry_over:
                continue
            shown = np.concatenate([shown, slate], axis=1)
            clicked = np.concatenate([clicked, self.luck[:, day] < chances], axis=1)
        return expected

    def _after(self, day: int, shown: Array, clicked: Array) -> tuple[EventStore, Population]:
        """The log of these users as it stands on a day, and their moments then.

        Args:
            day: From 0.
            shown: Items on earlier days, in order; (T, n).
            clicked: Whether they were; (T, n).
        """
        store, people = self.store, self.people
        highest = 1 if store.manifest.feedback is None else len(store.manifest.feedback)
        at = np.repeat(np.arange(shown.shape[1] // len(self.examined)) * DAY, len(self.examined))
        items, times, feedback, lengths = [], [], [], np.zeros(len(store.offsets) - 1, np.int64)
        for row, user in enumerate(people.user.tolist()):
            end = int(people.end[row])
            old = slice(max(int(store.offsets[user]), end - store.limit), end)
            kept = clicked[row] | self.with_unclicked
            items.append(np.concatenate([store.items[old], shown[row, kept]]))
            times.append(np.concatenate([store.times[old], int(people.time[row]) + at[kept]]))
            if store.feedback is not None:
                level = np.where(clicked[row, kept], highest, LOWEST).astype(np.uint8)
                feedback.append(np.concatenate([store.feedback[old], level]))
            lengths[user] = len(items[-1])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        live = dataclasses.replace(
            store,
            items=np.concatenate(items),
            times=np.concatenate(times),
            offsets=offsets,
            feedback=np.concatenate(feedback) if feedback else None,
        )
        return live, dataclasses.replace(people, time=people.time + day * DAY, end=offsets[people.user + 1])


def cumulative(control: Array, treatment: Array, confidence: float) -> tuple[Day, ...]:
    """The lift till each day, with what daily looks may say of it.

    Args:
        control: Expected clicks by day, means over runs; (T, days).
        treatment: The same of the same users.
        confidence: Level of all intervals.

    Raises:
        UserError: There is one user, or the control is never clicked.
    """
    users, days = control.shape
    if users < 2:
        raise UserError(SETTINGS, "one user has no spread", "give a longer test period", "abtest.days")
    found: list[Day] = []
    first = 0.0
    for day in range(1, days + 1):
        value, error = _lift(control[:, :day], treatment[:, :day])
        first = first or error
        fixed = [
            float(stats.t.ppf(0.5 + level / 2, users - 1)) * error
            for level in (confidence, level_of_look(confidence, days))
        ]
        once, bound, sequence = (
            Span(low=round(value - reach, 6), high=round(value + reach, 6))
            for reach in (*fixed, sequence_reach(error, first, confidence))
        )
        today = _lift(control[:, day - 1 : day], treatment[:, day - 1 : day])[0]
        found.append(
            Day(day=day, today=round(today, 6), lift=round(value, 6), once=once, bound=bound, sequence=sequence)
        )
    return tuple(found)


def _lift(control: Array, treatment: Array) -> tuple[float, float]:
    """Relative lift in the mean and its error over users as clusters (delta method); two (T, days)."""
    mean = float(control.mean())
    if mean == 0:
        what = "nobody ever clicks on what the control shows: there is no lift"
        raise UserError(SETTINGS, what, "give another control", "abtest.control")
    value = float(treatment.mean()) / mean - 1
    gap = ((treatment - (1 + value) * control) / mean).mean(axis=1)
    return value, float(gap.std(ddof=1)) / math.sqrt(len(gap))
