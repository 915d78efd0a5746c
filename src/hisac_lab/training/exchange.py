"""A table of items spread over the processes of one training: rows are fetched for a batch, gradients given back.

Each process holds the rows of a range of items, and their part of the optimizer's state. Before a batch is scored its
distinct items are asked of those that hold them, and afterwards each gradient goes to the holder of its row, where the
gradients of all processes are summed: two exchanges a batch, of what the batch touches. All processes call the same
methods equally often, those without a batch too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hisac_lab.inference.loader import Batch
from hisac_lab.models.tables import ShardedTable
from hisac_lab.training.parallel import ProcessGroup


def rows_held(items: int, group: ProcessGroup) -> tuple[int, int]:
    """The first of these items whose row this process holds, and one past its last: as many for each."""
    each = -(-items // group.world_size)
    return min(items, group.rank * each), min(items, (group.rank + 1) * each)


def sharded(model: nn.Module) -> dict[str, ShardedTable]:
    """The sharded tables of a model, by the names of their weights in its state dict."""
    return {f"{name}.weight": part for name, part in model.named_modules() if isinstance(part, ShardedTable)}


class Exchange:
    """Brings the rows of a model's sharded tables; without such tables it does nothing.

    Args:
        model: It is trained by the processes of the group.
        group: All of them.
    """

    def __init__(self, model: nn.Module, group: ProcessGroup) -> None:
        self.tables, self.group = list(sharded(model).values()), group
        self.asked: list[tuple[Tensor, list[int]]] = []

    def fetch(self, batch: Batch | None) -> None:
        """Puts the rows that a batch touches into the tables; None: this process has no batch, and serves the others.

        Raises:
            UserError: Another process is gone.
        """
        self.asked.clear()
        if not self.tables:
            return
        known = torch.zeros(0, dtype=torch.int64, device=self.group.device) if batch is None else _items(batch)
        for table in self.tables:
            each = -(-table.items // self.group.world_size)
            wanted = torch.bincount(known // each, minlength=self.group.world_size).tolist()
            rows, given = self.group.exchange(known, wanted)
            rows = rows - table.held[0]
            table.known = known
            table.fetched, _ = self.group.exchange(table.weight.detach()[rows], given)
            table.fetched.requires_grad_(torch.is_grad_enabled())
            self.asked.append((rows, wanted))

    def give_back(self) -> None:
        """Adds the gradients of the rows that `fetch` has brought to those of their holders.

        Raises:
            UserError: Another process is gone.
        """
        for table, (rows, wanted) in zip(self.tables, self.asked, strict=True):
            own = table.fetched.grad
            values, _ = self.group.exchange(torch.zeros_like(table.fetched) if own is None else own, wanted)
            gradient = torch.sparse_coo_tensor(rows[None], values, table.weight.shape)
            before = table.weight.grad
            table.weight.grad = (gradient if before is None else before + gradient).coalesce()


def _items(batch: Batch) -> Tensor:
    """Distinct items that a model may read of a batch, rising; (n,) int64."""
    parts = [batch.history.items, batch.candidates]
    if batch.history.instances is not None:
        parts.append(batch.history.instances.items)
    distinct: Tensor = torch.unique(torch.cat([part.flatten() for part in parts]))
    return distinct
