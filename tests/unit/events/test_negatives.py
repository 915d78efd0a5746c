"""Negatives by the last touch of an item: what a look through the whole log gives, one positive at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hisac_lab.events.negatives import Clicks, Touched, nth_free
from hisac_lab.events.touches import Touches

DAY = 86_400
MANY = 50
"""More negatives than there are items: all that may be drawn are."""


class Log(NamedTuple):
    """Events of all users, and the same in time order."""

    clicks: Clicks
    touches: Touches


def _log(seed: int, unit: int, days: float, users: int = 4, items: int = 12, events: int = 60) -> Log:
    random = np.random.default_rng(seed)
    user, item = random.integers(0, users, events), random.integers(0, items, events)
    time = 10_000 * DAY + random.integers(0, int(days * DAY), events)
    user, item, time = np.unique(np.stack([user, item, time]), axis=1)
    order = np.lexsort((time, user))
    user, item, time = user[order], item[order], time[order]
    start = time // unit * unit
    request = np.cumsum(np.r_[True, (np.diff(user) != 0) | (np.diff(start) != 0)]) - 1
    in_time = np.lexsort((item, time))
    clicks = Clicks(user.astype(np.uint64), np.arange(len(user)), request, item.astype(np.int32), time, start)
    return Log(clicks, Touches(time[in_time], item[in_time]))


def _positives(clicks: Clicks) -> np.ndarray:
    """An item once in a request."""
    _, first = np.unique(np.stack([clicks.request, clicks.item]), axis=1, return_index=True)
    return first


def _days(log: Log, item: int, start: int) -> int | None:
    """Days since the last touch of an item, the 24 hours before `start` being one."""
    times = [time for time, other in zip(log.touches.times, log.touches.items, strict=True) if other == item]
    before = [time for time in times if time < start]
    return math.ceil((start - max(before)) / DAY) if before else None


def _candidates(log: Log, positive: int, window: int | None) -> set[int]:
    clicks, found = log.clicks, set[int]()
    request, start = clicks.request[positive], int(clicks.start[positive])
    taken = set(clicks.item[clicks.request == request].tolist())
    age = _days(log, int(clicks.item[positive]), start)
    for item in set(log.touches.items.tolist()) - taken:
        other = _days(log, item, start)
        if other is None:
            continue
        if window is not None and other <= window:
            found.add(item)
        if window is None and age is not None and int(math.log2(other)) == int(math.log2(age)):
            found.add(item)
    return found


LOGS = st.builds(
    _log,
    seed=st.integers(0, 10_000),
    unit=st.sampled_from([1, DAY]),
    days=st.sampled_from([0.001, 3.0, 40.0, 400.0]),
    users=st.integers(1, 5),
    items=st.integers(1, 14),
)


@given(log=LOGS, window=st.sampled_from([None, 1, 5, 30]), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_items_that_may_be_drawn_are_those_that_a_look_through_the_log_finds(
    log: Log, window: int | None, seed: int
) -> None:
    positives = _positives(log.clicks)
    asked = np.random.default_rng(seed).random(len(positives)) < 0.7
    drawn = Touched(log.touches, window, seed).draw(log.clicks, positives, asked, MANY)
    assert drawn.shape == (asked.sum(), MANY)
    for row, positive in zip(drawn, positives[asked], strict=True):
        found = row[row >= 0].tolist()
        assert len(found) == len(set(found))
        assert set(found) == _candidates(log, int(positive), window)


@given(log=LOGS, window=st.sampled_from([None, 30]), count=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_as_many_are_drawn_as_are_wanted_or_left_and_no_draw_depends_on_others(
    log: Log, window: int | None, count: int
) -> None:
    positives = _positives(log.clicks)
    touched = Touched(log.touches, window, 7)
    drawn = touched.draw(log.clicks, positives, np.ones(len(positives), bool), count)
    left = [len(_candidates(log, int(positive), window)) for positive in positives]
    assert (drawn >= 0).sum(axis=1).tolist() == [min(count, each) for each in left]
    some = np.arange(len(positives)) % 3 == 0
    np.testing.assert_array_equal(touched.draw(log.clicks, positives, some, count), drawn[some])


def test_each_item_of_a_window_is_drawn_as_often_as_any_other() -> None:
    n, items = 30_000, 8
    begin = 10_000 * DAY
    touches = Touches(begin + np.arange(20) * 100, np.r_[np.arange(items), np.arange(12) % 3])  # three of them often
    user = np.arange(n)
    start = np.full(n, begin + DAY)
    clicks = Clicks(user.astype(np.uint64), np.zeros(n, np.int64), user, np.zeros(n, np.int32), start, start)
    drawn = Touched(touches, 30, 0).draw(clicks, user, np.ones(n, bool), 2)
    counts = np.bincount(drawn.ravel(), minlength=items)
    assert counts[0] == 0  # the positive
    expected = 2 * n / (items - 1)
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 26  # chi-square with 6 degrees of freedom, p about 0.0002


@given(seed=st.integers(0, 1000))
def test_places_that_are_not_blocked_are_counted_group_by_group(seed: int) -> None:
    random = np.random.default_rng(seed)
    sets = [np.flatnonzero(random.random(9) < 0.4) for _ in range(5)]
    blocked = np.array([(group, place) for group, places in enumerate(sets) for place in places]).reshape(-1, 2)
    free = [(group, place) for group in range(5) for place in range(9) if place not in sets[group]]
    rank = [sum(other == group and before < place for other, before in free) for group, place in free]
    groups, places = (np.array([pair[at] for pair in free]) for at in (0, 1))
    assert nth_free(blocked[:, 0], blocked[:, 1], groups, np.array(rank)).tolist() == places.tolist()
