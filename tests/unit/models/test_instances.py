"""The instance store: what a request may see, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hisac_lab.events.instances import AFTER, NEGATIVE, POSITIVE, UNKNOWN, InstanceArrays, InstanceQuery, InstanceStore
from hisac_lab.models.instances import Instances

DIM = 3


def _vectors(keys: np.ndarray) -> np.ndarray:
    """A vector that tells which instance it belongs to."""
    return np.stack([keys, -keys, keys * 0.5], axis=1).astype(np.float32)


def _filled(seed: int = 0) -> tuple[InstanceStore, np.ndarray, np.ndarray, np.ndarray]:
    """A store of sixty instances with ties in time; and users, times, items in the order they were given."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, 40, 60))
    users, items = random.integers(0, 4, 60), random.integers(0, 9, 60)  # user 4 has none
    store = InstanceStore.of(users, times, items, items % 2, times + 3, _vectors(np.arange(60)))
    return store, users, times, items


def _fetch(store: InstanceStore, users: list[int], times: list[int], count: int = 9, **query: object) -> InstanceArrays:
    return store.fetch(np.array(users), np.array(times), InstanceQuery(count, DIM, **query))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("unit", [1, 7])
def test_fetch_is_strictly_before_the_request(count: int, unit: int) -> None:
    """Against a scan of everything: instances of the request's own time unit, hence of the request, are not seen."""
    store, users, times, items = _filled()
    store = InstanceStore(store.offsets, store.times, store.items, store.labels, store.arrived, store.vectors, unit)
    wanted_users, wanted_times = [0, 1, 2, 3, 4, 0, 1], [0, 7, 20, 41, 30, 20, int(times[users == 1][5])]
    found = _fetch(store, wanted_users, wanted_times, count)
    assert found.mask.shape[1] <= count
    for row, (user, time) in enumerate(zip(wanted_users, wanted_times, strict=True)):
        keys = np.flatnonzero((users == user) & (times < time // unit * unit))[-count:]
        real = found.mask[row]
        assert not real[: len(real) - len(keys)].any()
        assert int(real.sum()) == len(keys)
        assert found.vectors[row, real, 0].tolist() == keys.tolist()
        assert not found.vectors[row, ~real].any()
        assert found.items[row, real].tolist() == items[keys].tolist()
        assert found.ages[row, real].tolist() == (time - times[keys]).tolist()
        assert (found.ages[row, real] > 0).all()


def test_a_label_is_visible_only_after_it_arrived() -> None:
    zeros, labels, arrived = np.zeros(3, np.int64), np.array([POSITIVE, NEGATIVE, POSITIVE]), np.array([100, 25, 10**6])
    store = InstanceStore.of(zeros, np.array([10, 20, 30]), np.arange(3), labels, arrived, _vectors(np.arange(3)))
    seen = {time: _fetch(store, [0], [time]).labels[0].tolist() for time in (25, 26, 100, 101)}
    assert seen == {
        25: [UNKNOWN, UNKNOWN],
        26: [UNKNOWN, NEGATIVE],
        100: [UNKNOWN, NEGATIVE, UNKNOWN],
        101: [POSITIVE, NEGATIVE, UNKNOWN],
    }


def test_stored_instances_get_no_gradient() -> None:
    found = Instances.of(_fetch(_filled()[0], [0], [50]))
    assert found.mask.all()
    assert not found.vectors.requires_grad
    assert found.vectors.dtype == torch.float32


def test_an_empty_store_has_one_empty_place_per_request() -> None:
    none = np.zeros(0, np.int64)
    store = InstanceStore.of(none, none, none, none, none, np.zeros((0, DIM), np.float32))
    found = _fetch(store, [2, 0], [5, 5])
    assert found.vectors.shape == (2, 1, DIM)
    assert not found.mask.any()
    empty = Instances.none(2, DIM)
    assert [part.shape for part in (empty.vectors, empty.mask)] == [(2, 1, DIM), (2, 1)]


def test_a_user_nobody_knows_has_no_instances() -> None:
    found = _fetch(_filled()[0], [17, 0], [50, 50])
    assert not found.mask[0].any()
    assert found.mask[1].any()


def test_half_precision_rows_are_read_as_single_ones() -> None:
    store, *_ = _filled()
    store.vectors[AFTER] = (store.vectors["before"] * 2).astype(np.float16)
    before, after = (_fetch(store, [0, 1], [40, 40], row=row).vectors for row in ("before", "after"))
    assert after.dtype == np.float32
    np.testing.assert_array_equal(after, before * 2)


def test_shuffled_instances_change_places_and_nothing_else() -> None:
    store, users, *_ = _filled()
    asked = (list(range(4)), [50] * 4, 60)
    own, other, again = (_fetch(store, *asked, shuffled=one) for one in (False, True, True))
    for part in ("items", "ages", "labels", "mask"):
        np.testing.assert_array_equal(getattr(own, part), getattr(other, part))
    assert sorted(other.vectors[own.mask][:, 0]) == sorted(own.vectors[own.mask][:, 0])  # one to one, over all users
    np.testing.assert_array_equal(other.vectors, again.vectors)
    owner = users[other.vectors[own.mask][:, 0].astype(int)]
    assert (owner != own.mask.nonzero()[0]).mean() > 0.5
