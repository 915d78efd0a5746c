"""The instance store: what a request may see, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import make_history
from torch import Tensor

from hisac_lab.models.instances import NEGATIVE, POSITIVE, UNKNOWN, InstanceStore, shuffled

DIM = 3


def _vectors(keys: np.ndarray) -> Tensor:
    """A vector that tells which key it belongs to."""
    return torch.from_numpy(np.stack([keys, -keys, keys * 0.5], axis=1).astype(np.float32))


def _filled(seed: int = 0, parts: int = 4) -> tuple[InstanceStore, np.ndarray, np.ndarray, np.ndarray]:
    """A store filled in several parts, in global time order, with ties; and users, times, items in order of keys."""
    random = np.random.default_rng(seed)
    store = InstanceStore(5, DIM)
    times = np.sort(random.integers(0, 40, 60))
    users, items = random.integers(0, 4, 60), random.integers(0, 9, 60)  # user 4 has none
    for part in np.array_split(np.arange(60), parts):
        keys = store.append(users[part], times[part], items[part], _vectors(part))
        assert keys.tolist() == part.tolist()
    return store, users, times, items


@pytest.mark.parametrize("count", [1, 3, 100])
def test_fetch_is_strictly_before_the_request(count: int) -> None:
    """Against a scan of everything: instances of the very second of the request, hence of the request, are not seen."""
    store, users, times, items = _filled()
    wanted_users, wanted_times = np.array([0, 1, 2, 3, 4, 0, 1]), np.array([0, 7, 20, 41, 30, 20, times[users == 1][5]])
    found = store.fetch(wanted_users, wanted_times, count)
    assert found.mask.shape[1] <= count
    for row, (user, time) in enumerate(zip(wanted_users, wanted_times, strict=True)):
        keys = np.flatnonzero((users == user) & (times < time))[-count:]
        real = found.mask[row]
        assert not real[: len(real) - len(keys)].any()
        assert int(real.sum()) == len(keys)
        assert found.vectors[row, real, 0].tolist() == keys.tolist()
        assert found.items[row, real].tolist() == items[keys].tolist()
        assert found.ages[row, real].tolist() == (time - times[keys]).tolist()
        assert (found.ages[row, real] > 0).all()


def test_filling_in_one_part_or_in_many_is_the_same() -> None:
    users, times = np.arange(5), np.full(5, 30)
    one, many = (_filled(parts=parts)[0].fetch(users, times, 9) for parts in (1, 60))
    assert torch.equal(one.vectors, many.vectors)
    assert torch.equal(one.mask, many.mask)


def test_a_label_is_visible_only_after_it_arrived() -> None:
    store = InstanceStore(1, DIM)
    keys = store.append(np.zeros(3, np.int64), np.array([10, 20, 30]), np.arange(3), _vectors(np.arange(3)))
    store.reveal(keys[:2], np.array([POSITIVE, NEGATIVE]), np.array([100, 25]))
    seen = {time: store.fetch(np.array([0]), np.array([time]), 9).labels[0].tolist() for time in (25, 26, 100, 101)}
    assert seen == {
        25: [UNKNOWN, UNKNOWN],
        26: [UNKNOWN, NEGATIVE],
        100: [UNKNOWN, NEGATIVE, UNKNOWN],
        101: [POSITIVE, NEGATIVE, UNKNOWN],
    }


def test_stored_instances_get_no_gradient() -> None:
    store, vectors = InstanceStore(1, DIM), torch.ones(1, DIM, requires_grad=True)
    store.append(np.array([0]), np.array([1]), np.array([7]), vectors * 2)
    found = store.fetch(np.array([0]), np.array([2]), 1)
    assert not found.vectors.requires_grad
    assert found.vectors.tolist() == [[[2.0] * DIM]]


def test_a_row_is_never_written_again() -> None:
    store, users, _, _ = _filled()
    before = store.vectors[:60].copy()
    store.append(users[:3] * 0, np.array([50, 50, 51]), np.arange(3), _vectors(np.arange(3) + 900))
    assert (store.vectors[:60] == before).all()
    assert len(store) == 63
    assert store.bytes == 63 * DIM * 4


def test_an_empty_store_has_one_empty_place_per_request() -> None:
    found = InstanceStore(3, DIM).fetch(np.array([2, 0]), np.array([5, 5]), 4)
    assert found.vectors.shape == (2, 1, DIM)
    assert not found.mask.any()


@pytest.mark.parametrize("split", [1, 2])
def test_an_instance_out_of_order_is_refused(split: int) -> None:
    store, times = InstanceStore(2, DIM), np.array([5, 9, 8])
    users, items = np.array([0, 1, 1]), np.zeros(3, np.int64)
    store.append(users[:split], times[:split], items[:split], _vectors(np.arange(split)))
    with pytest.raises(ValueError, match="in time order"):
        store.append(users[split:], times[split:], items[split:], _vectors(np.arange(3 - split)))


def test_a_label_before_its_instance_is_refused() -> None:
    store = InstanceStore(1, DIM)
    keys = store.append(np.array([0]), np.array([10]), np.array([0]), _vectors(np.array([0])))
    with pytest.raises(ValueError, match="before its instance"):
        store.reveal(keys, np.array([1]), np.array([9]))


def test_shuffled_instances_change_places_and_nothing_else() -> None:
    past = make_history([12, 5, 0]).instances
    assert past is not None
    other = shuffled(past, seed=0)
    assert not torch.equal(other.vectors, past.vectors)
    assert not other.vectors[~past.mask].any()
    rows = [sorted(map(tuple, one.vectors[one.mask].tolist())) for one in (past, other)]
    assert rows[0] == rows[1]
    for part in ("items", "ages", "labels", "mask"):
        assert getattr(other, part) is getattr(past, part)
