"""Histories of unlike items: distinct values of each row, and sums over equal ones. Plain forms stand beside."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROOMY = 4
"""Times the length of a row: so large may values be to be found by a table."""


class Distinct(NamedTuple):
    """Distinct values of R rows, ascending, padded on the right.

    Attributes:
        values: Each distinct value once, -1 in the padding; (R, U) int64.
        counts: How often it stands in its row, 0 in the padding; (R, U) int64.
        slots: Place among `values` of each element, -1 where masked; (R, L) int64.
    """

    values: Tensor
    counts: Tensor
    slots: Tensor


def distinct(values: Tensor, mask: Tensor) -> Distinct:
    """Distinct values of each row: by a table of all values where they are few, else by one sort of all rows.

    Args:
        values: (R, L) int64, below the largest int64.
        mask: True at elements that count; (R, L) bool.

    Returns:
        U is the largest number any row has, at least 1.
    """
    if values.numel():
        lowest, highest = (int(end) for end in torch.aminmax(torch.where(mask, values, 0)))
        if lowest >= 0 and highest < ROOMY * values.shape[1]:
            return _by_table(values, mask, highest + 1)
    return _by_sort(values, mask)


def _by_table(values: Tensor, mask: Tensor, bound: int) -> Distinct:
    """`distinct` of values from 0 to below `bound`: time and memory grow with rows times bound."""
    cell = torch.where(mask, values, bound)
    tally = values.new_zeros(len(values), bound + 1).scatter_add_(1, cell, torch.ones_like(cell))[:, :bound]
    rank = (tally > 0).cumsum(dim=1) - 1
    width = max(1, int(rank[:, -1].max()) + 1)
    row, value = torch.nonzero(tally, as_tuple=True)
    place = rank[row, value]
    table, counts = values.new_full((len(values), width), -1), values.new_zeros(len(values), width)
    table[row, place], counts[row, place] = value, tally[row, value]
    slots = torch.where(mask, rank.gather(1, cell.clamp(max=bound - 1)), -1)
    return Distinct(table, counts, slots)


def _by_sort(values: Tensor, mask: Tensor) -> Distinct:
    """`distinct` of any values."""
    last = torch.iinfo(torch.int64).max
    ordered, order = torch.where(mask, values, last).sort(dim=1, stable=True)
    real = ordered < last
    fresh = real.clone()
    fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    place = torch.where(real, fresh.cumsum(dim=1) - 1, -1)
    width = max(1, int(fresh.sum(dim=1).max())) if fresh.numel() else 1
    table = values.new_full((len(values), width), -1)
    row, column = torch.nonzero(fresh, as_tuple=True)
    table[row, place[row, column]] = ordered[row, column]
    slots = torch.empty_like(place).scatter_(1, order, place)
    counts = torch.zeros_like(table).scatter_add_(1, place.clamp(min=0), real.long())
    return Distinct(table, counts, slots)


def plain_distinct(values: Tensor, mask: Tensor) -> Distinct:
    """`distinct`, row by row."""
    rows = [
        sorted({int(v) for v, m in zip(row, here, strict=True) if m}) for row, here in zip(values, mask, strict=True)
    ]
    width = max(1, *(len(row) for row in rows))
    table = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
    slots = [
        [row.index(int(v)) if m else -1 for v, m in zip(line, here, strict=True)]
        for row, line, here in zip(rows, values, mask, strict=True)
    ]
    counts = [[line.count(slot) for slot in range(width)] for line in slots]
    return Distinct(table, torch.tensor(counts), torch.tensor(slots))


def segment_sum(values: Tensor, slots: Tensor, size: int) -> Tensor:
    """Sums the vectors of each row that share a slot.

    Args:
        values: (R, L, D).
        slots: Slot of each vector, below `size`, -1 to leave it out; (R, L) int64.
        size: Slots per row.

    Returns:
        (R, size, D); zeros where a slot is empty.
    """
    r, _, d = values.shape
    left_out = slots < 0
    flat = torch.where(left_out, r * size, slots + torch.arange(r, device=slots.device)[:, None] * size)
    sums = values.new_zeros(r * size + 1, d).index_add(0, flat.reshape(-1), values.reshape(-1, d))
    return sums[:-1].view(r, size, d)


def plain_segment_sum(values: Tensor, slots: Tensor, size: int) -> Tensor:
    """`segment_sum` as a product with a one-hot matrix."""
    member = (slots[:, None, :] == torch.arange(size, device=slots.device)[:, None]).to(values.dtype)
    return member @ values
