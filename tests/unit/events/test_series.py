"""Item series: counts strictly before a time, as a loop over the raw log counts them, however the users are spread."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import prepare_log, raw_log

from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events import series
from hisac_lab.events.records import EXPOSURES, POSITIVES
from hisac_lab.events.series import DAY, ItemCounts, ItemSeries, join_events, save_events
from hisac_lab.events.store import EventStore

HALF_LIVES = (0.5, 7.0)
ITEMS = 4
EVENTS = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(-5 * DAY, 5 * DAY)), max_size=40)


def brute(events: list[tuple[int, int]], item: int, time: int) -> tuple[int, list[float], int]:
    """Count, fading counts and age of the newest, from the events themselves."""
    ages = [time - when for which, when in events if which == item and when < time]
    fading = [sum(2.0 ** (-age / (days * DAY)) for age in ages) for days in HALF_LIVES]
    return len(ages), fading, min(ages, default=-1)


def same(found: ItemCounts, wanted: list[tuple[int, list[float], int]]) -> None:
    assert found.count.tolist() == [count for count, _, _ in wanted]
    np.testing.assert_allclose(found.faded, [fading for _, fading, _ in wanted], rtol=1e-12, atol=1e-300)
    assert found.age.tolist() == [age for _, _, age in wanted]


@given(events=EVENTS, asked=st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(-6 * DAY, 6 * DAY)), min_size=1))
def test_counts_are_those_of_a_loop_over_the_events(
    events: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    asked = asked + [(item, time) for item, time in events] + [(item, time + 1) for item, time in events]
    items, times = (np.array(part, np.int64) for part in zip(*asked, strict=True))
    numbers = np.array(events, np.int64).reshape(-1, 2)
    found = ItemSeries.of(numbers[:, 0], numbers[:, 1], ITEMS, HALF_LIVES).at(items, times)
    same(found, [brute(events, item, time) for item, time in asked])


@settings(deadline=None)
@given(seed=st.integers(0, 99), size=st.sampled_from([1, 2, 700]))
def test_sums_of_long_series_are_those_of_a_recurrence(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    times, items = np.sort(random.integers(0, 30 * DAY, 2 * size)), np.repeat([0, 3], [size, size])
    found = ItemSeries.of(items, times, ITEMS, HALF_LIVES)
    for begin in (0, size):
        total, last = np.zeros(len(HALF_LIVES)), int(times[begin])
        for place in range(begin, begin + size):
            total = total * 2.0 ** (-(times[place] - last) / (np.array(HALF_LIVES) * DAY)) + 1
            last = int(times[place])
            np.testing.assert_allclose(found.sums[place], total, rtol=1e-12)


@given(events=EVENTS, later=EVENTS, time=st.integers(-5 * DAY, 5 * DAY))
def test_events_at_or_after_a_time_change_nothing(
    events: list[tuple[int, int]], later: list[tuple[int, int]], time: int
) -> None:
    before = [(item, when) for item, when in events if when < time]
    after = [(item, max(when, time)) for item, when in later]
    both = [np.array(part, np.int64).reshape(-1, 2) for part in (before, before + after)]
    plain, more = (ItemSeries.of(part[:, 0], part[:, 1], ITEMS, HALF_LIVES) for part in both)
    items = np.arange(ITEMS)
    for one, other in zip(vars(plain.at(items, np.array(time))).values(), vars(more.at(items, np.array(time))).values(),
                          strict=True):  # fmt: skip
        assert np.array_equal(one, other)


@given(events=EVENTS, more=st.integers(0, 100 * DAY))
def test_a_snapshot_answers_as_the_series_after_the_last_event(events: list[tuple[int, int]], more: int) -> None:
    numbers = np.array(events, np.int64).reshape(-1, 2)
    whole = ItemSeries.of(numbers[:, 0], numbers[:, 1], ITEMS, HALF_LIVES)
    items, time = np.arange(ITEMS), np.array(5 * DAY + 1 + more)
    found, wanted = whole.snapshot().at(items, time), whole.at(items, time)
    for one, other in zip(vars(found).values(), vars(wanted).values(), strict=True):
        assert np.array_equal(one, other)


@given(events=EVENTS, cut=st.integers(1, 4), block=st.integers(1, 8))
def test_shards_join_to_the_series_of_all_events(events: list[tuple[int, int]], cut: int, block: int) -> None:
    numbers = np.array(events, np.int64).reshape(-1, 2)
    owner = np.arange(len(numbers)) % cut
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "BLOCK", block)
        shards = [Path(home) / str(index) for index in range(cut)]
        for index, path in enumerate(shards):
            path.mkdir()
            part = numbers[owner == index]
            save_events(path, POSITIVES, part[:, 0], part[:, 1], ITEMS)
        join_events(shards, POSITIVES, HALF_LIVES, Path(home))
        found = ItemSeries.open(Path(home), POSITIVES, HALF_LIVES)
        wanted = ItemSeries.of(numbers[:, 0], numbers[:, 1], ITEMS, HALF_LIVES)
        assert np.array_equal(found.offsets, wanted.offsets)
        assert np.array_equal(found.keys, wanted.keys)
        assert np.array_equal(found.sums, wanted.sums)


def _store(home: Path, log: pd.DataFrame, name: str = "out", **changes: object) -> EventStore:
    settings = {"positive_from": 4.0, "half_lives": HALF_LIVES, **changes} if "rating" in log else changes
    config = PrepareConfig.model_validate(settings, strict=False)
    prepare_log(config, raw_log(home / f"{name}-raw", log), home / name)
    return EventStore.open(home / name)


def _log(rows: int = 90) -> pd.DataFrame:
    """Events three hours apart of three users in turn; every third rating is high."""
    number = np.arange(rows)
    rating = np.where(number % 3 == number // 9 % 3, 5, 2)
    return pd.DataFrame({"user": number % 3, "item": number % 7, "rating": rating, "time": 10**9 + 10_800 * number})


def test_the_stage_writes_exposures_and_positives_when_their_labels_arrive(tmp_path: Path) -> None:
    log, delay = _log(), 5_000
    store = _store(tmp_path, log, label_delay=delay)
    facts = store.manifest.context
    assert (facts.series, facts.half_lives, facts.unit) == ((POSITIVES, EXPOSURES), HALF_LIVES, 1)
    assert facts.share == store.manifest.splits["train"].positive_share
    number = {item: place for place, item in enumerate(store.item_table["item"])}
    rows = list(zip(log["item"].tolist(), log["time"].tolist(), log["rating"].tolist(), strict=True))
    shown = [(number[str(item)], time) for item, time, _ in rows]
    liked = [(number[str(item)], time + delay) for item, time, rating in rows if rating >= 4]
    asked = [(item, time + shift) for item, time in shown for shift in (0, 1, delay, delay + 1)]
    items, times = (np.array(part) for part in zip(*asked, strict=True))
    for name, events in ((EXPOSURES, shown), (POSITIVES, liked)):
        found = ItemSeries.open(store.path, name, facts.half_lives).at(items, times)
        same(found, [brute(events, item, time) for item, time in asked])


@pytest.mark.parametrize("labeled", [True, False])
def test_the_series_do_not_depend_on_the_number_of_shards(tmp_path: Path, labeled: bool) -> None:
    log = _log() if labeled else _log().drop(columns="rating")
    columns = ColumnsConfig() if labeled else ColumnsConfig(label=None)
    stores = [_store(tmp_path, log, str(n), columns=columns, shards=tuple(range(n))) for n in (1, 3)]
    names = stores[0].manifest.context.series
    assert names == ((POSITIVES, EXPOSURES) if labeled else (POSITIVES,))
    for name in names:
        for part in ("offsets", "keys", "sums"):
            one, other = ((store.path / f"{name}_{part}.npy").read_bytes() for store in stores)
            assert one == other


def test_the_protocol_names_half_lives_only_where_they_are_set(tmp_path: Path) -> None:
    log = _log()
    plain, usual, other = (
        _store(tmp_path, log, name, half_lives=days).manifest.protocol
        for name, days in (("plain", PrepareConfig().half_lives), ("usual", (1.0, 7.0, 30.0)), ("other", (2.0,)))
    )
    assert plain == usual != other
