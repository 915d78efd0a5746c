"""The world of factors, mood and fame.

Factors: a logistic matrix factorization p = sigmoid(b + b_u + b_i + <p_u, q_i>) of all exposures of the log (Koren et
al., Computer 2009). Mood: how often the same user clicked in the exposures just before and just after. Fame: how often
an item is clicked, by anybody at any time. A logistic regression joins them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize

from hisac_lab.abtest.hindsight import FOLDS, Exposures, World, folds_of
from hisac_lab.abtest.people import Population
from hisac_lab.base.arithmetic import one_thread
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import Family
from hisac_lab.ops.auc import auc
from hisac_lab.ops.choice import highest
from hisac_lab.ops.logistic import logistic

ITERATIONS, REFIT_ITERATIONS = 60, 20
FIRST_ITERATIONS = ITERATIONS - REFIT_ITERATIONS
"""Of a fit from which another one goes on, and of those among which the penalty is chosen."""
BIAS_PENALTY = 3.0


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
class FactorWorld(World):
    """A fitted world of factors.

    Attributes:
        factors: Fitted on all exposures.
        weights: Of the factors' logit, the mood and the fame; (3,).
        bias: Added to them.
        penalty: That was chosen.
    """

    family: ClassVar[Family] = "factors"

    factors: Factors
    weights: Array
    bias: float
    penalty: float

    def chances(self, people: Population, items: Array, fit: Factors | None = None) -> Array:
        """Of a click (see `World`)."""
        exposures = self.exposures
        who = np.searchsorted(exposures.users, people.user)
        ends = np.searchsorted(exposures.who, who, side="right")
        begins = np.searchsorted(exposures.who, who)
        at = begins + np.array(
            [np.searchsorted(exposures.time[b:e], t) for b, e, t in zip(begins, ends, people.time, strict=True)], int
        )
        everything = np.ones(len(exposures.label), bool)
        mood = exposures.mood(everything, *exposures.around(who, at, 0))
        logits = (self.factors if fit is None else fit).logits(who, items)
        mood = mood.reshape(-1, *(1,) * (items.ndim - 1))
        total = _sum((logits, mood, exposures.fame(everything)[items]), self.weights, self.bias)
        chances: Array = 1 / (1 + np.exp(-total))
        return chances

    def refit(self, weight: Array) -> Factors:
        """Factors by other weights of the users, from these; (U,)."""
        return _further(self.exposures, weight[self.exposures.who], self.penalty, self.factors)


@one_thread()
def fit_factor_world(exposures: Exposures, dim: int, penalties: tuple[float, ...], seed: int) -> FactorWorld:
    """Chooses the penalty, judges every exposure by fits without it, and fits all.

    What joins the parts for a fold is fitted on the next fold, by factors of the folds beside both.

    Args:
        exposures: From both sides of the moment.
        dim: Factors.
        penalties: One is chosen, by the AUC on exposures before the test period that a fit did not see.
        seed: Of the start and of the folds.
    """
    fold = folds_of(exposures, seed)
    penalty = _penalty(exposures, dim, penalties, fold, seed)
    rows, logits = np.empty((len(fold), 3)), np.empty(len(fold))
    for number in range(FOLDS):
        held, following = fold == number, fold == (number + 1) % FOLDS
        beside = ~(held | following)
        factors = fit_factors(exposures, beside * 1.0, dim, penalty, seed=seed, iterations=FIRST_ITERATIONS)
        weights, bias = _join(_rows(exposures, factors, beside, following), exposures.label[following])
        factors = _further(exposures, ~held * 1.0, penalty, factors)
        rows[held] = _rows(exposures, factors, ~held, held)
        logits[held] = _sum(rows[held].T, weights, bias)
    weights, bias = _join(rows, exposures.label)
    factors = fit_factors(exposures, np.ones(len(fold)), dim, penalty, seed=seed)
    size = {"factors": float(dim), "penalty": penalty}
    return FactorWorld(exposures, logits[exposures.judged], size, factors, weights, bias, penalty)


def _penalty(exposures: Exposures, dim: int, penalties: tuple[float, ...], fold: Array, seed: int) -> float:
    """The best of the penalties on exposures before the test period, which alone are looked at."""
    before = ~exposures.judged
    held = np.flatnonzero(before & (fold == 0))
    if len(penalties) == 1 or len(np.unique(exposures.label[held])) < 2:
        return penalties[0]
    use = (before & (fold != 0)) * 1.0
    who, item, label = exposures.who[held], exposures.item[held], exposures.label[held]

    def skill(penalty: float) -> float:
        tried = fit_factors(exposures, use, dim, penalty, seed=seed, iterations=FIRST_ITERATIONS)
        return auc(label, tried.logits(who, item))

    return highest(penalties, skill, float)


def _further(exposures: Exposures, weight: Array, penalty: float, start: Factors) -> Factors:
    """A fit that goes on from another one, by other weights; (N,)."""
    dim = start.users.shape[1] - 1
    return fit_factors(exposures, weight, dim, penalty, start=start.vector, iterations=REFIT_ITERATIONS)


def _rows(exposures: Exposures, factors: Factors, use: Array, held: Array) -> Array:
    """What is known of the held exposures by the used ones, and by factors that were fitted on these; (n, 3)."""
    at = np.flatnonzero(held)
    who, item = exposures.who[at], exposures.item[at]
    mood = exposures.mood(use, *exposures.around(who, at, 1))
    return np.stack([factors.logits(who, item), mood, exposures.fame(use)[item]], axis=1)


def _join(rows: Array, label: Array) -> tuple[Array, float]:
    weights, bias = logistic(torch.from_numpy(rows), torch.from_numpy(label), 1.0)
    return weights.numpy(), float(bias)


def _sum(columns: Iterable[Array], weights: Array, bias: float) -> Array:
    logits: Array = sum((column * weight for column, weight in zip(columns, weights, strict=True)), np.array(bias))
    return logits


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
