"""A world of clicks fitted with hindsight: on exposures from both sides of the moment of the test.

It has three parts. Factors: a logistic matrix factorization p = sigmoid(b + b_u + b_i + <p_u, q_i>) of all exposures
of the log (Koren et al., Computer 2009). Mood: how often the same user clicked in the exposures just before and just
after. Fame: how often an item is clicked, by anybody at any time. A logistic regression joins them. Every exposure is
judged by fits that did not see it, so the world's AUC on the test period stands beside those of the models that it is
to judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize

from hisac_lab.abtest.people import Log, Population
from hisac_lab.base.artifacts import Array
from hisac_lab.ops.auc import auc
from hisac_lab.ops.choice import highest
from hisac_lab.ops.logistic import logistic

FOLDS = 5
ITERATIONS, REFIT_ITERATIONS = 60, 20
BIAS_PENALTY = 3.0
WIDTH = 10
"""Exposures of the same user, before and after, that make the mood."""
PRIOR = 4.0
"""Exposures at the mean rate that are added to those of a user's mood or an item's fame."""
MOST = 500_000
"""Exposures that are fitted: all of the test period, and of the others a random part."""


@dataclass(frozen=True)
class Factors:
    """Click logits of U users for all items; a row is a bias and d factors.

    Attributes:
        bias: Intercept.
        users: (U, 1 + d).
        items: (items, 1 + d).
    """

    bias: float
    users: Array
    items: Array

    def logits(self, who: Array, item: Array) -> Array:
        """Of users for items of the same leading shape; (n,), (n, ...) to (n, ...)."""
        mine, theirs = self.users[who], self.items[item]
        inner = np.einsum("nd,n...d->n...", mine[:, 1:], theirs[..., 1:])
        logits: Array = self.bias + mine[:, 0].reshape(-1, *(1,) * (item.ndim - 1)) + theirs[..., 0] + inner
        return logits

    @property
    def vector(self) -> Array:
        """All numbers in a row, as a fit starts from them."""
        return np.concatenate([self.users.ravel(), self.items.ravel(), [self.bias]])


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
class World:
    """A fitted world.

    Attributes:
        exposures: What it was fitted on.
        factors: Fitted on all of them.
        weights: Of the factors' logit, the mood and the fame; (3,).
        bias: Added to them.
        penalty: That was chosen.
        judged: Logits of the test exposures, each by fits without it; (M,).
    """

    exposures: Exposures
    factors: Factors
    weights: Array
    bias: float
    penalty: float
    judged: Array

    def chances(self, people: Population, items: Array, factors: Factors | None = None) -> Array:
        """Chance that each user clicks, at their moment, on items that they look at; (T, ...) to (T, ...).

        Args:
            people: T users; each has exposures.
            items: (T, ...).
            factors: Others than its own: of a refit.
        """
        exposures = self.exposures
        who = np.searchsorted(exposures.users, people.user)
        ends = np.searchsorted(exposures.who, who, side="right")
        begins = np.searchsorted(exposures.who, who)
        at = begins + np.array(
            [np.searchsorted(exposures.time[b:e], t) for b, e, t in zip(begins, ends, people.time, strict=True)], int
        )
        everything = np.ones(len(exposures.label), bool)
        mood = exposures.mood(everything, *exposures.around(who, at, 0))
        logits = (self.factors if factors is None else factors).logits(who, items)
        mood = mood.reshape(-1, *(1,) * (items.ndim - 1))
        total = _sum((logits, mood, exposures.fame(everything)[items]), self.weights, self.bias)
        chances: Array = 1 / (1 + np.exp(-total))
        return chances

    def refits(self, count: int, seed: int) -> list[Factors]:
        """Factors of resampled users: each weighs as much as an exponential draw (Rubin's Bayesian bootstrap)."""
        found = []
        for number in range(count):
            weight = np.random.default_rng([seed, 5, number]).exponential(size=len(self.exposures.users))
            found.append(
                fit_factors(
                    self.exposures,
                    weight[self.exposures.who],
                    self.factors.users.shape[1] - 1,
                    self.penalty,
                    start=self.factors.vector,
                    iterations=REFIT_ITERATIONS,
                )
            )
        return found


def fit_world(exposures: Exposures, dim: int, penalties: tuple[float, ...], seed: int) -> World:
    """Chooses the penalty, judges every exposure by fits without it, and fits all.

    Args:
        exposures: From both sides of the moment.
        dim: Factors.
        penalties: One is chosen, by the AUC on exposures before the test period that a fit did not see.
        seed: Of the start and of the folds.
    """
    fold = np.random.default_rng([seed, 6]).integers(0, FOLDS, len(exposures.label))
    tried = {penalty: fit_factors(exposures, (fold != 0) * 1.0, dim, penalty, seed=seed) for penalty in penalties}
    before = np.flatnonzero((fold == 0) & ~exposures.judged)
    penalty = penalties[0]
    if len(np.unique(exposures.label[before])) == 2:
        penalty = highest(
            penalties,
            lambda one: auc(exposures.label[before], tried[one].logits(exposures.who[before], exposures.item[before])),
            float,
        )
    rows = np.empty((len(fold), 3))
    place = np.arange(len(fold))
    around = exposures.around(exposures.who, place, 1)
    for number in range(FOLDS):
        use, held = fold != number, np.flatnonzero(fold == number)
        fitted = tried[penalty] if number == 0 else fit_factors(exposures, use * 1.0, dim, penalty, seed=seed)
        rows[held, 0] = fitted.logits(exposures.who[held], exposures.item[held])
        rows[held, 1] = exposures.mood(use, around[0][held], around[1][held])
        rows[held, 2] = exposures.fame(use)[exposures.item[held]]
    logits = np.empty(len(fold))
    for number in range(FOLDS):
        weights, bias = _join(rows[fold != number], exposures.label[fold != number])
        logits[fold == number] = _sum(rows[fold == number].T, weights, bias)
    weights, bias = _join(rows, exposures.label)
    factors = fit_factors(exposures, np.ones(len(fold)), dim, penalty, seed=seed)
    return World(exposures, factors, weights, bias, penalty, logits[exposures.judged])


def _join(rows: Array, label: Array) -> tuple[Array, float]:
    weights, bias = logistic(torch.from_numpy(rows), torch.from_numpy(label), 1.0)
    return weights.numpy(), float(bias)


def _sum(columns: Iterable[Array], weights: Array, bias: float) -> Array:
    logits: Array = sum((column * weight for column, weight in zip(columns, weights, strict=True)), np.array(bias))
    return logits


def _odds(clicked: Array, shown: Array, rate: float) -> Array:
    """Log odds of a click, towards those of the mean rate where little was shown."""
    chance = (clicked + PRIOR * rate) / (shown + PRIOR)
    odds: Array = np.log(chance / (1 - chance))
    return odds


def fit_factors(
    exposures: Exposures,
    weight: Array,
    dim: int,
    penalty: float,
    *,
    seed: int = 0,
    start: Array | None = None,
    iterations: int = ITERATIONS,
) -> Factors:
    """Fits factors by L-BFGS.

    Args:
        exposures: N of them.
        weight: Of each in the loss; (N,); those of weight 0 are not looked at.
        dim: Width d of tastes.
        penalty: L2 penalty on tastes and items' factors; biases have `BIAS_PENALTY`.
        seed: Of the start.
        start: All numbers to start from (`Factors.vector`); None: small random ones.
        iterations: At most.
    """
    use = np.flatnonzero(weight)
    who, item, label, weigh = (part[use] for part in (exposures.who, exposures.item, exposures.label, weight))
    users, items = len(exposures.users), exposures.items
    by_item = np.argsort(item, kind="stable")
    users_begin = np.searchsorted(who, np.arange(users + 1))
    items_begin = np.searchsorted(item[by_item], np.arange(items + 1))
    item_users = who[by_item]
    shapes = ((users, dim + 1), (items, dim + 1), (1,))
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    ridge = np.concatenate([_ridge(users + items, dim, penalty), [0.0]])
    if start is None:
        random = np.random.default_rng([seed, 1])
        start = np.concatenate([random.normal(0, 0.3, (users + items, dim + 1)).ravel(), [0.0]])

    def split(vector: Array) -> list[Array]:
        return [part.reshape(shape) for part, shape in zip(np.split(vector, cuts), shapes, strict=True)]

    def loss(vector: Array) -> tuple[float, Array]:
        user_rows, item_rows, bias = split(vector)
        mine, theirs = user_rows.take(who, axis=0), item_rows.take(item, axis=0)
        logits = np.einsum("nd,nd->n", mine[:, 1:], theirs[:, 1:]) + mine[:, 0] + theirs[:, 0] + bias
        small = np.exp(-np.abs(logits))
        error = weigh * (np.where(logits >= 0, 1.0, small) / (1 + small) - label)
        value = (weigh * (np.maximum(logits, 0) + np.log1p(small) - label * logits)).sum()
        of_users = sparse.csr_matrix((error, item, users_begin), shape=(users, items)) @ _tilted(item_rows)
        of_items = sparse.csr_matrix((error[by_item], item_users, items_begin), shape=(items, users))
        gradient = (of_users.ravel(), (of_items @ _tilted(user_rows)).ravel(), [error.sum()])
        return float(value + (ridge * vector * vector).sum() / 2), np.concatenate(gradient) + ridge * vector

    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations}).x
    user_rows, item_rows, bias = split(best)
    return Factors(float(bias[0]), user_rows, item_rows)


def _tilted(rows: Array) -> Array:
    """What the logit gains by each number of the other side's row: 1 for its bias, then the factors."""
    return np.concatenate([np.ones((len(rows), 1)), rows[:, 1:]], axis=1)


def _ridge(rows: int, dim: int, penalty: float) -> Array:
    return np.tile(np.concatenate([[BIAS_PENALTY], np.full(dim, penalty)]), rows)


def support(log: Log, pools: Array, least: int = 5) -> float:
    """Share of the pools' items with so many exposures in the log."""
    counts = np.bincount(log.item, minlength=log.items)
    return float((counts[pools] >= least).mean())
