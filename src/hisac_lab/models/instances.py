"""The instance store of IAT (arXiv 2604.08933, note sections 5 and 6): vectors of past instances by user and time.

An instance is one logged sample. Its vector is written once, when the source model saw it; its label is side
information that arrives later and is visible only to requests after its arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base.artifacts import Array

NEGATIVE, POSITIVE, UNKNOWN = 0, 1, 2
"""Labels as a request sees them; `UNKNOWN` until the label has arrived."""
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Instances:
    """Stored instances of R requests' users, newest last, padded on the left.

    Attributes:
        vectors: (R, T, E) float32, never with a gradient.
        items: Item of each instance; (R, T) int64.
        ages: Seconds from the instance to the request; (R, T) int64.
        labels: `NEGATIVE`, `POSITIVE` or `UNKNOWN`; (R, T) int64.
        mask: True at real instances; (R, T) bool.
    """

    vectors: Tensor
    items: Tensor
    ages: Tensor
    labels: Tensor
    mask: Tensor

    def last(self, count: int) -> Instances:
        """The most recent `count` of each request."""
        parts = (self.vectors, self.items, self.ages, self.labels, self.mask)
        return Instances(*(part[:, -count:] for part in parts))


class InstanceStore:
    """Instances by user and time, in memory, append-only.

    Args:
        users: Number of users; they are numbered from 0.
        dim: Width E of a vector.
    """

    def __init__(self, users: int, dim: int) -> None:
        self._newest = np.full(users, -1, np.int64)  # the user's newest instance
        self._size = 0
        self.vectors = np.zeros((0, dim), np.float32)
        self.items, self.times, self._before = (np.zeros(0, np.int64) for _ in range(3))
        self.labels, self._arrived = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self._size

    def append(self, users: Array, times: Array, items: Array, vectors: Tensor) -> Array:
        """Writes instances, in time order for each user; their labels are not known yet.

        Args:
            users: (N,) int.
            times: When each was served, seconds; (N,) int.
            items: (N,) int.
            vectors: (N, E); stored without gradient.

        Returns:
            Keys of the instances, (N,) int64.

        Raises:
            ValueError: An instance is older than one of its user that is already here.
        """
        order = np.argsort(users, kind="stable")
        same = np.r_[False, users[order][1:] == users[order][:-1]]
        before = np.where(same, np.r_[-1, order[:-1]] + self._size, self._newest[users[order]])
        older = np.r_[self.times[: self._size], times][before]
        if (before >= 0).any() and (older > times[order])[before >= 0].any():
            raise ValueError("instances of a user must be appended in time order")
        keys = np.arange(self._size, self._size + len(users))
        self._grow(len(users))
        self.vectors[keys] = vectors.detach().float().cpu().numpy()
        self.items[keys], self.times[keys] = items, times
        self._before[keys[order]] = before
        self.labels[keys], self._arrived[keys] = UNKNOWN, NEVER
        self._newest[users[order]] = keys[order]  # of equal users the last one written counts: the newest
        self._size += len(users)
        return keys

    def reveal(self, keys: Array, labels: Array, times: Array) -> None:
        """Labels of instances arrive: (N,) keys, labels (0 or 1), and seconds at which each became known.

        Raises:
            ValueError: A label would arrive before its instance was served.
        """
        if (times < self.times[keys]).any():
            raise ValueError("a label cannot arrive before its instance")
        self.labels[keys], self._arrived[keys] = labels, times

    def fetch(self, users: Array, times: Array, count: int) -> Instances:
        """The newest `count` instances of each user strictly before its request's time.

        Args:
            users: (R,) int.
            times: Time of each request, seconds; (R,) int. Instances of that very second are not seen.
            count: T at most; the result is as wide as its longest row, at least 1.
        """
        here = self._newest[users].copy()
        while (late := (here >= 0) & (self._at(self.times, here) >= times)).any():
            here = np.where(late, self._at(self._before, here), here)
        found: list[Array] = []
        while (here >= 0).any() and len(found) < count:
            found.append(here)
            here = np.where(here >= 0, self._at(self._before, here), -1)
        keys = np.stack(found[::-1], axis=1) if found else np.full((len(users), 1), -1, np.int64)
        mask = keys >= 0
        known = self._at(self._arrived, keys) < times[:, None]
        parts = (
            np.where(mask[..., None], self._at(self.vectors, keys), 0),
            np.where(mask, self._at(self.items, keys), 0),
            np.where(mask, times[:, None] - self._at(self.times, keys), 0),
            np.where(mask & known, self._at(self.labels, keys), UNKNOWN),
            mask,
        )
        return Instances(*(torch.from_numpy(part) for part in parts))

    @property
    def bytes(self) -> int:
        """Bytes of the vectors: the store's main cost."""
        return self._size * self.vectors.shape[1] * self.vectors.itemsize

    def _grow(self, more: int) -> None:
        room = len(self.times)
        if self._size + more <= room:
            return
        extra = max(more, room)
        for name in ("vectors", "items", "times", "_before", "labels", "_arrived"):
            part = getattr(self, name)
            setattr(self, name, np.concatenate([part, np.zeros((extra, *part.shape[1:]), part.dtype)]))

    @staticmethod
    def _at(values: Array, keys: Array) -> Array:
        """Values at keys; anything where a key is negative."""
        return values[np.maximum(keys, 0)] if len(values) else np.zeros((*keys.shape, *values.shape[1:]), values.dtype)


def shuffled(instances: Instances, seed: int) -> Instances:
    """Vectors change places among all real instances, everything else stays: a placebo."""
    place = instances.mask.nonzero(as_tuple=True)
    order = torch.randperm(len(place[0]), generator=torch.Generator().manual_seed(seed))
    vectors = instances.vectors.clone()
    vectors[place] = instances.vectors[place][order]
    return replace(instances, vectors=vectors)
