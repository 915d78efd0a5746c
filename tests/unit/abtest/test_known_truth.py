"""Known truth: the world rebuilt from its settings is the one that made the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import prepare_log, says

from hisac_lab.abtest.people import Population, population
from hisac_lab.abtest.truth import examined, rebuild, true_chances
from hisac_lab.base.artifacts import stage_output
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.events.store import EventStore
from hisac_lab.sources.acquire import acquire
from hisac_lab.world.simulate import Simulator


def made(home: Path, config: WorldConfig) -> Path:
    """A world, acquired and prepared."""
    with stage_output(home / "acquire") as out:
        acquire(AcquireConfig(dataset="world", world=config), out=out)
    prepare_log(PrepareConfig(), home / "acquire", home / "prepare")
    return home


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of twelve users."""
    return made(tmp_path_factory.mktemp("world"), WorldConfig(users=12, seed=3))


@pytest.mark.parametrize("further", [{}, {"scene": 2.0}, {"two_step": 8}, {"share_old": 0.5}])
def test_rebuilt_chances_are_those_of_the_log(tmp_path: Path, further: dict[str, Any]) -> None:
    """For every exposure of the test period: the log's true probability without the position's share."""
    home = made(tmp_path, WorldConfig(users=12, seed=3, **further))
    store = EventStore.open(home / "prepare")
    samples = store.samples("test")
    logged = store.extra("probability_anywhere", "test")
    simulator = rebuild(home / "acquire")
    for request in np.unique(samples["request"])[::5]:
        own = np.flatnonzero(samples["request"] == request)
        head = samples[own[0]]
        people = Population(np.array([head["user"]]), np.array([head["time"]]), np.array([head["end"]]), np.ones(1))
        found = true_chances(simulator, store, people, samples["item"][own][None])
        np.testing.assert_allclose(found[0], logged[own], atol=1e-5)


def test_chances_keep_the_shape_of_the_pools(world: Path) -> None:
    store = EventStore.open(world / "prepare")
    people = population(store.samples("test"))
    items = np.random.default_rng(0).integers(0, store.manifest.items, (len(people.user), 2, 7))
    simulator = rebuild(world / "acquire")
    found = true_chances(simulator, store, people, items)
    assert found.shape == items.shape
    turned = true_chances(simulator, store, people, items[:, ::-1])
    np.testing.assert_array_equal(turned[:, ::-1], found)


def test_places_are_looked_at_by_the_worlds_position_bias(world: Path) -> None:
    simulator = rebuild(world / "acquire")
    np.testing.assert_allclose(examined(simulator, 10), simulator.examined)
    assert examined(simulator, 15)[14] == pytest.approx(15.0**-simulator.world.position_bias)


def test_a_world_of_other_settings_is_refused(world: Path, tmp_path: Path) -> None:
    store = EventStore.open(world / "prepare")
    people = population(store.samples("test"))
    items = np.zeros((len(people.user), 1), int)
    facts = json.loads((world / "acquire" / "manifest.json").read_text())
    other = tmp_path / "manifest.json"
    other.write_text(json.dumps(facts | {"world": facts["world"] | {"seed": 4}}))
    with says("has other click probabilities than the log"):
        true_chances(rebuild(tmp_path), store, people, items)
    other.write_text(json.dumps(facts | {"world": {"preset": "tiny"}}))
    with says("manifest.json", "is of no world"):
        rebuild(tmp_path)


def test_a_user_asked_after_their_last_request_is_as_they_were_then(world: Path) -> None:
    simulator: Simulator = rebuild(world / "acquire")
    last = int(simulator.user(0)["time"][-1])
    items = np.arange(50)
    soon, late = (simulator.chances(0, last + after, items) for after in (1, 2))
    assert soon.shape == (50,)
    np.testing.assert_allclose(soon, late, atol=1e-4)
