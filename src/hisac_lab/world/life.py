"""What a user comes to like, and what each of their requests is about."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import FOCUS, World
from hisac_lab.world.catalog import Catalog
from hisac_lab.world.guides import Guided, draw_guided

WEAKEST, STRONGEST = 2.5, 5.0
"""Range of the strength of a new interest, in logits."""


@dataclass(frozen=True)
class Life:
    """K interests in the order of their birth, then K decoys; each has a subtopic of its own. M = 2K.

    An interest is born and is in focus until `FOCUS` younger ones are born. Then it fades for good, or it lasts, with
    probability `share_old`, and returns now and again. A decoy is a subtopic that the user does not care for and that
    the policy shows whenever it shows a returned interest, equally often. So an exposure alone does not tell an old
    interest from a decoy: only the clicks of long ago do.

    With guides (see `guides`), n subtopics that are asked about and their n guides follow; M = 2K + 2n. None of them is
    an interest.

    Attributes:
        leaf: The leaf each is about; (M,).
        subtopic: Its subtopic; (M,).
        strength: What an item of the leaf adds to a click at birth, in logits; 0 for decoys; (M,).
        slope: What a whole life adds to the logarithm of the strength; (M,).
        birth: The first request at which it is felt; (M,).
        passed: The first request after its focus; 0 for decoys; (M,).
        lasts: Whether it is felt after that; (M,).
        subject: What each request is about: an index into the above; (R,).
        returned: Whether that was last shown more than `old_after` exposures ago; (R,).
        ready: Lasting interests that are old at each request; there are as many such decoys; (R,).
        guided: What the user is asked about; None without guides.
    """

    leaf: Array
    subtopic: Array
    strength: Array
    slope: Array
    birth: Array
    passed: Array
    lasts: Array
    subject: Array
    returned: Array
    ready: Array
    guided: Guided | None = None


def make_life(random: np.random.Generator, catalog: Catalog, world: World) -> Life:
    """Draws the interests of one user and the subjects of their requests."""
    count, requests = world.interests, world.requests
    subtopic = random.permutation(len(catalog.subtopic_bounds) - 1)[: 2 * count]
    birth, passed = np.zeros((2, 2 * count), np.int64)
    birth[FOCUS:count] = np.sort(random.integers(1, requests, count - FOCUS))
    passed[:count] = np.r_[birth[FOCUS:count], np.full(FOCUS, requests)]
    strength = np.zeros(2 * count)
    strength[:count] = random.uniform(WEAKEST, STRONGEST, count)
    lasts = np.zeros(2 * count, bool)
    lasts[:count] = random.random(count) < world.share_old

    at = np.arange(requests)
    born = np.searchsorted(birth[:count], at, side="right")
    subject = born - 1 - random.integers(0, FOCUS, requests)
    wanted = np.flatnonzero(random.random(requests) < world.share_old)
    # An interest and a decoy start to wait together, in either order.
    pairs = random.permuted(np.flatnonzero(lasts)[:, None] + np.array([0, count]), axis=1)
    _return(subject, wanted.tolist(), passed[lasts].tolist(), pairs.tolist(), gap(world))
    life = Life(
        leaf=subtopic * catalog.themes + random.integers(0, catalog.themes, 2 * count),
        subtopic=subtopic,
        strength=strength,
        slope=world.drift * random.standard_normal(2 * count),
        birth=birth,
        passed=passed,
        lasts=lasts,
        subject=subject,
        returned=(subject >= count) | (subject < born - FOCUS),
        ready=np.searchsorted(passed[lasts] - 1 + gap(world), at, side="right"),
    )
    return _with_guides(life, draw_guided(random, catalog, world, subtopic, birth), catalog) if world.two_step else life


def _with_guides(life: Life, guided: Guided, catalog: Catalog) -> Life:
    """The life in which guides and what is asked about replace some subjects; interests are in first themes."""
    themes, subject, returned = catalog.themes, life.subject.copy(), life.returned.copy()
    more = np.concatenate([guided.leaf // themes * themes, guided.leaf])
    at, none = np.concatenate([guided.ask, guided.guide]), np.zeros(len(more))
    subject[at], returned[at] = len(life.leaf) + np.arange(len(more)), False
    return replace(
        life,
        leaf=np.r_[life.subtopic * themes, more],
        subtopic=np.r_[life.subtopic, more // themes],
        strength=np.r_[life.strength, none],
        slope=np.r_[life.slope, none],
        birth=np.r_[life.birth, none.astype(np.int64)],
        passed=np.r_[life.passed, none.astype(np.int64)],
        lasts=np.r_[life.lasts, none > 0],
        subject=subject,
        returned=returned,
        guided=guided,
    )


def gap(world: World) -> int:
    """Requests from one about a subtopic to the first whose exposures are all more than `old_after` later."""
    return 1 + -(-world.old_after // world.slate)


def _return(subject: Array, wanted: list[int], passed: list[int], pairs: list[list[int]], gap: int) -> None:
    """Puts what was shown longest ago, if that is long enough ago, into the `wanted` requests of `subject`.

    Args:
        subject: Subjects of all requests, all of them in focus; changed in place.
        wanted: Requests that should be about something old.
        passed: When each lasting interest goes out of focus.
        pairs: Its index and its decoy's.
        gap: Requests that must lie between.
    """
    waiting: deque[tuple[int, int]] = deque()  # (index, the first request at which it is old)
    started = 0
    for request in wanted:
        while started < len(passed) and passed[started] <= request:
            waiting.extend((one, passed[started] - 1 + gap) for one in pairs[started])
            started += 1
        if waiting and waiting[0][1] <= request:
            index, _ = waiting.popleft()
            subject[request] = index
            waiting.append((index, request + gap))
