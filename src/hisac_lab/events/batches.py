"""Batches of requests: histories gathered from the store, candidates of a request kept together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.events.feedback import UNKNOWN
from hisac_lab.events.store import EventStore

SCORING_ROWS = 512
SCORING_CELLS = 1 << 19  # candidates times events of one scoring batch
BUCKET_BATCHES = 16  # batches whose rows are sorted by length together
SHUFFLE_SALT = 0x6C61626C  # the draws of shuffled labels are not those of batches


@dataclass(frozen=True)
class HistoryArrays:
    """Histories of R requests, newest event last, padded on the left to the longest.

    Attributes:
        items: Item of each event, 0 in the padding; (R, L) int64.
        ages: Seconds from the event to the request, 0 in the padding; (R, L) int64.
        mask: True at real events; (R, L) bool.
        feedback: Level of each event's feedback, 0 where it is unknown; (R, L) int64. None: all are.
    """

    items: Array
    ages: Array
    mask: Array
    feedback: Array | None = None


@dataclass(frozen=True)
class Requests:
    """N requests with their candidates, at most C each; one with more stands in several rows.

    Attributes:
        store: Where the histories are.
        start: First event of each row's history in the store; (N,) int64.
        end: One past its last event; (N,) int64.
        time: Time of the request, seconds; (N,) int64.
        candidates: Items, 0 in the padding; (N, C) int64.
        labels: 1 clicked, 0 not; (N, C) float32.
        mask: True at real candidates; (N, C) bool.
        sample: Position of each candidate among the samples, -1 in the padding; (N, C) int64.
        user: Number of each row's user; (N,) int.
        request: Number of each row's request, as samples have it; (N,) int. None: they are of no log.
        answers: Further answers of the samples, NaN where one is not known; (samples, T) float32. None: there are none.
        weights: Weight of each sample in training; (samples,) float32. None: all weigh the same.
    """

    store: EventStore
    start: Array
    end: Array
    time: Array
    candidates: Array
    labels: Array
    mask: Array
    sample: Array
    user: Array
    request: Array | None = None
    answers: Array | None = None
    weights: Array | None = None

    @classmethod
    def to_learn(
        cls, store: EventStore, split: str, max_candidates: int, tasks: Sequence[str] = (), since: int | None = None
    ) -> Requests:
        """Requests of one split with all that a training learns of them.

        Args:
            store: The event store.
            split: Its name.
            max_candidates: C.
            tasks: Names of the answers to learn beside the label.
            since: Leaves out samples of before, seconds; None: none.

        Raises:
            UserError: The log was prepared without one of the answers.
        """
        samples, answers, weights = store.samples(split), store.answers(split, tasks), store.weights(split)
        rows = slice(None) if since is None else samples["time"] >= since
        return replace(
            cls.of(store, samples[rows], max_candidates),
            answers=answers[rows] if tasks else None,
            weights=None if weights is None else weights[rows],
        )

    @classmethod
    def of(cls, store: EventStore, samples: Array, max_candidates: int) -> Requests:
        """Groups samples into rows by request; a request with more candidates becomes several rows.

        Args:
            store: The event store the samples point into.
            samples: (N,) of `SAMPLE`, those of a request together, as the store has them.
            max_candidates: C.
        """
        if not len(samples):
            raise ValueError("no samples to group")
        request = samples["request"]
        begins = np.flatnonzero(np.r_[True, request[1:] != request[:-1]])
        within = np.arange(len(samples)) - np.repeat(begins, np.diff(np.r_[begins, len(samples)]))
        column = within % max_candidates
        heads = np.flatnonzero(column == 0)
        row = np.cumsum(column == 0) - 1
        shape = (len(heads), int(column.max()) + 1)
        candidates, labels = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        sample = np.full(shape, -1, np.int64)
        candidates[row, column] = samples["item"]
        labels[row, column] = samples["label"]
        sample[row, column] = np.arange(len(samples))
        start, end = store.bounds(samples[heads])
        time, user = samples["time"][heads], samples["user"][heads]
        return cls(store, start, end, time, candidates, labels, sample >= 0, sample, user, request[heads])

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Array:
        """Length of each row's history; (N,) int64."""
        lengths: Array = self.end - self.start
        return lengths

    def take(self, index: Array) -> Requests:
        """The rows at `index`."""
        columns = (self.start, self.end, self.time, self.candidates, self.labels, self.mask, self.sample, self.user)
        start, end, time, candidates, labels, mask, sample, user = (part[index] for part in columns)
        request = None if self.request is None else self.request[index]
        beside = (request, self.answers, self.weights)
        return Requests(self.store, start, end, time, candidates, labels, mask, sample, user, *beside)

    def weight_of(self, index: Array) -> float:
        """Weight of the real candidates of the rows at `index`; their number, where all weigh the same."""
        weights = self.weighted(index)
        return int(self.mask[index].sum()) if weights is None else float(weights.sum(dtype=np.float64))

    def answered(self, index: Array) -> Array | None:
        """Further answers of the candidates of the rows at `index`; (R, C, T) float32, NaN in the padding."""
        if self.answers is None:
            return None
        at = self.sample[index]
        return np.where(at[..., None] >= 0, self.answers[at], np.float32(np.nan))

    def weighted(self, index: Array) -> Array | None:
        """Weights of the candidates of the rows at `index`, 0 in the padding; (R, C) float32."""
        if self.weights is None:
            return None
        at = self.sample[index]
        return np.where(at >= 0, self.weights[at], np.float32(0))

    def shuffled(self, seed: int) -> Requests:
        """The same, but the labels of each user's candidates have changed places: every user's rate stays. A control.

        There are no further answers, which would tell the labels. Of n candidates of a user one in n keeps its
        label by chance, so that users with few tell a little still.

        Args:
            seed: Of the drawn places.
        """
        row, column = np.nonzero(self.mask)
        owner = self.user[row]
        place = np.argsort(owner, kind="stable")
        other = np.lexsort((np.random.default_rng([SHUFFLE_SALT, seed]).random(len(row)), owner))
        labels = self.labels.copy()
        labels[row[place], column[place]] = self.labels[row[other], column[other]]
        return replace(self, labels=labels, answers=None)

    def histories(self) -> HistoryArrays:
        """Gathers the histories of these rows, padded to the longest (at least 1).

        Feedback that has not arrived at the time of the request is unknown.
        """
        lengths = self.lengths.tolist()
        width = max(1, *lengths)
        items = np.zeros((len(self), width), np.int64)
        ages = np.zeros((len(self), width), np.int64)
        mask = np.zeros((len(self), width), bool)
        stored, feedback = self.store.feedback, None
        if stored is not None:
            stored, feedback = np.asarray(stored), np.zeros((len(self), width), np.int64)
        stored_items, stored_times = np.asarray(self.store.items), np.asarray(self.store.times)
        # One slice a row: histories lie in the store as they are wanted here.
        for row, (start, end, time, length) in enumerate(
            zip(self.start.tolist(), self.end.tolist(), self.time.tolist(), lengths, strict=True)
        ):
            if length:
                at = width - length
                items[row, at:] = stored_items[start:end]
                np.subtract(time, stored_times[start:end], out=ages[row, at:])
                mask[row, at:] = True
                if stored is not None and feedback is not None:
                    feedback[row, at:] = stored[start:end]
        if feedback is not None:
            feedback[ages < self.store.manifest.label_delay] = UNKNOWN
        return HistoryArrays(items, ages, mask, feedback)


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


def in_order(requests: Requests) -> Iterator[Array]:
    """All requests in batches of like length for scoring, each small enough for target attention over its history."""
    order = np.argsort(requests.lengths, kind="stable")
    candidates = requests.candidates.shape[1]
    at = 0
    while at < len(order):
        size = SCORING_ROWS
        while size > 1 and size * candidates * requests.lengths[order[min(at + size, len(order)) - 1]] > SCORING_CELLS:
            size //= 2
        yield order[at : at + size]
        at += size
