"""A test of several days: the days' slates are part of what models read and of what users like, and lifts add up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit import prepare_log, says
from scipy import stats

from hisac_lab.abtest.daily import LOWEST, LiveTest, cumulative
from hisac_lab.abtest.people import DAY, Log, Population, choose_pools, population
from hisac_lab.abtest.policies import best_places
from hisac_lab.abtest.truth import rebuild, true_chances
from hisac_lab.base.artifacts import Array, stage_output
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.events.store import EventStore
from hisac_lab.sources.acquire import acquire

CONFIG = ABTestConfig(days=4, visits=2, pool=12, slate=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of twelve users, its histories of clicks and of all exposures."""
    home = tmp_path_factory.mktemp("daily")
    with stage_output(home / "acquire") as out:
        acquire(AcquireConfig(dataset="world", world=WorldConfig(users=12)), out=out)
    for history in ("positives", "all"):
        prepare_log(PrepareConfig(history=history), home / "acquire", home / history)
    return home


def _test(world: Path, history: str = "positives") -> LiveTest:
    store = EventStore.open(world / history)
    people, pools = choose_pools(Log.of(store), population(store.samples("test")), CONFIG, without_met=False)
    return LiveTest.of(rebuild(world / "acquire"), store, people, pools[:, 4:], CONFIG)


def _first(store: EventStore, people: Population, pools: Array) -> Array:
    return best_places(-1.0 * pools, CONFIG.slate)


def test_the_first_day_is_a_test_of_one_day(world: Path) -> None:
    live = _test(world)
    chances = true_chances(rebuild(world / "acquire"), live.store, live.people, live.pools[:, 0])
    np.testing.assert_allclose(live.fresh[:, 0], chances)
    expected = (chances[:, : CONFIG.slate] * live.examined).sum(axis=1)
    np.testing.assert_allclose(live.run(_first)[:, 0], expected)


def test_what_was_shown_before_is_liked_as_the_world_has_it(world: Path) -> None:
    """The same pool on every day: from the second day on its first items are known."""
    live = _test(world)
    live = dataclasses.replace(live, pools=np.repeat(live.pools[:, :1], CONFIG.days, axis=1))
    fresh, again = live.fresh[:, :, : CONFIG.slate], live.again[:, :, : CONFIG.slate]
    found = live.run(_first)
    np.testing.assert_allclose(found[:, 0], (fresh[:, 0] * live.examined).sum(axis=1))
    np.testing.assert_allclose(found[:, 1:], (again[:, 1:] * live.examined).sum(axis=2))
    simulator = rebuild(world / "acquire")
    odds = np.log(live.again / (1 - live.again)) - np.log(live.fresh / (1 - live.fresh))
    met = np.isclose(odds, 0, atol=1e-9)
    assert met.any()
    np.testing.assert_allclose(odds[~met], simulator.world.repeat, atol=1e-9)


@pytest.mark.parametrize("history", ["positives", "all"])
def test_a_model_reads_what_its_own_slates_brought(world: Path, history: str) -> None:
    live, seen = _test(world, history), list[tuple[EventStore, Population]]()

    def watching(store: EventStore, people: Population, pools: Array) -> Array:
        seen.append((store, people))
        return _first(store, people, pools)

    live.run(watching)
    slates = live.pools[:, :, : CONFIG.slate]
    for day, (store, people) in enumerate(seen):
        np.testing.assert_array_equal(people.time, live.people.time + day * DAY)
        for row, user in enumerate(people.user.tolist()):
            begin, end, old = int(store.offsets[user]), int(people.end[row]), int(live.people.end[row])
            first = max(int(live.store.offsets[user]), old - live.store.limit)
            shown = slates[row, :day].ravel()
            known = np.array([item in slates[row, :at] for at in range(day) for item in slates[row, at]], bool)
            chances = np.where(known, *(t[row, :day, : CONFIG.slate].ravel() for t in (live.again, live.fresh)))
            clicked = live.luck[row, :day].ravel() < chances * np.tile(live.examined, day)
            kept = clicked | (history == "all")
            np.testing.assert_array_equal(store.items[begin:end], [*live.store.items[first:old], *shown[kept]])
            assert (np.diff(store.times[begin:end]) >= 0).all()
            assert live.store.manifest.feedback is not None
            assert store.feedback is not None
            levels = np.where(clicked[kept], len(live.store.manifest.feedback), LOWEST)
            np.testing.assert_array_equal(store.feedback[begin:end][old - first :], levels)


