"""Users, their moments, and pools: alive, unmet where nothing is shown twice, like what the test period shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import says

from hisac_lab.abtest.people import DAY, PRIOR, Log, Population, choose_pools, habits, population
from hisac_lab.abtest.records import NothingToJudge
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.events.store import SAMPLE, SPLITS, EventStore

CONFIG = ABTestConfig(visits=2, pool=12, slate=3)


@st.composite
def exposures(draw: st.DrawFn) -> np.ndarray:
    """Test samples of a few users; few moments, so that many coincide; `end` grows with time as in a store."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    samples = np.zeros(draw(st.integers(1, 60)), SAMPLE)
    samples["user"] = random.integers(0, 6, len(samples)) * 3
    samples["time"] = random.integers(0, draw(st.sampled_from([2, 6, 40])), len(samples))
    samples["end"] = samples["user"] * 1000 + samples["time"]
    samples["item"], samples["label"] = random.integers(0, 9, len(samples)), random.integers(0, 2, len(samples))
    return samples[np.argsort(samples["time"], kind="stable")]


@given(samples=exposures())
@settings(max_examples=120, deadline=None)
def test_each_user_is_asked_in_the_middle_of_their_exposures(samples: np.ndarray) -> None:
    people = population(samples)
    expected = []
    for user in np.unique(samples["user"]):
        own = samples[samples["user"] == user]
        moment = np.sort(own["time"])[len(own) // 2]
        if moment > own["time"].min():
            end = own[own["time"] >= moment]["end"].min()
            expected.append((int(user), int(moment), int(end), len(np.unique(own["time"]))))
    columns = (people.user, people.time, people.end, people.requests)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_histories_that_policies_read_end_before_the_moment(store: EventStore) -> None:
    people = population(store.samples("test"))
    assert len(people.user) > 20
    last = store.times[people.end - 1]
    assert (store.offsets[people.user] < people.end).all()
    assert (people.end <= store.offsets[people.user + 1]).all()
    assert (last < people.time).all()
    following = np.minimum(people.end, len(store.times) - 1)
    own = people.end < store.offsets[people.user + 1]
    assert (store.times[following][own] >= people.time[own]).all()


def test_the_request_of_a_moment_is_that_of_its_exposures(store: EventStore) -> None:
    """So that policies are told its columns."""
    samples = store.samples("test")
    people = population(samples).take(np.arange(5))
    assert people.request is not None
    for user, time, request in zip(people.user, people.time, people.request, strict=True):
        assert set(samples["request"][(samples["user"] == user) & (samples["time"] == time)]) == {request}


def test_users_with_one_moment_only_are_left_out() -> None:
    samples = np.zeros(6, SAMPLE)
    samples["user"], samples["time"] = [1, 1, 2, 2, 2, 3], [5, 5, 1, 9, 9, 4]
    people = population(samples)
    assert people.user.tolist() == [2]
    assert people.time.tolist() == [9]
    assert people.requests.tolist() == [2]


def test_a_log_knows_who_had_met_what_and_when_items_lived(store: EventStore) -> None:
    log = Log.of(store)
    met: dict[tuple[int, int], int] = {}
    for split in SPLITS:
        for sample in store.samples(split):
            key = int(sample["user"]), int(sample["item"])
            met[key] = min(met.get(key, 1 << 62), int(sample["time"]))
    for user in range(len(store.offsets) - 1):
        for at in range(store.offsets[user], store.offsets[user + 1]):
            key = user, int(store.items[at])
            met[key] = min(met.get(key, 1 << 62), int(store.times[at]))
    test = store.samples("test")
    again = [met[int(one["user"]), int(one["item"])] < one["time"] for one in test]
    assert log.repeated == pytest.approx(np.mean(again))
    for user, time in ((0, 10**12), (3, int(np.median(log.time)))):
        expected = {item for (who, item), first in met.items() if who == user and first < time}
        assert set(log.met(user, time).tolist()) == expected
    item = int(test["item"][0])
    assert log.first[item] == min(first for (_, one), first in met.items() if one == item)
    assert int(log.judged.sum()) == len(test)


def test_a_log_has_the_weights_that_its_samples_have(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Log.of(store).weight is None
    monkeypatch.setattr(EventStore, "weights", lambda store, split: store.samples(split)["item"].astype(np.float32))
    log = Log.of(store)
    assert log.weight is not None
    np.testing.assert_array_equal(log.weight, log.item)


def _log(user: list[int], item: list[int], time: list[int], items: int = 30) -> Log:
    """Exposures, all of the test period."""
    who, what, when = (np.array(column, np.int64) for column in (user, item, time))
    pairs = np.unique(who * items + what)
    since = np.array([when[who * items + what == pair].min() for pair in pairs])
    first, last = np.full(items, 1 << 62), np.full(items, -(1 << 62))
    np.minimum.at(first, what, when)
    np.maximum.at(last, what, when)
    return Log(who, what, when, np.ones(len(who)), np.ones(len(who), bool), pairs, since, first, last)


def _people(time: int) -> Population:
    return Population(np.array([0, 1]), np.array([time, time]), np.zeros(2, int), np.ones(2, int))


def test_pools_hold_what_was_alive_and_not_what_the_user_has_met() -> None:
    """Items 0..9 live from day 0 to 20, 10..19 end on day 2, 20..29 begin on day 18; user 0 meets items 0 to 2."""
    user = [0] * 3 + [2] * 50
    item = [0, 1, 2, *range(10), *range(10), *range(10, 20), *range(20, 30), *range(10)]
    time = [0] * 3 + [0] * 10 + [20 * DAY] * 10 + [2 * DAY] * 10 + [18 * DAY] * 10 + [10 * DAY] * 10
    log = _log(user, item, time)
    config = CONFIG.model_copy(update={"pool": 7})
    _, pools = choose_pools(log, _people(10 * DAY), config, without_met=True)
    assert pools.shape == (2, 4, 7)
    assert (np.diff(pools, axis=2) > 0).all()
    assert set(pools[0].ravel().tolist()) == set(range(3, 10))
    assert set(pools[1].ravel().tolist()) == set(range(10))
    _, met_too = choose_pools(log, _people(10 * DAY), config, without_met=False)
    assert set(met_too[0].ravel().tolist()) == set(range(10))
    _, early = choose_pools(log, _people(2 * DAY + 5), config, without_met=False)
    assert early.max() == 19


def test_what_is_shown_more_often_is_in_more_pools() -> None:
    item = [0] * 30 + list(range(1, 30))
    log = _log([5] * len(item), item, [10] * len(item))
    _, pools = choose_pools(log, _people(10), CONFIG.model_copy(update={"visits": 50, "pool": 3}), False)
    share = np.bincount(pools.ravel(), minlength=30) / pools[..., 0].size
    assert share[0] > 0.8
    assert share[1:].max() < 0.2


def test_pools_are_drawn_again_the_same(store: EventStore) -> None:
    log, people = Log.of(store), population(store.samples("test"))
    one, two = (choose_pools(log, people, CONFIG, True)[1] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    other = choose_pools(log, people, CONFIG.model_copy(update={"seed": 5}), True)[1]
    assert not np.array_equal(one, other)


def test_a_user_with_too_few_items_is_left_out_and_a_slate_too_large_is_refused() -> None:
    log = _log([0] * 25 + list(range(1, 12)), [*range(25), *([29] * 11)], [0] * 25 + [5] * 11)
    moments = Population(np.arange(12), np.full(12, 9), np.zeros(12, int), np.ones(12, int))
    people, pools = choose_pools(log, moments, CONFIG, without_met=True)
    assert people.user.tolist() == list(range(1, 12))
    assert pools.shape[2] == 12
    with says("settings", "abtest.slate", "60 is more than the 26 items that the test period shows"):
        choose_pools(log, moments, CONFIG.model_copy(update={"slate": 60, "pool": 100}), True)


def test_users_with_less_than_a_slate_to_choose_from_have_nothing_to_judge() -> None:
    """Of 24 items half are gone at everybody's moment: no fault of the settings, so the graph goes on."""
    log = _log([0] * 24, [*range(24)], [0] * 12 + [9 * DAY] * 12)
    with pytest.raises(NothingToJudge, match=r"a slate of 20 is more than the 12 items .*lower abtest.slate"):
        choose_pools(log, _people(9 * DAY), CONFIG.model_copy(update={"slate": 20, "pool": 24}), without_met=False)


def test_users_with_nothing_left_to_choose_from_have_nothing_to_judge() -> None:
    """Everybody has met all items of the test period but one."""
    log = _log([0, 0, 1, 1], [0, 1, 0, 1], [0, 5, 0, 5])
    moments = Population(np.arange(2), np.full(2, 5), np.zeros(2, int), np.ones(2, int))
    with pytest.raises(NothingToJudge, match="most users can choose from fewer than two items"):
        choose_pools(log, moments, CONFIG, without_met=True)


def test_habits_are_what_a_user_did_before_the_moment() -> None:
    user, time = np.array([1, 0, 1, 1, 1, 0]), np.array([5, 1, 2, 9, 4, 3])
    label = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    nobody = np.zeros(2, int)
    found = habits(user, time, label, Population(np.array([0, 1]), np.array([3, 6]), nobody, nobody))
    mean = 4 / 6
    np.testing.assert_allclose(found[:, 0], np.log1p([1, 3]), atol=1e-9)
    rates = [(1 + PRIOR * mean) / (1 + PRIOR), (2 + PRIOR * mean) / (3 + PRIOR)]
    np.testing.assert_allclose(found[:, 1], rates, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], rates, atol=1e-9)
