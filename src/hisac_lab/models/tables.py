"""Embedding tables: plain where they fit, two shared rows an item where they must not grow with the catalog.

A table that is larger than the memory of one process is spread over those that train together (`ShardedTable`).

Large tables get sparse gradients, so that a step costs what its batch touches and not what the catalog holds:
the numbers are those of a dense step but for rounding.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.ops.select import take_rows

MEGABYTE = 10**6
COPIES = 2  # float32 numbers held per weight: itself and Adagrad's running sum
SPARSE_ROWS = 1 << 17  # rows from which gradients are sparse; below, a dense step is about as fast or faster
STD = 0.02
BLOCK = 1 << 16
"""Rows drawn at once where only some are kept; with sixteen numbers or more they are those of one draw of all."""


class Embedding(nn.Embedding):
    """A table whose gradient is sparse when it is large, and quickly summed when it is not.

    Args:
        rows: N.
        dim: D.
        blank: Its numbers are left as memory has them, to be loaded.
    """

    def __init__(self, rows: int, dim: int, blank: bool = False) -> None:
        super().__init__(rows, dim, sparse=rows >= SPARSE_ROWS, _weight=torch.empty(rows, dim) if blank else None)

    def forward(self, input: Tensor) -> Tensor:
        """Rows of the table: (...) int64 to (..., D)."""
        return super().forward(input) if self.sparse else take_rows(self.weight, input)


class SharedTable(nn.Module):
    """Any number of items in a fixed number of rows: an item is the sum of two rows that it shares with others.

    With m rows in one half and m - 1 in the other, item i has row i mod m and row i mod (m - 1). Two items with both
    rows in common would differ by a multiple of m (m - 1), so no two have while there are at most m (m - 1) items.
    These are the Chinese-remainder partitions of Shi et al., "Compositional Embeddings Using Complementary Partitions
    for Memory-Efficient Recommendation Systems" (KDD 2020; stated); halves of nearly one size, and the sum as the way
    to put two rows together, are our choice among those the paper allows.

    Args:
        items: How many items there are.
        rows: Rows in all; see `least_rows`.
        dim: D.
    """

    def __init__(self, items: int, rows: int, dim: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = items, dim
        self.modulus = (rows + 1) // 2
        self.rows = Embedding(2 * self.modulus - 1, dim)

    @property
    def sparse(self) -> bool:
        """Whether the gradient is sparse."""
        return self.rows.sparse

    def places(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The two rows of each item; (...) int64 to two of that shape."""
        return items % self.modulus, self.modulus + items % (self.modulus - 1)

    def forward(self, items: Tensor) -> Tensor:
        """(...) int64 to (..., D)."""
        one, other = self.places(items)
        vectors: Tensor = self.rows(one) + self.rows(other)
        return vectors


class ShardedTable(nn.Embedding):
    """Some rows of a table whose others are with other processes; each batch's are fetched before it is scored.

    `training.exchange` fetches them, and gives their gradients back to those that hold them.

    Args:
        items: Rows of the whole table.
        dim: D.
        held: The first of them that this process holds, and one past its last.

    Attributes:
        weight: The rows held here; (H, D).
        known: Items whose rows are here for the batch in hand, rising; (n,) int64.
        fetched: Their rows, (n, D); gradients are gathered there.
    """

    def __init__(self, items: int, dim: int, held: tuple[int, int]) -> None:
        rows = held[1] - held[0]
        super().__init__(rows, dim, sparse=True, _weight=torch.empty(rows, dim))
        self.items, self.held = items, held
        self.known, self.fetched = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dim)
        self._draw(1.0)  # as `nn.Embedding` does: whoever draws next goes on from there

    @property
    def elsewhere(self) -> int:
        """Numbers of the table that other processes hold."""
        return self.items * self.embedding_dim - self.weight.numel()

    @torch.no_grad()
    def _draw(self, std: float) -> None:
        """Draws the whole table, a block at a time, and keeps the rows held here."""
        first, last = self.held
        at = 0
        while at < self.items:
            left = self.items - at
            block = torch.empty(left if left < 2 * BLOCK else BLOCK, self.embedding_dim).normal_(std=std)
            end = at + len(block)
            if max(at, first) < min(end, last):
                begin, stop = max(at, first), min(end, last)
                self.weight[begin - first : stop - first] = block[begin - at : stop - at]
            at = end

    def forward(self, items: Tensor) -> Tensor:
        """Rows that were fetched: (...) int64 to (..., D).

        Raises:
            UserError: The model asks for an item that its batch does not name.
        """
        places = torch.searchsorted(self.known, items.contiguous()).clamp_(max=max(0, len(self.known) - 1))
        if not len(self.known) or not bool((self.known[places] == items).all()):
            what = "is sharded, and the model reads items that its requests do not name"
            raise UserError(SETTINGS, what, "set whole", "train.item_table")
        return take_rows(self.fetched, places)


