"""What makes a user click, and how much of it the last events of a history reveal.

    probability = examined(position) * sigmoid(logit)
    logit = BASE + appeal(item) + season(topic, time) + repeat * [item was shown before] + taste(scene) + interest
        + guided

An item of an interest's leaf adds the interest's strength, another item of its subtopic `SIBLING` times that; other
items and interests not yet born add nothing. Strength moves with age: strength * exp(slope * age), age in lives.

`guided` is `GUIDED` for the guide's items in the request that shows a guide, and for all items of the subtopic that a
user is asked about if they know what its guide links it to (see `guides`); else 0, as in a world without guides.

`probability_recent` is the same with only the interests that the last 50 events of the history reveal, a history being
the clicks of earlier requests. A subtopic is revealed if one of these clicks fell on it, and while an interest in it is
in focus, clicked or not. Then all about it is known: whether there is an interest, its leaf, its strength today. Where
it is not revealed, old interests, decoys and plain exposures look alike, and the probability is the mean over them,

    (1 - liked) * sigmoid(logit without interest) + liked * mean of sigmoid(logit with an interest of mean strength),

`liked` being the posterior, by Bayes and the shares of the policy, that a random user who is shown this item and has
not revealed its subtopic has an old interest in it. (It takes the draws of a slate for independent, which overstates
`liked` a little; the order, and so the AUC, hardly depends on it.) All the rest (position, item, season, repetition,
taste for the scene) counts as known. What a guide tells is known if both steps, a click on its leaf and one on the
subtopic it links to, are among the 50, and else the mean of both cases. A real model knows less in each of these
points, so the AUC of `probability_recent` is an oracle for all that see the last 50 clicks only. Its distance to the
AUC of `probability` comes from old interests and guides alone; without them it is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import World
from hisac_lab.world.catalog import Catalog
from hisac_lab.world.life import STRONGEST, WEAKEST, Life, gap
from hisac_lab.world.policy import SHARES

BASE = -2.0
SIBLING = 0.5
RECENT = 50
GUIDED = 4.0
_WEEK, _YEAR = 7 * 86_400, 365.25 * 86_400


def examined(world: World) -> Array:
    """Probability that each position is looked at; (slate,)."""
    chance: Array = (1.0 + np.arange(world.slate)) ** -world.position_bias
    return chance


def logits(catalog: Catalog, world: World, items: Array, times: Array, again: Array) -> Array:
    """Click logits without interests of items (R, n), at times (R,), shown before or not (R, n); (R, n)."""
    # Two waves per topic and request, then each item takes its topic's.
    angle = times[:, None] * (2 * np.pi / np.array([_WEEK, _YEAR]))
    waves = np.sin(angle[:, None, :] + catalog.phase).sum(axis=2)
    topic = catalog.subtopic[items] // catalog.subtopics
    season = world.season * np.take_along_axis(waves, topic, axis=1)
    plain: Array = BASE + catalog.appeal[items] + season + world.repeat * again
    return plain


def interest(catalog: Catalog, life: Life, items: Array, at: Array | None = None) -> tuple[Array, Array]:
    """What the user's interests add to the logits of items.

    Args:
        catalog: The items.
        life: The user.
        items: (n, k).
        at: The request that each row is asked at; (n,). None: each at its own, of all R.

    Returns:
        Logits, and whether they come from an interest in focus; both (n, k).
    """
    requests = (np.arange(len(items)) if at is None else at)[:, None]
    index = np.full(len(catalog.subtopic_bounds) - 1, -1)
    index[life.subtopic] = np.arange(len(life.subtopic))
    which = index[catalog.subtopic[items]]
    age = requests - life.birth[which]
    born = (which >= 0) & (age >= 0)
    focus = born & (requests < life.passed[which])
    near = np.where(catalog.leaf[items] == life.leaf[which], 1.0, SIBLING)
    gain = near * life.strength[which] * np.exp(life.slope[which] * age / len(life.subject))
    return np.where(focus | (born & life.lasts[which]), gain, 0.0), focus


def guided(catalog: Catalog, life: Life, items: Array, knows: bool | None = None) -> Array:
    """What guides add to the logits of items (R, n); (R, n).

    Args:
        catalog: The items.
        life: The user.
        items: Of each request.
        knows: Whether what any guide links to counts as known; None: as it is.
    """
    gain = np.zeros(items.shape)
    if life.guided is not None:
        own = life.guided
        is_guide = catalog.leaf[items[own.guide]] == own.leaf[:, None]
        is_asked = catalog.subtopic[items[own.ask]] == own.leaf[:, None] // catalog.themes
        known = np.broadcast_to(own.known if knows is None else knows, own.known.shape)
        gain[own.guide], gain[own.ask] = GUIDED * is_guide, GUIDED * is_asked * known[:, None]
    return gain


def both_steps_recent(catalog: Catalog, life: Life, items: Array, clicks: Array, recent: int = RECENT) -> Array:
    """Requests of which nothing that a guide tells is missing in the last clicks.

    Args:
        catalog: The items.
        life: The user.
        items: Requests in the order of time; (R, n).
        clicks: Clicked or not; (R, n).
        recent: Clicks of earlier requests that are remembered.

    Returns:
        False where a user is asked and a click on the guide's leaf or one on the subtopic it links to is not among
        these; (R,).
    """
    told = np.ones(len(items), bool)
    if life.guided is not None:
        clicked, count = items[clicks], np.r_[0, np.cumsum(clicks.sum(axis=1))]
        for ask, leaf in zip(life.guided.ask, life.guided.leaf, strict=True):
            seen = clicked[max(0, count[ask] - recent) : count[ask]]
            told[ask] = (catalog.leaf[seen] == leaf).any() and (catalog.subtopic[seen] == catalog.link[leaf]).any()
    return told


def sigmoid(logit: Array) -> Array:
    """1 / (1 + exp(-logit))."""
    probability: Array = 1.0 / (1.0 + np.exp(-logit))
    return probability


class Unrevealed:
    """What can be known of an exposure when its subtopic is not revealed.

    Args:
        catalog: The items.
        world: The world.
    """

    def __init__(self, catalog: Catalog, world: World) -> None:
        themes, subtopics = catalog.themes, len(catalog.subtopic_bounds) - 1
        self._subtopics = subtopics
        self._near = np.array([1 / themes, 1 - 1 / themes])  # the leaf is the item's, or another
        # Chance that a slate about a random subtopic shows the item, by its own leaf or by the others.
        in_subtopic = SHARES["subtopic"] * catalog.in_subtopic
        by_subject = _in_slate([SHARES["leaf"] * catalog.in_leaf + in_subtopic, in_subtopic], world)
        self._shown = self._near[:, None] * by_subject / subtopics
        popular = (SHARES["popular"] + SHARES["familiar"]) * catalog.weight
        # Chance that a slate about something else shows it.
        self._plain = _in_slate(popular + SHARES["uniform"] / len(popular), world)
        self._share_old, self._ripe = world.share_old, gap(world) / 2

    def probability(self, logit: Array, life: Life, items: Array) -> Array:
        """Mean of sigmoid(logit + interest) over the interests possible; logits without it and items (R, n); (R, n)."""
        # Share of requests about old subtopics, half of them liked.
        old = np.minimum(self._share_old, life.ready / self._ripe)[:, None]
        shown, plain = self._shown[:, items], self._plain[items]
        liked = old / 2 * shown
        # What is shown to anyone may happen to be liked.
        liked += self._near[:, None, None] * (life.ready[:, None] / self._subtopics * plain)
        liked /= old * shown.sum(axis=0) + plain
        strength = (WEAKEST + STRONGEST) / 2
        without = sigmoid(logit)
        probability = without.copy()
        for share, near in zip(liked, (1.0, SIBLING), strict=True):
            probability += share * (sigmoid(logit + near * strength) - without)
        return probability


def _in_slate(chance: ArrayLike, world: World) -> Array:
    """Chance that one of a slate's draws takes an item, from the chance that one draw does."""
    chance_in_slate: Array = 1.0 - (1.0 - np.asarray(chance)) ** world.slate
    return chance_in_slate


