"""Batches of requests: histories gathered from the store, candidates of a request kept together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.events.store import EventStore

SCORING_ROWS = 512
SCORING_CELLS = 1 << 19  # candidates times events of one scoring batch
BUCKET_BATCHES = 16  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class HistoryArrays:
    """Histories of R requests, newest event last, padded on the left to the longest.

    Attributes:
        items: Item of each event, 0 in the padding; (R, L) int64.
        ages: Seconds from the event to the request, 0 in the padding; (R, L) int64.
        mask: True at real events; (R, L) bool.
    """

    items: Array
    ages: Array
    mask: Array


@dataclass(frozen=True)
class Rows:
    """Requests with their candidates, at most C a row.

    Attributes:
        store: Where the histories are.
        start: First event of each row's history in the store; (N,) int64.
        end: One past its last event; (N,) int64.
        time: Time of the request, seconds; (N,) int64.
        candidates: Items, 0 in the padding; (N, C) int64.
        labels: 1 clicked, 0 not; (N, C) float32.
        mask: True at real candidates; (N, C) bool.
        sample: Position of each candidate among the samples, -1 in the padding; (N, C) int64.
    """

    store: EventStore
    start: Array
    end: Array
    time: Array
    candidates: Array
    labels: Array
    mask: Array
    sample: Array

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Array:
        """Length of each row's history; (N,) int64."""
        lengths: Array = self.end - self.start
        return lengths

    def take(self, index: Array) -> Rows:
        """The rows at `index`."""
        parts = (self.start, self.end, self.time, self.candidates, self.labels, self.mask, self.sample)
        return Rows(self.store, *(part[index] for part in parts))

    def histories(self) -> HistoryArrays:
        """Gathers the histories of these rows, padded to the longest (at least 1)."""
        width = max(1, int(self.lengths.max(initial=0)))
        place = self.end[:, None] - width + np.arange(width)
        mask = place >= self.start[:, None]
        place = np.where(mask, place, 0)
        if len(self.store.items):
            items = np.where(mask, self.store.items[place], 0).astype(np.int64)
            ages = np.where(mask, self.time[:, None] - self.store.times[place], 0)
        else:
            items = ages = np.zeros(mask.shape, np.int64)
        return HistoryArrays(items, ages, mask)


def group(store: EventStore, samples: Array, max_candidates: int) -> Rows:
    """Groups samples into rows by request; a request with more candidates becomes several rows.

    Args:
        store: The event store the samples point into.
        samples: (N,) of `SAMPLE`, in any order; row order follows the request's first sample.
        max_candidates: C.
    """
    if not len(samples):
        raise ValueError("no samples to group")
    requests, first, inverse = np.unique(samples["request"], return_index=True, return_inverse=True)
    rank_of_request = np.empty(len(requests), np.int64)
    rank_of_request[np.argsort(first, kind="stable")] = np.arange(len(requests))
    rank = rank_of_request[inverse.ravel()]
    order = np.argsort(rank, kind="stable")
    rank = rank[order]
    begins = np.flatnonzero(np.r_[True, rank[1:] != rank[:-1]])
    within = np.arange(len(rank)) - np.repeat(begins, np.diff(np.r_[begins, len(rank)]))
    column = within % max_candidates
    row = np.cumsum((column == 0).astype(np.int64)) - 1
    heads = order[column == 0]
    shape = (len(heads), int(column.max()) + 1)
    candidates, labels = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    sample = np.full(shape, -1, np.int64)
    candidates[row, column] = samples["item"][order]
    labels[row, column] = samples["label"][order]
    sample[row, column] = order
    start, end = store.bounds(samples[heads])
    return Rows(store, start, end, samples["time"][heads], candidates, labels, sample >= 0, sample)


def epoch_order(lengths: Array, batch: int, seed: int, epoch: int) -> list[Array]:
    """Batches of one epoch, computed from (seed, epoch): shuffled, then sorted by length inside buckets.

    Histories of one batch have like lengths, so little is padded; batches come in random order.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[Array] = []
    for begin in range(0, len(order), batch * BUCKET_BATCHES):
        bucket = order[begin : begin + batch * BUCKET_BATCHES]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[at : at + batch] for at in range(0, len(bucket), batch)]
    return [batches[at] for at in random.permutation(len(batches))]


def in_order(rows: Rows) -> Iterator[Array]:
    """All rows in batches of like length for scoring, each small enough for target attention over its history."""
    order = np.argsort(rows.lengths, kind="stable")
    candidates = rows.candidates.shape[1]
    at = 0
    while at < len(order):
        size = SCORING_ROWS
        while size > 1 and size * candidates * rows.lengths[order[min(at + size, len(order)) - 1]] > SCORING_CELLS:
            size //= 2
        yield order[at : at + size]
        at += size
