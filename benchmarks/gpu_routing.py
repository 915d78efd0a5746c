"""HiSAC's soft routing on a device: the plain formula, and the faster forms that have to give the same numbers.

An agent is the mean of its user's event vectors, weighted by the softmax over events of -|z - e|^2 / tau + log n. Since
-|z - e|^2 = 2 z e - |e|^2 - |z|^2 and the softmax knows nothing of |z|^2, this is attention with queries 2 z / tau,
keys e, and a bias of the key alone: log n - |e|^2 / tau. The bias is one more column of the keys, ones that of the
queries.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from gpu_kernel import ABSENT, Tile, route
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

ALIGNED = 8  # widths that the fast backends of attention take are multiples of it
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
TILES = {
    64: (Tile(64, 64, 4, 3), Tile(64, 128, 4, 3), Tile(64, 128, 8, 3), Tile(64, 64, 4, 4)),
    256: (
        Tile(128, 64, 8, 3),
        Tile(128, 64, 4, 3),
        Tile(128, 128, 8, 2),
        Tile(256, 64, 8, 2),
        Tile(256, 64, 16, 2),
        Tile(64, 64, 4, 3),
    ),
}
"""Tiles to try, by the agents up to which they are meant."""
OVER_AGENTS = {
    64: (Tile(64, 64, 4, 3), Tile(64, 128, 8, 2)),
    256: (Tile(256, 32, 8, 2), Tile(256, 64, 8, 2), Tile(256, 64, 16, 2)),
}


@dataclass(frozen=True)
class Task:
    """Routing of R users with K agents each over L events.

    Attributes:
        agents: z; (R, K, S) float32.
        real: False where no agent is; (R, K) bool.
        table: e of all items; (N, S) float32.
        items: Item of each event; (R, L) int64.
        counts: n, equal events that an event stands for, 0 in the padding; (R, L) float32.
        values: Vector of each event; (R, L, D) float32.
        tau: Temperature.
        dtype: What products are computed in.
    """

    agents: Tensor
    real: Tensor
    table: Tensor
    items: Tensor
    counts: Tensor
    values: Tensor
    tau: float
    dtype: torch.dtype

    @classmethod
    def make(
        cls, users: int, agents: int, length: int, widths: tuple[int, int], device: str, dtype: torch.dtype,
        items: int = 100_000, seed: int = 0,
    ) -> Task:  # fmt: skip
        """Unit vectors of items, agents near some of them, histories of which every fourth is half padding.

        The last user's history is empty and has no agents, where there are several users.
        """
        random = torch.Generator(device).manual_seed(seed)
        table = torch.randn(items, widths[0], generator=random, device=device)
        table /= table.norm(dim=1, keepdim=True)
        chosen = torch.randint(items, (users, agents), generator=random, device=device)
        z = (
            table[chosen]
            + 0.5 * torch.randn(users, agents, widths[0], generator=random, device=device) / widths[0] ** 0.5
        )
        history = torch.randint(items, (users, length), generator=random, device=device)
        counts = torch.randint(1, 4, (users, length), generator=random, device=device).float()
        counts[::4, : length // 2] = 0
        real = torch.ones(users, agents, dtype=torch.bool, device=device)
        real[1::3, agents - agents // 4 :] = False
        if users > 1:
            counts[-1], real[-1] = 0, False
        values = torch.randn(users, length, widths[1], generator=random, device=device)
        return cls(z, real, table, history, counts, values, 0.07, dtype)

    @cached_property
    def rows(self) -> Tensor:
        """The items' vectors in the format of the products; (N, S)."""
        return self.table.to(self.dtype)

    @cached_property
    def queries(self) -> Tensor:
        """2 z / tau; (R, K, S)."""
        return (self.agents * (2 / self.tau)).to(self.dtype)

    @cached_property
    def keys(self) -> Tensor:
        """e; (R, L, S)."""
        return self.rows[self.items]

    @cached_property
    def own(self) -> Tensor:
        """Sum log n - |e|^2 / tau, `ABSENT` in the padding; (R, L) float32."""
        heat = self.counts.log() - self.table.square().sum(dim=1)[self.items] / self.tau
        return heat.clamp(min=ABSENT)

    @cached_property
    def bias(self) -> Tensor:
        """-|z|^2 / tau, `ABSENT` where no agent is; (R, K) float32."""
        return (-self.agents.square().sum(dim=2) / self.tau).masked_fill(~self.real, ABSENT)

    @cached_property
    def mixed(self) -> Tensor:
        """Values in the format of the products; (R, L, D)."""
        return self.values.to(self.dtype)

    @property
    def flops(self) -> int:
        """Floating-point operations of both products."""
        r, k, s = self.agents.shape
        return 2 * r * k * self.items.shape[1] * (s + self.values.shape[2])

    @property
    def bytes(self) -> int:
        """Bytes that have to move at least: agents, keys, values and biases read, the answer written."""
        r, k, s = self.agents.shape
        length, d = self.values.shape[1:]
        return r * (self.dtype.itemsize * (s + d) * (k + length) + 4 * length)

    def single(self) -> Task:
        """The same in fp32, of the numbers as they were before any rounding."""
        return replace(self, dtype=torch.float32)


