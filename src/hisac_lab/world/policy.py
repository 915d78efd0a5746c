"""The logging policy: which items a request shows, and with what probability.

A request has a subject (see `life`). Each position takes an item of the subject's leaf, of its subtopic, of the whole
catalog (all three by popularity), of the whole catalog uniformly, or one of the user's familiar items, with the
shares below; an item that is shown higher up is drawn again. So a slate is a Plackett-Luce draw from the mixture q, and

    propensity = q(item) / (1 - sum of q over the items above):

the probability that this item is put at this position, given the user, the request's subject and the items above. Every
item has a positive one at every position, so importance weighting has full support.
"""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.world.catalog import Catalog
from hisac_lab.world.life import Life

SHARES = {"leaf": 0.5, "subtopic": 0.2, "popular": 0.15, "uniform": 0.05, "familiar": 0.1}
FAMILIAR = 20
"""Items, drawn by popularity, that the policy brings back to a user."""
_STEPS = np.cumsum(list(SHARES.values()))[:-1]
_POPULAR, _UNIFORM = 2, 3


class Policy:
    """The logging policy toward one user.

    Args:
        random: The user's generator.
        catalog: The items.
        life: The user.
    """

    def __init__(self, random: np.random.Generator, catalog: Catalog, life: Life) -> None:
        self._random, self._catalog = random, catalog
        self._leaf, self._subtopic = life.leaf[life.subject], life.subtopic[life.subject]
        bounds = (catalog.leaf_bounds, self._leaf), (catalog.subtopic_bounds, self._subtopic)
        all_items = np.zeros(len(self._leaf))
        self._start = np.stack([*(bound[one] for bound, one in bounds), all_items], axis=1)
        self._width = np.stack([*(bound[one + 1] for bound, one in bounds), all_items + catalog.ends[-1]], axis=1)
        self._width -= self._start
        self.familiar = np.unique(self._by_popularity(0.0, catalog.ends[-1], random.random(FAMILIAR)))

    def slates(self, slate: int) -> Array:
        """Draws the items of all R requests; (R, slate)."""
        items = np.empty((len(self._leaf), slate), np.int64)
        rows, drawn = np.arange(len(items)), np.empty((len(items), 0), np.int64)
        while len(rows):
            more = self._draw(np.repeat(rows, slate + 4)).reshape(len(rows), -1)
            drawn = np.concatenate([drawn, more], axis=1)
            # To draw again what is shown higher up is to take the first different ones of a longer series.
            order = np.argsort(drawn, axis=1, kind="stable")
            ordered = np.take_along_axis(drawn, order, axis=1)
            new = np.ones(drawn.shape, bool)
            np.put_along_axis(new, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
            place = np.cumsum(new, axis=1)
            enough = place[:, -1] >= slate
            items[rows[enough]] = drawn[enough][(new & (place <= slate))[enough]].reshape(-1, slate)
            rows, drawn = rows[~enough], drawn[~enough]
        return items

    def mixture(self, items: Array) -> Array:
        """Probability q of each item in a single draw of its request; (R, n) to (R, n)."""
        catalog, ids = self._catalog, self.familiar
        place = np.minimum(np.searchsorted(ids, items), len(ids) - 1)
        familiar = np.where(ids[place] == items, 1 / len(ids), 0.0)
        in_leaf = np.where(catalog.leaf[items] == self._leaf[:, None], catalog.in_leaf[items], 0.0)
        in_subtopic = np.where(catalog.subtopic[items] == self._subtopic[:, None], catalog.in_subtopic[items], 0.0)
        uniform = np.full(items.shape, 1 / len(catalog.leaf))
        chances = (in_leaf, in_subtopic, catalog.weight[items], uniform, familiar)
        chance = np.zeros(items.shape)
        for share, source_chance in zip(SHARES.values(), chances, strict=True):
            chance += share * source_chance
        return chance

    def propensities(self, items: Array) -> Array:
        """Probability of each item at its position, given the items above it; (R, slate) to (R, slate)."""
        chance = self.mixture(items)
        above = np.cumsum(chance, axis=1) - chance
        propensity: Array = chance / (1.0 - above)
        return propensity

    def _draw(self, request: Array) -> Array:
        """One item for each of n requests, from q; (n,) to (n,)."""
        which, where = self._random.random((2, len(request)))
        source = np.searchsorted(_STEPS, which, side="right")
        column = np.minimum(source, _POPULAR)
        items = self._by_popularity(self._start[request, column], self._width[request, column], where)
        uniform = source == _UNIFORM
        items[uniform] = where[uniform] * len(self._catalog.leaf)
        familiar = source > _UNIFORM
        items[familiar] = self.familiar[(where[familiar] * len(self.familiar)).astype(np.int64)]
        return items

    def _by_popularity(self, start: Array | float, width: Array | float, where: Array) -> Array:
        items = np.searchsorted(self._catalog.ends, start + width * where, side="right")
        drawn: Array = np.minimum(items, len(self._catalog.leaf) - 1)
        return drawn
