"""The instance store of IAT (Li et al., 2026, docs/papers/iat.md#storage): vectors of past samples.

An instance is one logged sample. Its vector is written once; its label is side information that arrives later and is
visible only to requests after its arrival. Rows lie by user and time, so what a request may see is one slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.events.records import InstancesMade

NEGATIVE, POSITIVE, UNKNOWN = 0, 1, 2
"""Labels as a request sees them; `UNKNOWN` until the label has arrived."""
COLUMNS = ("times", "items", "labels", "arrived")
BEFORE, AFTER = "before", "after"
NONE, BOTH = "none", "both"
ORDERS = ("temporal", "user")


def no_store(out: Path) -> None:
    """The output of the stage `instances` for order none: a manifest that says there is no store."""
    say("instances: order is none, no store is made")
    InstancesMade(order=NONE, digest=NONE).save(out)


@dataclass(frozen=True)
class InstanceArrays:
    """Stored instances of R requests' users, newest last, padded on the left.

    Attributes:
        vectors: (R, T, E) float32.
        items: Item of each instance; (R, T) int64.
        ages: Seconds from the instance to the request; (R, T) int64.
        labels: `NEGATIVE`, `POSITIVE` or `UNKNOWN`; (R, T) int64.
        mask: True at real instances; (R, T) bool.
        units: Number of the time unit that each was served in: those of one unit do not see each other; (R, T) int64.
            None: a unit is a second.
    """

    vectors: Array
    items: Array
    ages: Array
    labels: Array
    mask: Array
    units: Array | None = None


@dataclass(frozen=True)
class InstanceQuery:
    """Which stored instances a model reads.

    Attributes:
        count: Newest instances of a user, at most.
        dim: Width of a vector.
        row: Which vectors, `before` the source's transformer or `after` it.
        shuffled: Vectors change places among all instances, everything else stays: a placebo.
        order: Of the source that wrote them; None: the store there is, that of user order where there are both.
    """

    count: int
    dim: int
    row: str = BEFORE
    shuffled: bool = False
    order: str | None = None


@dataclass(frozen=True)
class InstanceStore:
    """N instances by user and time; on disk, memory-mapped.

    Attributes:
        offsets: Where each user's instances begin; (U + 1,) int64.
        times: When each was served, seconds; (N,) int64.
        items: (N,) int32.
        labels: `NEGATIVE` or `POSITIVE`; (N,) int8.
        arrived: Second at which the label became known; (N,) int64.
        vectors: Rows by name, `before` the source's transformer or `after` it; (N, E) float16 or float32.
        unit: Seconds of a time unit: instances of a request's own unit are not seen.
        digest: Of everything above; what a model trained with this store remembers.
    """

    offsets: Array
    times: Array
    items: Array
    labels: Array
    arrived: Array
    vectors: dict[str, Array]
    unit: int = 1
    digest: str = ""

    @classmethod
    def open(cls, path: Path, order: str | None = None) -> InstanceStore:
        """Opens the output of the stage `instances`.

        Args:
            path: That output.
            order: Of the source, see `InstanceQuery`.

        Raises:
            UserError: The stage has not run, or was told to make no store, or none of this order.
        """
        facts = InstancesMade.open(path)
        if facts.order == NONE:
            raise UserError(path, "holds no instances", "set it to temporal or user", "instances.order")
        if facts.order == BOTH:
            return replace(cls.open(path / (order or "user")), digest=facts.digest)
        if order not in (None, facts.order):
            raise UserError(path, f"holds instances of {facts.order} order, not {order}", "set both", "instances.order")
        offsets, times, items, labels, arrived = (load_array(path, name) for name in ("offsets", *COLUMNS))
        vectors = {name: load_array(path, name) for name in facts.rows}
        return cls(offsets, times, items, labels, arrived, vectors, facts.unit, facts.digest)

    @classmethod
    def of(
        cls, users: Array, times: Array, items: Array, labels: Array, arrived: Array, vectors: Array, unit: int = 1
    ) -> InstanceStore:
        """A store in memory, of N instances in any order; users are numbered from 0."""
        order = np.lexsort((times, users))
        offsets = np.r_[0, np.cumsum(np.bincount(users, minlength=1))]
        rows = {BEFORE: vectors[order]}
        return cls(offsets, times[order], items[order], labels[order], arrived[order], rows, unit)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def dim(self) -> int:
        """Width E of a vector."""
        return int(self.vectors[BEFORE].shape[1])

    def ends(self, users: Array, times: Array) -> Array:
        """One past the last instance that a request may see: strictly before its time unit; (R,) int64."""
        has_instances = users + 1 < len(self.offsets)
        users = np.where(has_instances, users, 0)
        begins, ends = self.offsets[users], self.offsets[users + 1]
        moments = times // self.unit * self.unit
        last = [
            begin + np.searchsorted(self.times[begin:end], moment)
            for begin, end, moment in zip(begins.tolist(), ends.tolist(), moments.tolist(), strict=True)
        ]
        result: Array = np.where(has_instances, np.array(last, np.int64), 0)
        return result

    def fetch(self, users: Array, times: Array, query: InstanceQuery) -> InstanceArrays:
        """The newest instances of each user strictly before its request.

        Args:
            users: (R,) int.
            times: Time of each request, seconds; (R,) int.
            query: Which instances and vectors; the result is as wide as its longest row, at least 1.
        """
        ends = self.ends(users, times)
        begins = self.offsets[np.minimum(users, len(self.offsets) - 2)]
        lengths = np.clip(ends - begins, 0, query.count)
        width = max(1, int(lengths.max(initial=0)))
        mask = np.arange(width) >= width - lengths[:, None]
        keys = np.where(mask, ends[:, None] - width + np.arange(width), 0)
        if not len(self):
            vectors = np.zeros((*keys.shape, self.dim), np.float32)
            zeros = np.zeros(keys.shape, np.int64)
            return InstanceArrays(vectors, zeros, zeros, zeros + UNKNOWN, mask, zeros)
        moments = times // self.unit * self.unit
        arrived = mask & (self.arrived[keys] < moments[:, None])
        rows = self.vectors[query.row][self._elsewhere(keys) if query.shuffled else keys].astype(np.float32)
        return InstanceArrays(
            rows * mask[..., None],
            np.where(mask, self.items[keys], 0).astype(np.int64),
            np.where(mask, times[:, None] - self.times[keys], 0),
            np.where(arrived, self.labels[keys], UNKNOWN).astype(np.int64),
            mask,
            np.where(mask, self.times[keys] // self.unit, 0),
        )

    def _elsewhere(self, keys: Array) -> Array:
        """A fixed one-to-one map of all N keys onto themselves, the same in every run and batch."""
        size = len(self)
        step = size * 618 // 1000 + 1
        while math.gcd(step, size) > 1:
            step += 1
        moved: Array = (keys * step + size // 2) % size
        return moved


@dataclass(frozen=True)
class InstanceView:
    """What one model reads of a store.

    Attributes:
        store: The store.
        query: Which of it.
    """

    store: InstanceStore
    query: InstanceQuery

    def fetch(self, users: Array, times: Array) -> InstanceArrays:
        """Instances of R requests: their users and times, two (R,) int."""
        return self.store.fetch(users, times, self.query)