def shares(task: Task, over_agents: bool = False) -> Tensor:
    """Weight of each event in each agent, by the plain formula in fp32; (R, K, L)."""
    scores = torch.baddbmm(task.own[:, None], task.queries.float(), task.keys.float().transpose(1, 2))
    real = task.real[:, :, None]
    if not over_agents:
        return torch.softmax(scores, dim=2) * real
    scores = scores - task.own[:, None] + task.bias[:, :, None]
    mass = torch.softmax(scores, dim=1) * real * task.counts[:, None]
    return mass / mass.sum(dim=2, keepdim=True).clamp(min=1e-9)


def plain(task: Task, over_agents: bool = False) -> Tensor:
    """The reference: agent vectors of the rounded inputs, in fp32; (R, K, D)."""
    return shares(task, over_agents) @ task.mixed.float()


def as_the_model(task: Task) -> Callable[[], Tensor]:
    """What `HiSACBranch` does: scores in fp32, the sum over events in the format of the values."""
    full = task.single()
    _ = full.queries, full.keys, full.own
    return lambda: torch.bmm(shares(full).to(task.dtype), task.mixed)


def columns(task: Task) -> tuple[Tensor, Tensor]:
    """Queries and keys whose product is the routing's score: (R, K, S + 8), (R, L, S + 8).

    In bf16 the bias takes two columns, itself and what rounding took from it; widths grow by eight in any case.
    """
    high = task.own.to(task.dtype)
    low = (task.own - high.float()).to(task.dtype)
    ones = torch.ones_like(task.queries[..., :1])
    spare = ALIGNED - 2
    queries = torch.cat([task.queries, ones, ones, ones.expand(-1, -1, spare) * 0], dim=-1)
    zeros = high.new_zeros(*high.shape, spare)
    return queries, torch.cat([task.keys, high[..., None], low[..., None], zeros], dim=-1)


def by_attention(task: Task, backend: str) -> Callable[[], Tensor]:
    """(a) Scaled-dot-product attention, the bias in the keys' extra columns; flash wants one width for all."""
    queries, keys = columns(task)
    width, values = task.values.shape[2], task.mixed
    if backend == "flash":
        widest = max(width, keys.shape[2])
        queries, keys, values = (pad(part, (0, widest - part.shape[2])) for part in (queries, keys, values))
    queries, keys, values = (part[:, None] for part in (queries, keys, values))
    kind, real = BACKENDS[backend], task.real[:, :, None]

    def run() -> Tensor:
        with sdpa_kernel(kind):
            found = scaled_dot_product_attention(queries, keys, values, scale=1.0)
        return found[:, 0, :, :width] * real

    return run


def by_flex(task: Task, options: dict[str, Any] | None = None) -> Callable[[], Tensor]:
    """(b) FlexAttention with the bias in its score function; compiled on a GPU."""
    from torch.nn.attention.flex_attention import flex_attention

    own, real = task.own, task.real[:, :, None]
    work: Callable[..., Any] = flex_attention
    if own.device.type == "cuda":
        torch._dynamo.reset()
        work = torch.compile(flex_attention, dynamic=False)
    queries, keys, values = task.queries[:, None], task.keys[:, None], task.mixed[:, None]

    def add(score: Tensor, user: Tensor, head: Tensor, agent: Tensor, event: Tensor) -> Tensor:
        return score + own[user, event]

    def run() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of speed on a processor
            found: Tensor = work(queries, keys, values, score_mod=add, scale=1.0, kernel_options=options)
        return found[:, 0] * real

    return run


def by_kernel(task: Task, tile: Tile, gather: bool = False, over_agents: bool = False) -> Callable[[], Tensor]:
    """(c) The Triton kernel; with `gather` it reads the rows of the items itself."""
    own = task.counts if over_agents else task.own
    keys, items = (task.rows, task.items) if gather else (task.keys, None)
    queries, bias, values = task.queries, task.bias, task.mixed
    return lambda: route(queries, keys, own, bias, values, tile, items, over_agents)


def tiles(agents: int, over_agents: bool = False) -> tuple[Tile, ...]:
    """Tiles worth trying for so many agents."""
    known = OVER_AGENTS if over_agents else TILES
    return next(some for most, some in known.items() if agents <= most)


def gap(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|; infinite where a number is not finite."""
    wrong = (found.float() - expected).norm() / expected.norm()
    return float(torch.nan_to_num(wrong, nan=torch.inf))
