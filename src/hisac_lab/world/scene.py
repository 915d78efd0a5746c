"""Scenes: where and on what device a user is asked. A quarter of the day is a scene, and users like scenes differently.

    taste(user, scene) = spread * (COMMON * common(scene) + own(user, scene)), both normal; in logits, for every item

The log names the scene of an exposure by hashed columns, as it would name a device and a placement; items, and the
events of a history, do not. A model that knows the time of the request knows its scene. What the user makes of that
scene is known only from earlier exposures of the same scene with their answers: a history tells answers and not scenes.
"""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import World
from hisac_lab.ops.draws import mix, uniform

SCENES = 4
COMMON = 0.5
"""Spread of what all users make of a scene, in spreads of what each makes of it."""
COLUMNS = ("device", "placement")
CODES = 32
"""Values of each column."""
_VARIANTS = (3, 8)
"""Devices, and placements, of each scene; different ones may share a code."""
_ELSEWHERE = 0.2
"""Share of exposures at a placement of any scene."""
_SALT, _PERIOD = 0x7363656E65, 86_400 // SCENES


def of_times(times: Array) -> Array:
    """Scene of each second since 1970; (...) int64 to (...) in 0..SCENES-1."""
    scenes: Array = times // _PERIOD % SCENES
    return scenes


def tastes(world: World, user: int) -> Array:
    """What a user makes of each scene, in logits; (SCENES,)."""
    common = np.random.default_rng([world.seed, 3]).standard_normal(SCENES)
    own = np.random.default_rng([world.seed, 4, user]).standard_normal(SCENES)
    taste: Array = world.scene * (COMMON * common + own)
    return taste


def columns(world: World, user: int, times: Array) -> dict[str, Array]:
    """The hashed columns of a user's exposures: a device per request, a placement per exposure; (R, slate) each.

    Args:
        world: The world.
        user: Number of the user.
        times: Of the requests, seconds; (R,) int64.
    """
    scenes, place = of_times(times)[:, None], np.arange(world.slate)[None, :]
    device = uniform(world.seed, _SALT, 0, user, times)[:, None] * _VARIANTS[0]
    slot = uniform(world.seed, _SALT, 1, user, times[:, None], place)
    moved = uniform(world.seed, _SALT, 2, user, times[:, None], place)
    anywhere = np.where(moved < _ELSEWHERE, (moved / _ELSEWHERE * SCENES).astype(np.int64), scenes)
    raw = (
        np.broadcast_to(scenes * _VARIANTS[0] + device.astype(np.int64), anywhere.shape),
        anywhere * _VARIANTS[1] + (slot * _VARIANTS[1]).astype(np.int64),
    )
    return {
        name: (mix(_SALT, number, codes) % np.uint64(CODES)).astype(np.int64)
        for number, (name, codes) in enumerate(zip(COLUMNS, raw, strict=True))
    }
