"""The optimizers of one model: AdamW for dense parameters, Adagrad for embedding tables.

HiSAC's digest states Adam and Adagrad; the weight decay is ours (docs/papers/hisac.md#training-and-serving).

Portable arithmetic needs square roots that are rounded as IEEE 754 says. torch's plain `sqrt` goes to MKL, which starts
from the processor's own approximation and ends elsewhere on Intel than on AMD. Fused optimizers and `rsqrt` divide and
take roots exactly, and are faster besides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hisac_lab.config.train import TrainConfig


class SparseAdagrad(torch.optim.Optimizer):
    """Adagrad for tables with sparse gradients: a step touches the rows of its batch only.

    Args:
        parameters: Tables, each (rows, D).
        lr: Learning rate.
        eps: Added to the root of the summed squares.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, eps: float = 1e-10) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps})
        for table in parameters:
            self.state[table]["sum"] = torch.zeros_like(table, memory_format=torch.preserve_format)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Moves the touched rows; tables without a gradient stay as they are."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    grad = table.grad.coalesce()
                    _move_rows(table, self.state[table]["sum"], grad.indices()[0], grad.values(), group)


def _move_rows(table: Tensor, sums: Tensor, rows: Tensor, values: Tensor, group: dict[str, Any]) -> None:
    """One Adagrad step of the rows at `rows`, in place; `values` are their gradients, (len(rows), D)."""
    squares = sums.index_select(0, rows) + values * values
    sums.index_copy_(0, rows, squares)
    roots = squares.rsqrt().reciprocal()
    table.index_add_(0, rows, values / (roots + group["eps"]), alpha=-group["lr"])


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam with decoupled weight decay for dense parameters, Adagrad for embedding tables.

    Args:
        model: Its parameters lie on the device they train on.
        config: The section `train`.
    """
    # The default, said aloud, or large tables make torch warn.
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    sparse = {id(table.weight): table.sparse for table in model.modules() if isinstance(table, nn.Embedding)}
    dense = [weights for weights in model.parameters() if id(weights) not in sparse]
    fused = all(weights.device.type == "cpu" for weights in dense) or None
    chosen: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(dense, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
    ]
    if tables := [weights for weights in model.parameters() if sparse.get(id(weights)) is False]:
        chosen.append(torch.optim.Adagrad(tables, lr=config.embedding_learning_rate, fused=fused))
    if tables := [weights for weights in model.parameters() if sparse.get(id(weights)) is True]:
        chosen.append(SparseAdagrad(tables, lr=config.embedding_learning_rate))
    return chosen


def set_rates(optimizers: list[torch.optim.Optimizer], config: TrainConfig, step: int, steps: int) -> None:
    """Sets every learning rate for one step by the schedule; what a checkpoint has restored does not matter.

    Args:
        optimizers: As `make_optimizers` gave them.
        config: The section `train`.
        step: Its number, from 0.
        steps: Of the whole run.
    """
    share = 1.0 if config.schedule == "constant" else 1 - (1 - config.final_rate) * step / max(1, steps - 1)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * share
