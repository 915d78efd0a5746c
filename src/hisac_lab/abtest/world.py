"""A world of clicks fitted on what users did after the moment of the test: data no candidate saw.

It is a logistic matrix factorization, p = sigmoid(b + b_u + b_i + <p_u, q_i>), of the exposures each test user had at
or after their own moment, the middle of their test exposures. No candidate was fitted or selected on them, and the
histories that policies read end before the moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from hisac_lab.base.artifacts import Array
from hisac_lab.ops.auc import auc


@dataclass(frozen=True)
class Population:
    """The users the world is made of, and their future.

    Attributes:
        user: Number of each in the event store; (T,).
        time: The moment of the test, seconds; (T,).
        end: Where the history before it ends in the store; (T,).
        who: Owner of each future exposure, 0..T-1; (N,).
        item: Its item; (N,).
        label: Clicked or not; (N,).
    """

    user: Array
    time: Array
    end: Array
    who: Array
    item: Array
    label: Array


@dataclass(frozen=True)
class World:
    """Click logits of every user for every item.

    Attributes:
        bias: Intercept.
        user_bias: (T,).
        item_bias: (items,).
        taste: (T, d).
        items: (items, d).
        holdout_auc: AUC on a fifth of the exposures when fitted on the others: how much the world knows.
    """

    bias: float
    user_bias: Array
    item_bias: Array
    taste: Array
    items: Array
    holdout_auc: float

    def logits(self, who: Array, item: Array, noise: Array | float = 0.0) -> Array:
        """Click logits of users `who` for items of the same leading shape; `noise` is added to their taste."""
        taste = self.taste[who] + noise
        inner: Array = np.einsum("nd,n...d->n...", taste, self.items[item])
        extra = (1,) * (item.ndim - 1)
        logits: Array = self.bias + self.user_bias[who].reshape(-1, *extra) + self.item_bias[item] + inner
        return logits


def population(samples: Array) -> Population:
    """Splits each user's test exposures in the middle: the moment, and the future from it on.

    Users whose exposures all share one time have no middle and are left out.
    """
    order = np.lexsort((samples["time"], samples["user"]))
    ordered = samples[order]
    users, begins, counts = np.unique(ordered["user"], return_index=True, return_counts=True)
    moments = ordered["time"][begins + counts // 2]
    moment_of = np.repeat(moments, counts)
    future = ordered["time"] >= moment_of
    first = ordered["time"][begins]
    split = moments > first
    kept = np.flatnonzero(split)
    rank = np.full(len(users), -1)
    rank[kept] = np.arange(len(kept))
    who = np.repeat(rank, counts)
    use = future & (who >= 0)
    at_moment = np.searchsorted(np.flatnonzero(future), begins[kept])
    first_future = np.flatnonzero(future)[at_moment]
    return Population(
        user=users[kept],
        time=moments[kept],
        end=ordered["end"][first_future],
        who=who[use],
        item=ordered["item"][use],
        label=ordered["label"][use].astype(float),
    )


def fit_world(people: Population, items: int, dim: int, penalty: float, seed: int) -> World:
    """Fits the world by L-BFGS.

    Args:
        people: Users and their future exposures.
        items: Number of items.
        dim: Width d of tastes.
        penalty: L2 penalty per exposure.
        seed: Seed of the start and of the held-out fifth.
    """
    random = np.random.default_rng(seed)
    held = random.random(len(people.label)) < 0.2
    trial = _fit(people, ~held, items, dim, penalty, seed)
    scores = trial.logits(people.who[held], people.item[held])
    quality = auc(people.label[held], scores)
    world = _fit(people, np.ones(len(held), bool), items, dim, penalty, seed)
    return World(world.bias, world.user_bias, world.item_bias, world.taste, world.items, round(quality, 6))


def _fit(people: Population, use: Array, items: int, dim: int, penalty: float, seed: int) -> World:
    who, item, label = people.who[use], people.item[use], people.label[use]
    users = len(people.user)
    shapes = ((1,), (users,), (items,), (users, dim), (items, dim))
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    random = np.random.default_rng([seed, 1])
    start = np.concatenate([np.zeros(1 + users + items), random.normal(0, 0.1, users * dim + items * dim)])

    def split(vector: Array) -> list[Array]:
        return [part.reshape(shape) for part, shape in zip(np.split(vector, cuts), shapes, strict=True)]

    def loss(vector: Array) -> tuple[float, Array]:
        bias, user_bias, item_bias, taste, factors = split(vector)
        logits = bias + user_bias[who] + item_bias[item] + (taste[who] * factors[item]).sum(axis=1)
        error = 1 / (1 + np.exp(-logits)) - label
        value = np.logaddexp(0, logits).sum() - (label * logits).sum()
        strength = penalty * len(label) / users
        value += strength / 2 * (vector[1:] ** 2).sum()
        gradient = [
            np.array([error.sum()]),
            np.bincount(who, error, minlength=users),
            np.bincount(item, error, minlength=items),
            np.zeros((users, dim)),
            np.zeros((items, dim)),
        ]
        np.add.at(gradient[3], who, error[:, None] * factors[item])
        np.add.at(gradient[4], item, error[:, None] * taste[who])
        flat = np.concatenate([part.ravel() for part in gradient])
        flat[1:] += strength * vector[1:]
        return float(value), flat

    optimum = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    bias, user_bias, item_bias, taste, factors = split(optimum.x)
    return World(float(bias[0]), user_bias, item_bias, taste, factors, 0.0)
