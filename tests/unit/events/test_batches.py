"""Batches: every sample once, candidates of a request together, histories padded on the left."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisac_lab.events import batches
from hisac_lab.events.batches import Requests, epoch_order, in_order
from hisac_lab.events.store import SAMPLE, SPLITS, EventStore


@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), limit=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_grouping_keeps_every_sample_exactly_once_and_requests_apart(
    store: EventStore, seed: int, count: int, limit: int
) -> None:
    random = np.random.default_rng(seed)
    samples = np.zeros(count, SAMPLE)
    samples["request"] = np.sort(random.integers(0, 12, count))
    samples["user"] = samples["request"] % 5
    samples["time"] = samples["request"] * 10
    samples["end"] = store.offsets[samples["user"]] + samples["request"] % 4
    samples["item"], samples["label"] = random.integers(0, 80, count), random.integers(0, 2, count)
    rows = Requests.of(store, samples, limit)
    assert sorted(rows.sample[rows.mask]) == list(range(count))
    assert (rows.sample[~rows.mask] == -1).all()
    assert rows.candidates.shape[1] <= limit
    for row in range(len(rows)):
        inside = rows.sample[row][rows.mask[row]]
        assert (np.diff(inside) > 0).all()
        assert len(set(samples["request"][inside])) == 1
        np.testing.assert_array_equal(rows.candidates[row][rows.mask[row]], samples["item"][inside])
        np.testing.assert_array_equal(rows.labels[row][rows.mask[row]], samples["label"][inside])
        start, end = store.bounds(samples[inside[:1]])
        assert (rows.start[row], rows.end[row], rows.time[row]) == (start[0], end[0], samples["time"][inside[0]])
    needed = sum(-(-n // limit) for n in np.unique(samples["request"], return_counts=True)[1])
    assert len(rows) == needed


@given(seed=st.integers(0, 10_000), count=st.integers(1, 80))
@settings(max_examples=40, deadline=None)
def test_shuffled_labels_keep_the_rate_of_every_user(store: EventStore, seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    samples = np.zeros(count, SAMPLE)
    samples["request"] = np.sort(random.integers(0, 12, count))
    samples["user"] = samples["request"] % 3
    samples["label"] = random.integers(0, 2, count)
    rows = Requests.of(store, samples, 3)
    moved = rows.shuffled(seed)
    assert not moved.labels[~moved.mask].any()
    for user in range(3):
        own = rows.mask & (rows.user == user)[:, None]
        assert sorted(moved.labels[own]) == sorted(rows.labels[own])
    assert np.array_equal(moved.labels, rows.shuffled(seed).labels)
    assert moved.candidates is rows.candidates


def test_every_order_of_a_users_labels_is_as_likely(store: EventStore) -> None:
    """The one click of four, drawn a thousand times; another user's has no part in it."""
    samples = np.zeros(8, SAMPLE)
    samples["request"] = samples["user"] = np.arange(8) // 4
    samples["label"] = [1, 0, 0, 0, 1, 1, 1, 1]
    drawn = np.array([Requests.of(store, samples, 4).shuffled(seed).labels for seed in range(1000)])
    assert drawn[:, 1].all()
    assert (np.abs(drawn[:, 0].mean(axis=0) - 0.25) < 0.06).all()


@pytest.mark.parametrize("split", SPLITS)
def test_candidates_of_a_request_stay_together_as_far_as_they_fit(store: EventStore, split: str) -> None:
    samples = store.samples(split)
    wide = Requests.of(store, samples, 100)
    assert len(wide) == len(np.unique(samples["request"]))
    assert sorted(wide.sample[wide.mask]) == list(range(len(samples)))


def test_no_samples_are_no_rows_but_an_error(store: EventStore) -> None:
    with pytest.raises(ValueError, match="no samples"):
        Requests.of(store, store.samples("train")[:0], 4)


@pytest.mark.parametrize("take", [1, 7, 64])
def test_histories_are_the_stores_events_padded_on_the_left(rows: dict[str, Requests], take: int) -> None:
    part = rows["train"].take(np.arange(take) * 3)
    found = part.histories()
    width = max(1, int(part.lengths.max()))
    assert found.items.shape == found.ages.shape == found.mask.shape == (take, width)
    for row in range(take):
        events = slice(part.start[row], part.end[row])
        length = part.lengths[row]
        assert found.mask[row].tolist() == [False] * (width - length) + [True] * length
        np.testing.assert_array_equal(found.items[row][found.mask[row]], part.store.items[events])
        np.testing.assert_array_equal(found.ages[row][found.mask[row]], part.time[row] - part.store.times[events])
        assert (found.items[row][~found.mask[row]] == 0).all()
        assert (found.ages[row][~found.mask[row]] == 0).all()
    assert (found.ages[found.mask] > 0).all()


def test_an_empty_history_is_one_column_of_padding(store: EventStore, rows: dict[str, Requests]) -> None:
    row = rows["train"].take(np.arange(1))
    empty = dataclasses.replace(row, start=row.end)
    assert empty.histories().mask.tolist() == [[False]]
    nothing = dataclasses.replace(store, items=store.items[:0], times=store.times[:0])
    bare = dataclasses.replace(empty, store=nothing, start=row.start * 0, end=row.end * 0)
    assert bare.histories().items.tolist() == [[0]]


@given(
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=200),
    batch=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone(
    lengths: list[int], batch: int, seed: int, epoch: int
) -> None:
    known = np.array(lengths)
    np.random.seed(seed + 1)  # noqa: NPY002  the global generator must not matter
    order = epoch_order(known, batch, seed, epoch)
    assert sorted(np.concatenate(order)) == list(range(len(lengths)))
    assert max(map(len, order)) <= batch
    again = epoch_order(known, batch, seed, epoch)
    assert all(np.array_equal(one, other) for one, other in zip(order, again, strict=True))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 500)
    orders = {
        (seed, epoch): np.concatenate(epoch_order(lengths, 8, seed, epoch)).tobytes()
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9


def test_histories_of_a_batch_have_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(0, 1000, 2000)
    spreads = [np.ptp(lengths[batch]) for batch in epoch_order(lengths, 8, 0, 0)]
    assert np.mean(spreads) < 150  # a batch drawn at random spreads over about 800


@pytest.mark.parametrize("cells", [1 << 19, 500, 1])
def test_scoring_takes_every_row_once_in_batches_that_fit(
    rows: dict[str, Requests], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SCORING_CELLS", cells)
    test = rows["test"]
    parts = list(in_order(test))
    assert sorted(np.concatenate(parts)) == list(range(len(test)))
    for part in parts:
        assert len(part) == 1 or len(part) * test.candidates.shape[1] * test.lengths[part].max() <= cells
