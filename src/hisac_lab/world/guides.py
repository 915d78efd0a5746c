"""Guides: subtopics that a user knows only as what goes with another, so that two past events must be read in turn.

Items of all themes but the first are guides: each joins its own subtopic to another (`Catalog.link`), and interests are
in the first theme. Late in their life a user is asked, once each, about subtopics that they have neither an interest in
nor a decoy for. Earlier a request showed them a guide that joins that subtopic to one they know, an interest that was
born before, or to one they do not, a decoy. They like what they are asked about if they know what it was joined to.

So the candidate finds the guide, which is of its subtopic, and that says nothing yet: both kinds are clicked alike. The
guide names another subtopic, and only clicks on that one, anywhere in the history, tell what is liked. One pass of
attention asks with the candidate alone. Its weights cannot depend on what the guide names, so the D numbers that it
brings would have to hold, beside the guide, what the user knows of every subtopic that a guide might name: one answer
for each of G, G far above D. A second pass that asks with what the first one found needs one answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import SETTLED, World
from hisac_lab.world.catalog import Catalog


@dataclass(frozen=True)
class Guided:
    """What one user is asked about: n subtopics, each once.

    Attributes:
        guide: The request that shows the guide; (n,).
        ask: The later request about its subtopic; (n,).
        leaf: Leaf of the guide; (n,).
        known: Whether the subtopic it links to is an interest of the user's, at least `SETTLED` requests old; (n,).
    """

    guide: Array
    ask: Array
    leaf: Array
    known: Array


def draw_guided(random: np.random.Generator, catalog: Catalog, world: World, subtopic: Array, birth: Array) -> Guided:
    """Draws `two_step` of them; one for which the catalog has no guide is left out.

    Args:
        random: The user's generator.
        catalog: The items.
        world: The world.
        subtopic: Those of K interests, then of K decoys; (2K,).
        birth: When each begins; (2K,).
    """
    count = world.interests
    slots = SETTLED + random.permutation(world.requests - SETTLED)[: 2 * world.two_step]
    pairs = np.sort(slots.reshape(-1, 2), axis=1)
    known = random.random(len(pairs)) < 0.5
    free = (catalog.link >= 0) & ~np.isin(np.arange(len(catalog.link)) // catalog.themes, subtopic)
    leaf = np.full(len(pairs), -1)
    for number, (_, ask) in enumerate(pairs):
        interests = subtopic[:count][birth[:count] <= ask - SETTLED]
        fits = np.flatnonzero(free & np.isin(catalog.link, interests if known[number] else subtopic[count:]))
        if len(fits):
            leaf[number] = fits[random.integers(len(fits))]
            own = leaf[number] // catalog.themes * catalog.themes
            free[own : own + catalog.themes] = False
    found = leaf >= 0
    return Guided(pairs[found, 0], pairs[found, 1], leaf[found], known[found])
