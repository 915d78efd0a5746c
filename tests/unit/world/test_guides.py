"""Guides: what a user is asked about needs two past events, one read after the other, and nothing less tells it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import PRESETS, SETTLED, Preset, World
from hisac_lab.ops.auc import auc
from hisac_lab.world import truth
from hisac_lab.world.catalog import Catalog
from hisac_lab.world.life import Life, make_life
from hisac_lab.world.simulate import Simulator

WORLD = replace(
    PRESETS["tiny"], users=40, items=2_000, topics=(8, 8, 8), slate=5, events_per_user=600, share_old=0.0, two_step=30
)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(WORLD)


@pytest.fixture(scope="module")
def lives(simulator: Simulator) -> list[Life]:
    return [make_life(np.random.default_rng([WORLD.seed, 2, user]), simulator.catalog, WORLD) for user in range(40)]


def logs(simulator: Simulator) -> dict[str, Array]:
    parts = [simulator.user(user) for user in range(simulator.world.users)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize(
    ("preset", "digest"),
    [("tiny", "388d09581b8c1156"), ("small", "c72e68188fa565d5"), ("long", "93cabbb41bbfa97d")],
)
def test_a_world_without_guides_is_what_it_was(preset: Preset, digest: str) -> None:
    simulator, found = Simulator(PRESETS[preset]), hashlib.sha256()
    assert (simulator.catalog.link == -1).all()
    for user in range(2):
        for column in simulator.user(user).values():
            found.update(column.tobytes())
    assert found.hexdigest()[:16] == digest


def test_guides_link_to_any_other_subtopic(simulator: Simulator) -> None:
    link = simulator.catalog.link.reshape(64, 8)
    assert (link[:, 0] == -1).all()
    assert (link[:, 1:] != np.arange(64)[:, None]).all()
    assert set(link[:, 1:].ravel()) == set(range(64))


def test_a_user_is_asked_once_about_a_subtopic_that_a_guide_joined_before(
    simulator: Simulator, lives: list[Life]
) -> None:
    themes, known = simulator.catalog.themes, []
    for life in lives:
        guided, own = life.guided, 2 * WORLD.interests
        assert guided is not None
        assert (guided.guide < guided.ask).all()
        subtopic = guided.leaf // themes
        assert len(set(subtopic)) == len(subtopic)
        assert not set(subtopic) & set(life.subtopic[:own])
        assert (life.leaf[:own] % themes == 0).all()
        np.testing.assert_array_equal(life.leaf[life.subject[guided.ask]], subtopic * themes)
        np.testing.assert_array_equal(life.leaf[life.subject[guided.guide]], guided.leaf)
        assert not life.returned[np.r_[guided.guide, guided.ask]].any()
        for leaf, ask, knows in zip(guided.leaf, guided.ask, guided.known, strict=True):
            (place,) = np.flatnonzero(life.subtopic[:own] == simulator.catalog.link[leaf])
            assert knows == (place < WORLD.interests)
            assert not knows or life.birth[place] <= ask - SETTLED
        known.append(guided.known)
    assert np.mean([len(one) for one in known]) > 25
    assert np.concatenate(known).mean() == pytest.approx(0.5, abs=0.05)


def test_guided_is_a_plain_loop(simulator: Simulator, lives: list[Life]) -> None:
    catalog, life = simulator.catalog, lives[0]
    items = np.random.default_rng(0).integers(0, WORLD.items, (WORLD.requests, 300))
    for knows in (None, False, True):
        expected = np.zeros(items.shape)
        assert life.guided is not None
        guided = zip(life.guided.guide, life.guided.ask, life.guided.leaf, life.guided.known, strict=True)
        for guide, ask, leaf, known in guided:
            for place, item in enumerate(items[guide]):
                expected[guide, place] = truth.GUIDED * (catalog.leaf[item] == leaf)
            for place, item in enumerate(items[ask]):
                like = catalog.subtopic[item] == leaf // catalog.themes and (known if knows is None else knows)
                expected[ask, place] = truth.GUIDED * like
        np.testing.assert_array_equal(truth.guided(catalog, life, items, knows), expected)


def test_both_steps_must_be_among_the_last_clicks(simulator: Simulator, lives: list[Life]) -> None:
    catalog, seen = simulator.catalog, set()
    random = np.random.default_rng(1)
    for life in lives[:10]:
        assert life.guided is not None
        items = random.choice(np.flatnonzero(np.isin(catalog.leaf, life.leaf)), (WORLD.requests, 5))
        clicks = random.random(items.shape) < 0.5
        told = truth.both_steps_recent(catalog, life, items, clicks, recent=200)
        expected = np.ones(len(items), bool)
        for ask, leaf in zip(life.guided.ask, life.guided.leaf, strict=True):
            last = items[:ask][clicks[:ask]][-200:]
            expected[ask] = leaf in catalog.leaf[last] and catalog.link[leaf] in catalog.subtopic[last]
        np.testing.assert_array_equal(told, expected)
        seen |= set(told[life.guided.ask])
    assert seen == {True, False}


def _one_step(catalog: Catalog, life: Life, items: Array, clicks: Array) -> Array:
    told = np.ones(len(items), bool)
    assert life.guided is not None
    told[life.guided.ask] = False
    return told


def test_without_the_second_step_nothing_is_known_of_what_is_asked(
    simulator: Simulator, lives: list[Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bayes' AUC with both steps, with both among the last 50 clicks, and without the second, all else known."""
    with_both = logs(simulator)
    monkeypatch.setattr(truth, "both_steps_recent", _one_step)
    without = logs(simulator)
    np.testing.assert_array_equal(with_both["click"], without["click"])
    clicks, best, one = with_both["click"], with_both["probability"], without["probability_recent"]
    asked = np.abs(best - one) > 0.05
    assert 0.08 < asked.mean() < 0.2
    areas = [auc(clicks, scores) for scores in (best, with_both["probability_recent"], one)]
    assert areas[0] - areas[2] > 0.02
    assert areas[2] < areas[1] < areas[0]
    there = [auc(clicks[asked], scores[asked]) for scores in (best, one)]
    assert there[0] > 0.83
    assert there[1] < 0.6  # position, appeal and season of an item are left
    np.testing.assert_allclose(best[~asked], one[~asked], atol=0.05)


def test_the_guide_itself_says_nothing_of_the_answer(simulator: Simulator, lives: list[Life]) -> None:
    """Whether the user knows what it links to, a guide is clicked as often."""
    counts: dict[bool, list[int]] = {True: [], False: []}
    for user, life in enumerate(lives):
        clicks = simulator.user(user)["click"].reshape(WORLD.requests, WORLD.slate)
        assert life.guided is not None
        for guide, known in zip(life.guided.guide, life.guided.known, strict=True):
            counts[bool(known)].append(int(clicks[guide].sum()))
    assert np.mean(counts[True]) > 1.5
    assert np.mean(counts[True]) == pytest.approx(np.mean(counts[False]), abs=0.25)


def test_clicks_follow_the_truth_with_guides(simulator: Simulator) -> None:
    world: World = simulator.world
    log = logs(simulator)
    edges = np.quantile(log["probability"], np.linspace(0, 1, 11))
    place = np.searchsorted(edges[1:-1], log["probability"])
    for part in range(10):
        chance, clicks = log["probability"][place == part].astype(float), log["click"][place == part]
        assert abs(clicks.mean() - chance.mean()) < 4 * np.sqrt((chance * (1 - chance)).sum()) / len(chance)
    assert len(log["click"]) == world.users * world.events_per_user
