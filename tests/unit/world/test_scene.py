"""Scenes: what they add to a click, what the log names of them, and what a model that never sees them cannot know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisac_lab.config.world import PRESETS, WorldConfig, resolve
from hisac_lab.ops.auc import auc
from hisac_lab.world import scene
from hisac_lab.world.simulate import EVENTS, TRUTH, Simulator

PLAIN = replace(PRESETS["small"], users=40, position_bias=0.0)
RICH = replace(PLAIN, scene=1.0)


def _logs(simulator: Simulator, users: int) -> dict[str, np.ndarray]:
    parts = [simulator.user(number) for number in range(users)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _logit(probability: np.ndarray) -> np.ndarray:
    chance = probability.astype(float)
    return np.asarray(np.log(chance / (1 - chance)))


def test_a_scene_is_a_quarter_of_the_day() -> None:
    times = np.array([0, 21_599, 21_600, 43_200, 86_399, 86_400, 1_577_836_800])
    assert scene.of_times(times).tolist() == [0, 0, 1, 2, 3, 0, 0]


def test_the_taste_for_the_scene_is_added_and_nothing_else_changes() -> None:
    plain, rich = Simulator(PLAIN).user(5), Simulator(RICH).user(5)
    assert set(plain) == {*EVENTS, *TRUTH}
    assert set(rich) - set(plain) == {"device", "placement"}
    for name in ("item", "time", "position", "propensity", "old"):
        np.testing.assert_array_equal(plain[name], rich[name])
    added = scene.tastes(RICH, 5)[scene.of_times(plain["time"])]
    np.testing.assert_allclose(_logit(rich["probability"]) - _logit(plain["probability"]), added, atol=1e-3)


def test_tastes_have_the_spread_that_is_asked_for_and_a_part_in_common() -> None:
    tastes = np.stack([scene.tastes(replace(RICH, scene=0.7), user) for user in range(4_000)])
    assert tastes.std(axis=0) == pytest.approx(0.7, rel=0.05)
    assert tastes.mean(axis=0) == pytest.approx(0.7 * scene.COMMON * _common(), abs=0.04)
    assert np.abs(np.corrcoef(tastes.T) - np.eye(scene.SCENES)).max() < 0.06


def _common() -> np.ndarray:
    return np.random.default_rng([RICH.seed, 3]).standard_normal(scene.SCENES)


def test_hashed_columns_tell_the_scene() -> None:
    """The most frequent scene of each code is nearly always right for a device, less often for a placement."""
    log = _logs(Simulator(RICH), 20)
    scenes, right = scene.of_times(log["time"]), {}
    for name in scene.COLUMNS:
        counts = np.zeros((scene.CODES, scene.SCENES))
        np.add.at(counts, (log[name], scenes), 1)
        right[name] = counts.max(axis=1).sum() / len(scenes)
        assert 8 < (counts.sum(axis=1) > 0).sum() <= scene.CODES
    assert right["device"] > 0.85
    assert 0.5 < right["placement"] < right["device"]
    one = log["time"] == log["time"][0]
    assert len(set(log["device"][one])) == 1
    assert len(set(log["placement"][one])) > 1


def test_who_does_not_know_the_users_own_taste_ranks_worse() -> None:
    """The best AUC without it: the logit that all users share, with the taste in common."""
    simulator = Simulator(RICH)
    log = _logs(simulator, RICH.users)
    scenes = scene.of_times(log["time"])
    own = np.stack([scene.tastes(RICH, user) for user in range(RICH.users)])
    common = RICH.scene * scene.COMMON * _common()
    without = _logit(log["probability"]) - own[log["user"], scenes] + common[scenes]
    known, unknown = (auc(log["click"].astype(float), score) for score in (_logit(log["probability"]), without))
    assert known - unknown > 0.02


def test_a_world_without_scenes_says_nothing_of_them() -> None:
    assert resolve(WorldConfig()).scene == 0
    assert "device" not in Simulator(PRESETS["tiny"]).user(0)
