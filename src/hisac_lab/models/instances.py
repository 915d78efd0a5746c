"""Stored instances as a model reads them, and which models do (IAT: docs/papers/iat.md#downstream-model)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hisac_lab.events.instances import NEGATIVE, POSITIVE, UNKNOWN, InstanceArrays

LABELS = len({NEGATIVE, POSITIVE, UNKNOWN})


@dataclass(frozen=True)
class Instances:
    """Stored instances of R requests' users, newest last, padded on the left.

    Attributes:
        vectors: (R, T, E) float32, never with a gradient.
        items: Item of each instance; (R, T) int64.
        ages: Seconds from the instance to the request; (R, T) int64.
        labels: `NEGATIVE`, `POSITIVE` or `UNKNOWN`; (R, T) int64.
        mask: True at real instances; (R, T) bool.
        units: Number of the time unit that each was served in: those of one unit do not see each other; (R, T) int64.
            Without it a unit is a second.
    """

    vectors: Tensor
    items: Tensor
    ages: Tensor
    labels: Tensor
    mask: Tensor
    units: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.units is None:
            object.__setattr__(self, "units", -self.ages)

    @classmethod
    def of(cls, arrays: InstanceArrays, device: torch.device | str = "cpu") -> Instances:
        """Moves fetched arrays to `device`."""
        columns = (arrays.vectors, arrays.items, arrays.ages, arrays.labels, arrays.mask, arrays.units)
        return cls(*(torch.from_numpy(part).to(device) for part in columns if part is not None))

    @classmethod
    def none(cls, rows: int, dim: int, device: torch.device | str = "cpu") -> Instances:
        """One empty place per request."""
        empty = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        return cls(torch.zeros(rows, 1, dim, device=device), empty, empty, empty + UNKNOWN, empty.bool())

    def last(self, count: int) -> Instances:
        """The most recent `count` of each request."""
        columns = (self.vectors, self.items, self.ages, self.labels, self.mask, self.units)
        return Instances(*(part[:, -count:] for part in columns))
