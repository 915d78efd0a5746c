"""What a log says of an exposure beside user, item and time, as the compressor of instances reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from hisac_lab.models.features import moments
from hisac_lab.models.tables import Embedding

STD = 0.1
LEAST = 1e-6
"""Numbers below it count as it on a logarithmic scale."""


class LoggedColumns(nn.Module):
    """Adds logged columns to the first hidden layer of a tower: a row for each code, weights for each number.

    A number x enters as log(1 + x) and log x, standardized: positions and propensities both keep their differences.
    One that is not known or below 0 counts as 0.

    Args:
        sizes: Columns by name: how many codes, from 0 on; 0: a number.
        width: Of the hidden layer, H.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, sizes: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes.values())
        self.tables = nn.ModuleList(Embedding(size, width) for size in self.sizes if size)
        for table in self.tables:
            assert isinstance(table, Embedding)
            nn.init.normal_(table.weight, std=STD)
        numbers = 2 * self.sizes.count(0)
        self.weigh = nn.Linear(numbers, width, bias=False) if numbers else None
        self.register_buffer("shift", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(numbers))

    def forward(self, logged: Tensor) -> Tensor:
        """(..., G) float32 to (..., H); codes beyond a column's count as its last."""
        coded = [place for place, size in enumerate(self.sizes) if size]
        added = logged.new_zeros(1)
        if self.weigh is not None:
            added = self.weigh((self._numbers(logged) - self.shift) * self.scale)
        for table, place in zip(self.tables, coded, strict=True):
            added = added + table(logged[..., place].long().clamp(0, self.sizes[place] - 1))
        return added

    def standardize(self, rows: Iterable[Tensor]) -> None:
        """Takes mean and spread of the numbers from exposures; (n, G) each."""
        if self.weigh is not None:
            shift, scale = moments(self._numbers(part) for part in rows)
            self.shift.copy_(shift)
            self.scale.copy_(scale)

    def _numbers(self, logged: Tensor) -> Tensor:
        numbers = logged[..., [place for place, size in enumerate(self.sizes) if not size]].nan_to_num(0.0).clamp(min=0)
        return torch.cat([torch.log1p(numbers), torch.log(numbers.clamp(min=LEAST))], dim=-1)
