"""HiSAC's routing as one Triton kernel that reads each event once and keeps the scores on the chip.

Without Triton the same lines run on `gpu_standin`, to try them on a processor. Annotations stay objects here, for
Triton reads them.
"""

import math
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    jit: Any = triton.jit
    RUNS_ON = f"Triton {triton.__version__}"
    if os.environ.get("TRITON_INTERPRET") == "1":
        RUNS_ON += ", its interpreter"
        int(np.zeros(1))  # Triton's interpreter asks this of NumPy, whose newer releases refuse
except (ImportError, TypeError) as error:
    import gpu_standin as tl

    jit = tl.jit
    RUNS_ON = "a stand-in: " + ("no triton here" if isinstance(error, ImportError) else "Triton refuses this NumPy")

ABSENT = -1e30
"""Bias of an event or of an agent that is not there."""


class Tile(NamedTuple):
    """How the work is cut.

    Attributes:
        agents: Agents of one program, a power of two.
        events: Events of one step of its loop, a power of two.
        warps: Warps of a program.
        stages: Steps whose loads are in flight at once.
    """

    agents: int
    events: int
    warps: int
    stages: int

    def __str__(self) -> str:
        return f"{self.agents} x {self.events}, {self.warps} warps, {self.stages} stages"


@jit
def route_kernel(
    queries, keys, items, own, bias, values, out, agents, length,
    S: tl.constexpr, D: tl.constexpr, AGENTS: tl.constexpr, EVENTS: tl.constexpr,
    GATHER: tl.constexpr, OVER_AGENTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    a = tl.program_id(0) * AGENTS + tl.arange(0, AGENTS)
    s = tl.arange(0, S)
    d = tl.arange(0, D)
    there = a < agents
    query = tl.load(queries + ((row * agents + a)[:, None] * S + s[None, :]), mask=there[:, None], other=0.0)
    level = tl.load(bias + (row * agents + a), mask=there, other=-1e30)
    top = tl.full((AGENTS,), float("-inf"), tl.float32)
    total = tl.zeros((AGENTS,), tl.float32)
    mixed = tl.zeros((AGENTS, D), tl.float32)
    for start in range(0, length, EVENTS):
        n = start + tl.arange(0, EVENTS)
        inside = n < length
        place = row * length + n
        line = tl.load(items + place, mask=inside, other=0) if GATHER else place
        key = tl.load(keys + (line[:, None] * S + s[None, :]), mask=inside[:, None], other=0.0)
        value = tl.load(values + (place[:, None] * D + d[None, :]), mask=inside[:, None], other=0.0)
        heat = tl.dot(query, tl.trans(key), input_precision=PRECISION) * 1.4426950408889634  # to powers of two
        if OVER_AGENTS:
            count = tl.load(own + place, mask=inside, other=0.0)
            heat += (level * 1.4426950408889634)[:, None]
            share = tl.exp2(heat - tl.max(heat, 0)[None, :])
            share = share * (count / tl.sum(share, 0))[None, :]
            total += tl.sum(share, 1)
        else:
            bump = tl.load(own + place, mask=inside, other=float("-inf"))
            heat += (bump * 1.4426950408889634)[None, :]
            peak = tl.maximum(top, tl.max(heat, 1))
            fade = tl.exp2(top - peak)
            share = tl.exp2(heat - peak[:, None])
            total = total * fade + tl.sum(share, 1)
            mixed = mixed * fade[:, None]
            top = peak
        mixed = tl.dot(share.to(value.dtype), value, mixed, input_precision=PRECISION)
    real = level > -1e29
    share = tl.where(real, 1.0 / tl.maximum(total, tl.full((AGENTS,), 1e-9, tl.float32)), 0.0)
    answer = mixed * share[:, None]
    tl.store(out + ((row * agents + a)[:, None] * D + d[None, :]), answer, mask=there[:, None])


def route(
    queries: Tensor,
    keys: Tensor,
    own: Tensor,
    bias: Tensor,
    values: Tensor,
    tile: Tile,
    items: Tensor | None = None,
    over_agents: bool = False,
) -> Tensor:
    """Agent vectors of R users.

    Args:
        queries: 2 z / tau of each agent; (R, K, S).
        keys: e of each event, (R, L, S); with `items` a table of all items, (N, S).
        own: log n - |e|^2 / tau of each event, `ABSENT` in the padding; over agents n, 0 there; (R, L) float32.
        bias: -|z|^2 / tau of each agent, `ABSENT` where none is; (R, K) float32.
        values: Vector of each event, of the queries' format; (R, L, D).
        tile: How the work is cut.
        items: Rows of the table; (R, L) int64.
        over_agents: The softmax runs over agents, not over behaviors.

    Returns:
        (R, K, D); zeros where no agent is.

    Raises:
        ValueError: S or D is no power of two from 16 on, a tensor is not contiguous, or a tile holds too few agents.
    """
    r, k, s = queries.shape
    length, d = values.shape[1:]
    if any(width < 16 or width & (width - 1) for width in (s, d)):
        raise ValueError(f"widths {s} and {d} are not powers of two from 16 on")
    if not all(part.is_contiguous() for part in (queries, keys, own, bias, values)):
        raise ValueError("a tensor is not contiguous")
    if over_agents and tile.agents < k:
        raise ValueError(f"{k} agents do not fit a tile of {tile.agents}")
    out = torch.empty(r, k, d, dtype=values.dtype, device=values.device)
    route_kernel[math.ceil(k / tile.agents), r](
        queries, keys, own if items is None else items, own, bias, values, out, k, length,
        S=s, D=d, AGENTS=tile.agents, EVENTS=tile.events, GATHER=items is not None, OVER_AGENTS=over_agents,
        PRECISION="ieee", num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


@jit
def rows_kernel(table, places, out, count, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    w = tl.arange(0, WIDTH)
    there = n < count
    line = tl.load(places + n, mask=there, other=0)
    numbers = tl.load(table + (line[:, None] * WIDTH + w[None, :]), mask=there[:, None], other=0.0)
    tl.store(out + (n.to(tl.int64)[:, None] * WIDTH + w[None, :]), numbers, mask=there[:, None])


def rows(table: Tensor, places: Tensor) -> Tensor:
    """Rows of a table, several by one program: (N, W), W a power of two, and (P,) int64 to (P, W)."""
    count, width = len(places), table.shape[1]
    out = table.new_empty(count, width)
    several = max(1, 8192 // (width * table.element_size()))
    rows_kernel[(-(-count // several), 1)](table, places, out, count, WIDTH=width, ROWS=several, num_warps=4)
    return out