Table: TypeAlias = nn.Embedding | SharedTable


def draw(table: Table) -> None:
    """Draws new vectors, each number with a deviation of 0.02."""
    if isinstance(table, ShardedTable):
        table._draw(STD)
    elif isinstance(table, nn.Embedding):
        nn.init.normal_(table.weight, std=STD)
    else:
        nn.init.normal_(table.rows.weight, std=STD / math.sqrt(2))  # the sum of two varies like one plain row


def least_rows(items: int) -> int:
    """Fewest rows in which no two of these items share both of theirs."""
    modulus = max(2, math.isqrt(items))
    while modulus * (modulus - 1) < items:
        modulus += 1
    return 2 * modulus - 1


def item_table(
    items: int, dim: int, megabytes: float | None, held: tuple[int, int] | None = None, blank: bool = False
) -> Table:
    """The table of the items' own vectors.

    Args:
        items: How many items there are.
        dim: D.
        megabytes: What weights and Adagrad's state may take together, in 10^6 bytes; None: what they need.
        held: First item whose row this process holds, and one past its last; None: all.
        blank: The numbers of a plain table are loaded and not drawn.

    Returns:
        A plain table when it fits, else one with shared rows that fills the budget.

    Raises:
        UserError: The budget is too small to tell the items apart, or is given to a table that is sharded.
    """
    if held is not None:
        if megabytes is not None:
            what = "bounds a table that train.item_table spreads over processes"
            raise UserError(SETTINGS, what, "set null, or train.item_table: whole", "backbone.table_mb")
        return ShardedTable(items, dim, held)
    row = COPIES * dim * torch.float32.itemsize
    rows = items if megabytes is None else int(megabytes * MEGABYTE) // row
    if rows >= items:
        return Embedding(items, dim, blank)
    least = least_rows(items)
    if rows < least:
        what = f"{megabytes:g} MB hold {rows:,} rows of width {dim}, too few to tell {items:,} items apart"
        hint = f"give at least {math.ceil(least * row / MEGABYTE * 1000) / 1000:g}, or lower backbone.dim"
        raise UserError(SETTINGS, what, hint, "backbone.table_mb")
    return SharedTable(items, rows, dim)


def rows_by_items(before: Tensor, now: Tensor, count: int) -> Tensor:
    """Where the rows of a table by code stand, found by items that had a code before and have one now.

    Args:
        before: Code of each item then; (n,) int64.
        now: Its code now; (n,) int64.
        count: Rows then.

    Returns:
        Row now of each row then, that of the first item with it, -1 where no item had it; (count,) int64.
    """
    known, first = np.unique(before.cpu().numpy(), return_index=True)
    rows = torch.full((count,), -1)
    rows[torch.from_numpy(known)] = now.cpu()[torch.from_numpy(first)].long()
    return rows


def every(table: Table) -> Tensor:
    """The vectors of all items; (items, D)."""
    if isinstance(table, nn.Embedding):
        return table.weight
    vectors: Tensor = table(torch.arange(table.num_embeddings, device=table.rows.weight.device))
    return vectors
