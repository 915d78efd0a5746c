"""Data-parallel training: processes started by `torchrun` share every batch and keep one model between them.

    torchrun --nproc-per-node 2 $(command -v hisac-lab) stage train --model hisac --seed 0

Each process takes its share of the rows of every batch, and gradients are summed, so a run is the same as in one
process but for rounding, and but for dropout: each process draws its own masks. Batch normalization sees the share.
Shares have as many rows each, or cost as much each (`train.share_by`).
The first process (the main process) alone shows progress and writes; all must see the same files.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, and not in __all__
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm

from hisac_lab.base.artifacts import Array, stage_output
from hisac_lab.base.errors import UserError
from hisac_lab.models.tables import ShardedTable

PLACE = "torchrun"
BLOCK = 1 << 16
"""Rows of a table that travel to the main process at once."""
ANSWER = timedelta(seconds=5)
"""How long a store that lives may take to answer."""
PATIENCE = 300
"""Seconds that a process waits for the main one of its start."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run, as one of them sees them.

    Attributes:
        rank: Which one this is; 0 is the main one.
        world_size: How many there are.
        device: Where tensors must lie to be exchanged.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process shows progress and writes."""
        return self.rank == 0

    def shares(self, index: Array, costs: Array | None = None) -> list[Array]:
        """What falls to each process of a batch.

        Args:
            index: The batch, rising in the length of its histories; (R,).
            costs: Of each of these rows, if it stood alone; (R,) int. None: each process takes every n-th row, so that
                histories are of like length in all shares.
        """
        if costs is None:
            return [index[rank :: self.world_size] for rank in range(self.world_size)]
        return [index[places] for places in deal(costs, self.world_size)]

    def align(self, model: nn.Module, step: int) -> None:
        """Gives all processes the main process's weights.

        Raises:
            UserError: They have found different checkpoints.
        """
        if self.world_size == 1:
            return
        with _all_there():
            steps = self._gather(torch.tensor([step], device=self.device)).tolist()
            if len(set(steps)) > 1:
                what = f"the processes would resume at different steps ({', '.join(map(str, steps))})"
                raise UserError(PLACE, what, "start them in the same folder, on a disk that all of them share")
            own = {id(part.weight) for part in model.modules() if isinstance(part, ShardedTable)}
            for parameter in model.parameters():
                if id(parameter) not in own:
                    dist.broadcast(parameter.data, 0)

    def sum_gradients(self, model: nn.Module, loss: float) -> float:
        """Sums the gradients of all processes in place, and the loss; statistics of batch normalization are averaged.

        A parameter without a gradient anywhere stays without.
        """
        if self.world_size == 1:
            return loss
        tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse]
        sparse = {id(table.weight) for table in tables}
        dense: list[Tensor] = [tensor for tensor in model.parameters() if id(tensor) not in sparse]
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        moving = [tensor for m in norms for tensor in (m.running_mean, m.running_var) if tensor is not None]
        grads = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in dense]
        facts = torch.tensor([loss, *(float(tensor.grad is not None) for tensor in dense)], device=self.device)
        flat = torch.cat(
            [facts, *(tensor.flatten() for tensor in grads), *(tensor / self.world_size for tensor in moving)]
        )
        with _all_there():
            dist.all_reduce(flat)
            facts, *sums = torch.split(flat, [len(facts), *(tensor.numel() for tensor in grads + moving)])
            has_gradient = facts[1:].tolist()
            for parameter, has, total in zip(dense, has_gradient, sums[: len(dense)], strict=True):
                parameter.grad = total.view_as(parameter) if has else None
            for parameter, mean in zip(moving, sums[len(dense) :], strict=True):
                parameter.copy_(mean)
            for table in tables:
                if not isinstance(table, ShardedTable):  # whose gradients are with the holders of its rows
                    self._sum_sparse(table.weight)
        return float(facts[0])

    def sum(self, numbers: Array) -> Array:
        """Sum of the arrays of all processes; any shape."""
        if self.world_size == 1:
            return numbers
        total = torch.from_numpy(numbers).to(self.device)
        with _all_there():
            dist.all_reduce(total)
        summed: Array = np.asarray(total.cpu().numpy())
        return summed

    def exchange(self, rows: Tensor, counts: list[int]) -> tuple[Tensor, list[int]]:
        """Sends every process its rows, and takes what all send to this one.

        Args:
            rows: Those of the first process, of the second, and so on; (n, ...).
            counts: How many each process gets.

        Returns:
            What came, from the first process, the second, and so on; (m, ...); and how many from each.
        """
        sent = torch.tensor(counts, device=self.device)
        came = torch.empty_like(sent)
        with _all_there():
            dist.all_to_all_single(came, sent)
            sizes: list[int] = came.tolist()
            taken = rows.new_empty((sum(sizes), *rows.shape[1:]))
            dist.all_to_all_single(taken, rows.contiguous(), sizes, counts)
        return taken, sizes

    def common(self, numbers: list[int]) -> list[int]:
        """Those that every process has, rising; no process has one twice."""
        with _all_there():
            every = self._gather(torch.tensor(numbers, dtype=torch.int64, device=self.device))
        found, times = torch.unique(every, return_counts=True)
        common: list[int] = found[times == self.world_size].tolist()
        return common

    def gather(self, rows: Tensor) -> Iterator[Tensor]:
        """The rows of one process after another, some at a time, for the main process; the others send, and get none.

        Args:
            rows: Of this process; (n, ...).
        """
        rows = rows.detach()
        counts = self._gather(torch.tensor([len(rows)], device=self.device)).tolist()
        for rank, count in enumerate(counts):
            for at in range(0, count, BLOCK):
                size = min(BLOCK, count - at)
                with _all_there():
                    if rank == self.rank == 0:
                        part = rows[at : at + size]
                    elif self.is_main:
                        part = rows.new_empty((size, *rows.shape[1:]))
                        dist.recv(part, rank)
                    elif rank == self.rank:
                        dist.send(rows[at : at + size].contiguous(), 0)
                if self.is_main:
                    yield part.cpu()

    def _sum_sparse(self, table: Tensor) -> None:
        """Puts the rows that any process has touched into `table.grad`; (rows, D)."""
        gradient = table.grad
        if gradient is None:
            rows, values = torch.zeros(0, dtype=torch.int64, device=table.device), table.detach()[:0]
        else:
            gradient = gradient.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
        rows, values = self._gather(rows), self._gather(values)
        table.grad = torch.sparse_coo_tensor(rows[None], values, table.shape).coalesce() if len(rows) else None

    def _gather(self, rows: Tensor) -> Tensor:
        """Rows of one process after another, each with as many as it has; (n, ...) to (sum of n, ...)."""
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.world_size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        widest = max(int(count) for count in counts)
        padded = torch.cat([rows, rows.new_zeros(widest - len(rows), *rows.shape[1:])])
        boxes = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(boxes, padded)
        return torch.cat([box[: int(count)] for box, count in zip(boxes, counts, strict=True)])


ALONE = ProcessGroup()


def deal(costs: Array, parts: int) -> list[Array]:
    """Deals rows so that the dearest part costs as little as it can while near costs lie together.

    A part costs its rows times its dearest row, for shorter histories are padded to the longest.

    Args:
        costs: Of each row, positive; (R,) int.
        parts: How many.

    Returns:
        Places of the rows of each part, rising in cost; none in parts beyond the number of rows.
    """
    order = np.argsort(costs, kind="stable")
    rising = costs[order].astype(np.int64)
    low, high = 0, int(rising[-1]) * len(rising)  # no bound below: too little; above: enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = _cuts(rising, parts, middle)[-1] == len(rising)
        low, high = (low, middle) if enough else (middle, high)
    return np.split(order, _cuts(rising, parts, high)[:-1])


def _cuts(rising: Array, parts: int, most: int) -> list[int]:
    """Where parts end that take rows in turn, each until it would cost more than `most`."""
    ends, begin = [], 0
    for _ in range(parts):
        rest = rising[begin:]
        begin += int(np.searchsorted(rest * np.arange(1, len(rest) + 1), most, side="right"))
        ends.append(begin)
    return ends


@contextmanager
def join(device: torch.device) -> Iterator[ProcessGroup]:
    """The process group that `torchrun` has started, or one process alone.

    The first process that fails says so, with its error; all others end quietly, with exit code 1.

    Args:
        device: Where the model lives; decides between NCCL and Gloo.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    shared, rank, size = next(rendezvous("env://"))
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _all_there():
        store = _store_of_this_start(shared, rank)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        yield ProcessGroup(rank, size, device)
        with _all_there():
            dist.barrier()
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending, and may have something to say first
        if not _first_to_fail(shared, store.port):
            raise SystemExit(1) from None
        raise
    else:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


