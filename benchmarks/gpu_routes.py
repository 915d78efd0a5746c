"""Speed of HiSAC's routing: every form of `gpu_routing` at two numbers of agents and several lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gpu_routing as forms
import torch
from gpu_kernel import RUNS_ON, Tile
from gpu_lab import Absent, Lab, Section, Wrong, percent
from machine import typical_seconds
from pages import Outcome, one_line
from torch import Tensor

WIDTHS = (128, 64)  # of e and z, and of the values
AGENTS, LENGTHS = (64, 200), (10_000, 1_000, 3_000)
EVENTS = 10_000  # of one program's user at the longest; shorter histories come with more users
GOALS = {64: "70 % of bandwidth", 200: "45 % of arithmetic, 1.7 us a user at 10,000"}
TOLERANCE = {torch.bfloat16: 1e-2, torch.float32: 1e-5}
UNROUNDED = 4  # times as much for forms that start from unrounded inputs
DECODING = 128  # agents from which FlexAttention has no other kernel to choose
FLEX: dict[str, dict[str, Any] | None] = {
    "flex, as it chooses": None,
    "flex, no decoding kernel": {"FORCE_USE_FLEX_ATTENTION": True},
}
Work = Callable[[], Tensor]


def task_of(lab: Lab, agents: int, length: int) -> tuple[forms.Task, Tensor, Tensor]:
    """A task of as many users as fill the card, the reference's answers over events and over agents."""
    if lab.small:
        users, length, widths, dtype, items = 3, length // 50, (32, 16), torch.float32, 1_000
    else:
        cores = torch.cuda.get_device_properties(0).multi_processor_count
        users, widths, dtype, items = 2 * cores * (EVENTS // length), WIDTHS, torch.bfloat16, 100_000

    def make() -> tuple[forms.Task, Tensor, Tensor]:
        task = forms.Task.make(users, agents, length, widths, lab.device, dtype, items)
        return task, forms.plain(task), forms.plain(task, over_agents=True)

    made: tuple[forms.Task, Tensor, Tensor] = lab.keep("task", (agents, length), make)
    return made


def measure(
    lab: Lab, agents: int, length: int, name: str, work: Work, over_agents: bool = False, slack: int = 1
) -> Outcome:
    """Checks a form against the reference and measures it.

    Raises:
        Wrong: It differs by more than rounding.
    """
    task, *expected = task_of(lab, agents, length)
    error = forms.gap(work(), expected[over_agents])
    allowed = slack * TOLERANCE[task.dtype]
    if not error <= allowed:
        raise Wrong(f"differs by {error:.1e} from the reference, {allowed:.0e} allowed")
    seconds = typical_seconds(work, lab.device, *((3, 1) if lab.small else (30, 5)))
    users = len(task.agents)
    product, copy = lab.of_product(task.flops, seconds), lab.of_copy(task.bytes, seconds)
    row = [
        f"{agents}",
        f"{task.items.shape[1]:,}",
        name,
        f"{seconds * 1e3:.3f}",
        f"{seconds * 1e6 / users:.2f}",
        f"{task.flops / seconds / 1e12:,.1f}",
        percent(product),
        f"{task.bytes / seconds / 1e9:,.0f}",
        percent(copy),
        f"{error:.0e}",
        "" if over_agents else GOALS[agents],
    ]
    numbers = {}
    if not over_agents and length == max(LENGTHS):
        key = f"routing_{agents}_{name.split(':', maxsplit=1)[0].replace(', ', '_').replace(' ', '_')}"
        numbers = {f"{key}_us": seconds * 1e6 / users, f"{key}_share": copy if agents == min(AGENTS) else product}
    return {"rows": [row], "numbers": numbers}


def by_model(lab: Lab, agents: int, length: int) -> Outcome:
    """The plain formula as the model computes it now."""
    work = forms.as_the_model(task_of(lab, agents, length)[0])
    return measure(lab, agents, length, "plain", work, slack=UNROUNDED)


def by_attention(lab: Lab, agents: int, length: int, backend: str) -> Outcome:
    """Attention with the extra column.

    Raises:
        Absent: The backend has no kernel for this on this machine.
    """
    work = forms.by_attention(task_of(lab, agents, length)[0], backend)
    try:
        work()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or broken():
            raise
        raise Absent(f"{backend} has no kernel for this: {one_line(error).split('. ')[0]}") from error
    return measure(lab, agents, length, f"attention, {backend}", work)


def by_flex(lab: Lab, agents: int, length: int, name: str) -> Outcome:
    """FlexAttention."""
    work = forms.by_flex(task_of(lab, agents, length)[0], FLEX[name])
    return measure(lab, agents, length, name, work)


def by_kernel(lab: Lab, agents: int, length: int, gather: bool = False, over_agents: bool = False) -> Outcome:
    """The Triton kernel with the tile that is quickest at the first length it is asked for."""
    task, *_ = task_of(lab, agents, length)
    make = partial(forms.by_kernel, task, gather=gather, over_agents=over_agents)
    kind = f"tile {agents} {gather} {over_agents}"
    tile: Tile = lab.keep(kind, None, lambda: quickest(lab, forms.tiles(agents, over_agents), make))
    name = "triton" + (", gathering" if gather else "") + (", over agents" if over_agents else "")
    return measure(lab, agents, length, f"{name}: {tile}", make(tile), over_agents)


def over_agents_plain(lab: Lab, agents: int, length: int) -> Outcome:
    """The plain formula of the other axis."""
    task, *_ = task_of(lab, agents, length)
    full = task.single()
    _ = full.queries, full.keys, full.own, full.bias

    def work() -> Tensor:
        return torch.bmm(forms.shares(full, over_agents=True).to(task.dtype), task.mixed)

    return measure(lab, agents, length, "plain, over agents", work, over_agents=True, slack=UNROUNDED)


def quickest(lab: Lab, tiles: tuple[Tile, ...], make: Callable[[Tile], Work]) -> Tile:
    """The tile whose kernel takes least time; tiles that the card has no room for drop out.

    Raises:
        Exception: What the last of them says, when all drop out.
    """
    times: dict[Tile, float] = {}
    last: Exception | None = None
    for tile in tiles:
        try:
            times[tile] = typical_seconds(make(tile), lab.device, *((1, 0) if lab.small else (5, 2)))
        except Exception as error:
            if broken():
                raise
            last = error
    if last is not None and not times:
        raise last
    return min(times, key=lambda tile: times[tile])


def broken() -> bool:
    """True when the process can no longer use the device, as after a kernel's illegal access."""
    if not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def cells() -> dict[str, Callable[[Lab], Outcome]]:
    """Longest histories first; all forms of one task together, those that compile long last."""
    loads: dict[str, Callable[[Lab], Outcome]] = {}
    for length in LENGTHS:
        for agents in AGENTS:
            run: dict[str, Callable[..., Outcome]] = {
                "plain": by_model,
                **{f"attention, {one}": partial(by_attention, backend=one) for one in ("cudnn", "flash", "efficient")},
                "triton": by_kernel,
                "triton, gathering": partial(by_kernel, gather=True),
                **{one: partial(by_flex, name=one) for one in list(FLEX)[: 2 if agents < DECODING else 1]},
                "plain, over agents": over_agents_plain,
                "triton, over agents": partial(by_kernel, over_agents=True),
            }
            for name, work in run.items():
                loads[f"{agents} agents, {length:,} events, {name}"] = partial(work, agents=agents, length=length)
    return loads


ROUTING = Section(
    "Routing of HiSAC",
    0.32,
    [
        f"Vectors of {WIDTHS[0]} to route by, values of {WIDTHS[1]}, bf16, as many users as fill the card; times"
        " between CUDA events,",
        "medians. TFLOP/s count the multiply-adds of real agents and events twice, GB/s the bytes that have to move at"
        " least. `plain` is",
        "what the model does now, its scores in fp32; `attention` has the bias as two more columns of the keys (itself,"
        " and what bf16",
        "rounds off it), which stand in the table of items; `gathering` reads the rows of the items itself. Error:"
        " |found - reference| /",
        "|reference|, the reference in fp32 of the same rounded inputs (`plain`: of inputs before rounding). The kernel"
        f" runs on {RUNS_ON}.",
    ],
    [
        "agents",
        "events",
        "form",
        "ms",
        "us a user",
        "TFLOP/s",
        "% of product",
        "GB/s",
        "% of copy",
        "error",
        "goal",
    ],
    cells(),
)