def revealed(subtopic: Array, clicks: Array, recent: int = RECENT) -> Array:
    """Whether one of the last `recent` clicks of earlier requests fell on the same subtopic.

    Args:
        subtopic: Of each exposure, requests in the order of time; (R, n).
        clicks: Clicked or not; (R, n).
        recent: Clicks that are remembered.

    Returns:
        (R, n) bool.
    """
    requests, slate = subtopic.shape
    count = np.cumsum(clicks)
    before = np.r_[0, count[slate - 1 :: slate][:-1]]
    # Sorted by subtopic, then time: each exposure's number of the last click on its subtopic up to it; 0: none.
    order = np.argsort(subtopic.ravel(), kind="stable")
    group, request = subtopic.ravel()[order].astype(np.int64), order // slate
    span = len(order) + 1
    last = np.maximum.accumulate(group * span + np.where(clicks.ravel()[order], count[order], 0))
    # Those of the same request do not count: look at the exposure before the first of the request on this subtopic.
    starts = np.r_[True, (group[1:] != group[:-1]) | (request[1:] != request[:-1])]
    earlier = np.flatnonzero(starts)[np.cumsum(starts) - 1] - 1
    number = np.where(earlier >= 0, last[earlier] - group * span, 0)
    is_recent = np.zeros(len(order), bool)
    is_recent[order] = (number > 0) & (before[request] - number < recent)
    return is_recent.reshape(requests, slate)