def test_an_arm_meets_the_same_luck_again(world: Path) -> None:
    live = _test(world)
    np.testing.assert_array_equal(live.run(_first), live.run(_first))


def test_a_policy_that_is_new_is_clicked_more_and_by_half_as_much_each_day(world: Path) -> None:
    live = dataclasses.replace(_test(world), novelty=0.8, carry_over=False)
    plain, found = live.run(_first), live.run(_first, new=True)
    fresh = live.fresh[:, :, : CONFIG.slate]
    odds = np.log(fresh / (1 - fresh)) + 0.8 / 2 ** np.arange(CONFIG.days)[:, None]
    np.testing.assert_allclose(found, (live.examined / (1 + np.exp(-odds))).sum(axis=2), atol=1e-9)
    lift = found.mean(axis=0) / plain.mean(axis=0) - 1
    assert (np.diff(lift) < 0).all()
    np.testing.assert_array_equal(dataclasses.replace(live, novelty=0).run(_first, new=True), plain)


def test_without_carry_over_each_day_begins_as_the_first(world: Path) -> None:
    live, seen = dataclasses.replace(_test(world), carry_over=False), list[tuple[EventStore, Population]]()

    def watching(store: EventStore, people: Population, pools: Array) -> Array:
        seen.append((store, people))
        return _first(store, people, pools)

    live = dataclasses.replace(live, pools=np.repeat(live.pools[:, :1], CONFIG.days, axis=1))
    found = live.run(watching)
    np.testing.assert_allclose(found, (live.fresh[:, :, : CONFIG.slate] * live.examined).sum(axis=2))
    for day, (store, people) in enumerate(seen):
        np.testing.assert_array_equal(people.time, live.people.time + day * DAY)
        np.testing.assert_array_equal(store.items, seen[0][0].items)


def _arms(days: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    taste = random.gamma(4, 0.25, (200, 1))
    return taste * random.uniform(0.5, 1.5, (200, days)), 1.1 * taste * random.uniform(0.5, 1.5, (200, days))


def test_lifts_add_up_day_by_day() -> None:
    control, treatment = _arms()
    found = cumulative(control, treatment, 0.95)
    assert [day.day for day in found] == [1, 2, 3, 4, 5]
    for day in found:
        value = treatment[:, : day.day].mean() / control[:, : day.day].mean() - 1
        today = treatment[:, day.day - 1].mean() / control[:, day.day - 1].mean() - 1
        assert day.lift == pytest.approx(value, abs=1e-6)
        assert day.today == pytest.approx(today, abs=1e-6)
        gap = (treatment[:, : day.day] - (1 + value) * control[:, : day.day]).mean(axis=1)
        error = gap.std(ddof=1) / np.sqrt(200) / control[:, : day.day].mean()
        assert day.once.high - day.lift == pytest.approx(stats.t.ppf(0.975, 199) * error, abs=2e-6)
        assert day.sequence.low < day.bound.low < day.once.low < day.lift < day.once.high < day.bound.high


def test_a_policy_is_as_good_as_itself_on_every_day() -> None:
    control, _ = _arms()
    assert all(day.lift == day.sequence.low == day.sequence.high == 0 for day in cumulative(control, control, 0.95))


@pytest.mark.parametrize(
    ("shape", "said", "make"),
    [((1, 3), "one user has no spread", np.ones), ((4, 3), "nobody ever clicks", np.zeros)],
)
def test_arms_without_users_or_clicks_are_refused(
    shape: tuple[int, int], said: str, make: Callable[[tuple[int, int]], Array]
) -> None:
    with says("settings", said):
        cumulative(make(shape), np.ones(shape), 0.95)
