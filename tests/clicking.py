"""Made-up exposures whose clicks follow a known law."""

from __future__ import annotations

import numpy as np

from hisac_lab.abtest.hindsight import Exposures
from hisac_lab.base.artifacts import Array

USERS, ITEMS, CODES = 150, 40, 8


def by_taste(taste: float, each: int = 40, users: int = USERS) -> tuple[Exposures, Array]:
    """Users who click by true tastes of this strength, the last quarter judged, with their true logits."""
    random = np.random.default_rng(0)
    logits = taste * random.normal(size=(users, 2)) @ random.normal(size=(ITEMS, 2)).T
    who = np.repeat(np.arange(users), each)
    item = random.integers(0, ITEMS, len(who))
    label = (random.random(len(who)) < 1 / (1 + np.exp(-logits[who, item]))).astype(float)
    time = np.tile(np.arange(each) * 100, users)
    return Exposures(who, item, time, label, time >= each * 75, np.arange(users) * 3, ITEMS), logits


def by_phase(each: int = 60, users: int = USERS, phase: int = 15) -> tuple[Exposures, Array]:
    """Users who like half of the codes for a while, then another half; and each item's code, (items, 1)."""
    random = np.random.default_rng(1)
    nodes = np.arange(ITEMS)[:, None] % CODES
    likes = random.permuted(np.tile(np.arange(CODES) < CODES // 2, (users, each // phase, 1)), axis=2)
    who, place = np.repeat(np.arange(users), each), np.tile(np.arange(each), users)
    item = random.integers(0, ITEMS, len(who))
    liked = likes[who, place // phase, nodes[item, 0]]
    label = (random.random(len(who)) < np.where(liked, 0.9, 0.1)).astype(float)
    time = place * 100
    return Exposures(who, item, time, label, place >= each * 3 // 4, np.arange(users) * 3, ITEMS), nodes
