"""Worlds of clicks fitted with hindsight: on exposures from both sides of the moment of the test.

Each is of another family, and sees what no candidate can: what happens after the moment. Every exposure of the test
period is judged by fits that its label has not reached in any way, so the world's AUC on them stands beside those of
the models that it is to judge.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hisac_lab.abtest.people import Log, Population
from hisac_lab.base.arithmetic import one_thread
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import Family

FOLDS = 5
WIDTH = 10
"""Exposures on each side, before and after, that are near."""
PRIOR = 4.0
"""Exposures at the mean rate that are added to those that a rate is of."""
MOST = 500_000
"""Exposures that are fitted: all of the test period, and of the others a random part."""


@dataclass(frozen=True)
class Exposures:
    """N exposures of U users, user by user in time order.

    Attributes:
        who: 0..U-1; (N,).
        item: (N,).
        time: Seconds; (N,).
        label: 0 or 1; (N,).
        judged: Of the test period; (N,) bool.
        users: The user behind each number, rising; (U,).
        items: Number of items.
    """

    who: Array
    item: Array
    time: Array
    label: Array
    judged: Array
    users: Array
    items: int

    @classmethod
    def of(cls, log: Log, seed: int) -> Exposures:
        """All of a log, or `MOST` of them."""
        chance = np.random.default_rng([seed, 4]).random(len(log.label))
        kept = np.argsort(np.where(log.judged, -1.0, chance), kind="stable")[: max(MOST, int(log.judged.sum()))]
        order = kept[np.lexsort((kept, log.time[kept], log.user[kept]))]
        users, who = np.unique(log.user[order], return_inverse=True)
        return cls(who, log.item[order], log.time[order], log.label[order], log.judged[order], users, log.items)

    def mood(self, use: Array, begin: Array, end: Array) -> Array:
        """Log odds of a click among the used exposures at places begin to end; (N,) bool, (n,), (n,) to (n,)."""
        rate = self.label[use].mean()
        shown, clicked = np.r_[0.0, np.cumsum(use)], np.r_[0.0, np.cumsum(use * self.label)]
        return _odds(clicked[end] - clicked[begin], shown[end] - shown[begin], rate)

    def fame(self, use: Array) -> Array:
        """Log odds of a click on each item among the used exposures; (N,) bool to (items,)."""
        item, label = self.item[use], self.label[use]
        clicked = np.bincount(item, label, minlength=self.items)
        return _odds(clicked, np.bincount(item, minlength=self.items), label.mean())

    def around(self, who: Array, at: Array, itself: int) -> tuple[Array, Array]:
        """Places of the exposures around place `at` of users `who`, `itself` (0 or 1) being one of them."""
        begin, end = np.searchsorted(self.who, who), np.searchsorted(self.who, who, side="right")
        return np.maximum(at - WIDTH, begin), np.minimum(at + WIDTH + itself, end)


@dataclass(frozen=True)
class World(ABC):
    """A fitted world of one family.

    Attributes:
        exposures: What it was fitted on.
        judged: Logits of the test exposures, each by fits that its label has not reached; (M,).
        size: What it is made of, by name.
    """

    family: ClassVar[Family]

    exposures: Exposures
    judged: Array
    size: dict[str, float]

    @abstractmethod
    def chances(self, people: Population, items: Array, fit: Any = None) -> Array:
        """Chance that each user clicks, at their moment, on items that they look at; (T, ...) to (T, ...).

        Args:
            people: T users; each has exposures.
            items: (T, ...).
            fit: One of `refits`; None: its own.
        """

    @abstractmethod
    def refit(self, weight: Array) -> Any:
        """A fit of other weights of the users; (U,)."""

    @one_thread()
    def refits(self, count: int, seed: int) -> Sequence[Any]:
        """Fits of resampled users: each weighs as much as an exponential draw (Rubin's Bayesian bootstrap)."""
        users = len(self.exposures.users)
        draws = (np.random.default_rng([seed, 5, number]).exponential(size=users) for number in range(count))
        return [self.refit(weight) for weight in draws]


def folds_of(exposures: Exposures, seed: int) -> Array:
    """Which of `FOLDS` random parts each exposure is of; (N,)."""
    return np.random.default_rng([seed, 6]).integers(0, FOLDS, len(exposures.label))


def _odds(clicked: Array, shown: Array, rate: float) -> Array:
    """Log odds of a click, towards those of the mean rate where little was shown."""
    chance = (clicked + PRIOR * rate) / (shown + PRIOR)
    odds: Array = np.log(chance / (1 - chance))
    return odds


def support(log: Log, pools: Array, least: int = 5) -> float:
    """Share of the pools' items with so many exposures in the log."""
    counts = np.bincount(log.item, minlength=log.items)
    return float((counts[pools] >= least).mean())