@contextmanager
def main_output(path: Path) -> Iterator[Path]:
    """`stage_output` for the main process; the others get the path alone and write nothing there."""
    if int(os.environ.get("RANK", "0")) > 0:
        yield path
    else:
        with stage_output(path) as draft:
            yield draft


def _store_of_this_start(shared: Any, rank: int) -> TCPStore:
    """A store that only processes started together share; the main process keeps it.

    `torchrun` keeps one store over all its restarts (torch 2.13), with the addresses of processes that are gone: who
    reads such an address before it is replaced waits for half an hour. Here a store that is gone does not answer, and
    its port is asked for again.
    """
    host, patience = os.environ["MASTER_ADDR"], time.monotonic() + PATIENCE
    if rank == 0:
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        shared.set("port", str(store.port))
        return store
    while True:
        try:
            store = TCPStore(host, int(shared.get("port")), wait_for_workers=False, timeout=ANSWER)
        except dist.DistError:
            if time.monotonic() > patience:
                raise
        else:
            store.set_timeout(shared.timeout)
            return store


def _first_to_fail(shared: Any, start: int) -> bool:
    try:
        return bool(shared.add(f"failures {start}", 1) == 1)
    except RuntimeError:  # torchrun itself is gone, and the store with it
        return True


def _told_to_end(number: int, frame: FrameType | None) -> None:
    raise UserError(PLACE, "the run was told to end", "start it again: it goes on from its last checkpoint")


@contextmanager
def _all_there() -> Iterator[None]:
    """Turns the loss of another process into one line."""
    try:
        yield
    except RuntimeError as error:
        what = "another process of the run is gone"
        raise UserError(PLACE, what, "start it again: it goes on from its last checkpoint") from error
