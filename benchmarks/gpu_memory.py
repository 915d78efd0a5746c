"""Work that is all memory: votes, and rows of tables, beside the speed of a copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from gpu_kernel import rows
from gpu_lab import Lab, Section, Wrong, percent
from machine import typical_seconds
from pages import Outcome
from torch import Tensor

from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.votes import vote
from hisac_lab.ops.jagged import distinct
from hisac_lab.ops.select import take_rows

GOAL = "90 % of copy"
CODES = (64, 16, 8)  # children of the root, of its children, of theirs


def row(lab: Lab, name: str, work: Callable[[], object], moved: int, units: int, unit: str, key: str = "") -> Outcome:
    """Times a piece of work that has to move so many bytes at least."""
    seconds = typical_seconds(work, lab.device, *((3, 1) if lab.small else (30, 5)))
    share = lab.of_copy(moved, seconds)
    cells = [name, f"{seconds * 1e3:.3f}", f"{seconds * 1e9 / units:,.2f} ns {unit}", f"{moved / seconds / 1e9:,.1f}",
             percent(share), GOAL]  # fmt: skip
    return {"rows": [cells], "numbers": {f"{key}_of_copy": share} if key else {}}


def histories(lab: Lab) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Leaves of R histories, (R, L); which events are there; the parents of each level."""

    def make() -> tuple[Tensor, Tensor, list[Tensor]]:
        users, length = (4, 200) if lab.small else (256, 10_000)
        first, second, third = CODES
        sizes = (first, first * second, first * second * third)
        parents = [torch.zeros(first, dtype=torch.int64, device=lab.device)]
        parents += [
            torch.arange(size, device=lab.device) // width for size, width in zip(sizes[1:], CODES[1:], strict=True)
        ]
        random = torch.Generator(lab.device).manual_seed(0)
        draws = torch.rand(users, length, generator=random, device=lab.device)
        leaves = (draws.square() * sizes[-1]).long()  # uneven, as interests are
        mask = torch.ones_like(leaves, dtype=torch.bool)
        mask[::4, : length // 2] = False
        return leaves, mask, parents

    made: tuple[Tensor, Tensor, list[Tensor]] = lab.keep("histories", None, make)
    return made


def dense(nodes: Tensor, votes: Tensor, leaves: int) -> Tensor:
    """Votes of every leaf from votes of some; two (R, U), -1 where none is, to (R, leaves)."""
    found = torch.zeros(len(nodes), leaves, dtype=torch.int64, device=nodes.device)
    return found.scatter_add_(1, nodes.clamp(min=0), torch.where(nodes < 0, 0, votes))


def counted(lab: Lab) -> Tensor:
    """The reference: votes of every leaf, one user after another."""
    leaves, mask, parents = histories(lab)
    size = len(parents[-1])
    return torch.stack([torch.bincount(row[own], minlength=size) for row, own in zip(leaves, mask, strict=True)])


def same(found: Tensor, expected: Tensor) -> None:
    """Raises `Wrong` where counts differ."""
    if not torch.equal(found, expected):
        raise Wrong(f"{int((found != expected).sum())} counts differ from the reference")


def votes_on_processor(lab: Lab) -> Outcome:
    """`vote`: what trains and serves; events go to the processor and agents come back."""
    leaves, mask, parents = histories(lab)
    size = len(parents[-1])
    every = vote(leaves, mask, parents, Election((size,), "flat"))
    same(dense(every.nodes, every.votes, size), counted(lab))
    name = "vote, 64 agents: counted on the processor, copies with it"
    work = partial(vote, leaves, mask, parents, Election((16, 2, 2)))
    return row(lab, name, work, moved(leaves, 64), leaves.numel(), "an event", "votes_on_processor")


def votes_by_sort(lab: Lab) -> Outcome:
    """`distinct` of the leaves: votes and places on the device, as the votes of paths are counted."""
    leaves, mask, parents = histories(lab)
    found = distinct(leaves, mask)
    same(dense(found.values, found.counts, len(parents[-1])), counted(lab))
    return row(lab, "distinct: one sort, on the device", partial(distinct, leaves, mask),
               moved(leaves, found.values.shape[1]) + 8 * leaves.numel(), leaves.numel(), "an event",
               "votes_by_sort")  # fmt: skip


def votes_by_adding(lab: Lab) -> Outcome:
    """A dense histogram of the leaves by additions in place."""
    leaves, mask, parents = histories(lab)
    size = len(parents[-1])
    ones = mask.to(torch.int32)

    def work() -> Tensor:
        return torch.zeros(len(leaves), size, dtype=torch.int32, device=leaves.device).scatter_add_(1, leaves, ones)

    same(work().long(), counted(lab))
    least = leaves.numel() * (8 + 4) + 4 * len(leaves) * size
    return row(lab, "histogram of all leaves: scatter_add", work, least, leaves.numel(), "an event", "votes_by_adding")


def moved(leaves: Tensor, kept: int) -> int:
    """Bytes of leaves and mask read, and of so many nodes and votes a user written."""
    return leaves.numel() * (8 + 1) + 16 * len(leaves) * kept


def gather(lab: Lab, width: int, dtype: torch.dtype, function: Callable[[Tensor, Tensor], Tensor]) -> Outcome:
    """Rows of a table larger than the caches, at random places."""
    rows, count = (1_000, 2_000) if lab.small else (4_000_000, 4_000_000)

    def make() -> tuple[Tensor, Tensor]:
        random = torch.Generator(lab.device).manual_seed(0)
        table = torch.randn(rows, width, generator=random, device=lab.device).to(dtype)
        return table, torch.randint(rows, (count,), generator=random, device=lab.device)

    table, places = lab.keep("table", (width, dtype), make)
    probe = torch.arange(0, count, count // 100, device=lab.device)
    if not torch.equal(function(table, places)[probe], torch.stack([table[place] for place in places[probe]])):
        raise Wrong("rows differ from those of the table")
    short = str(dtype).removeprefix("torch.")
    name = f"{function.__name__}: rows of {width} {short}"
    least = count * (8 + 2 * width * dtype.itemsize)
    return row(
        lab, name, partial(function, table, places), least, count, "a row", f"{function.__name__}_{width}_{short}"
    )


def embedding(table: Tensor, places: Tensor) -> Tensor:
    """`functional.embedding`, its arguments in the order of `take_rows`."""
    return torch.nn.functional.embedding(places, table)


def subscript(table: Tensor, places: Tensor) -> Tensor:
    """`table[places]`."""
    return table[places]


MEMORY = Section(
    "Votes and rows of tables",
    0.07,
    [
        "256 users of 10,000 events for votes, 4,000,000 rows out of as many for tables; bytes are those that have to"
        " move at least.",
    ],
    ["work", "ms", "each", "GB/s", "% of copy", "goal"],
    {
        "gather 128 bf16": partial(gather, width=128, dtype=torch.bfloat16, function=take_rows),
        "gather 128 bf16, embedding": partial(gather, width=128, dtype=torch.bfloat16, function=embedding),
        "gather 128 bf16, places": partial(gather, width=128, dtype=torch.bfloat16, function=subscript),
        "gather 128 bf16, kernel": partial(gather, width=128, dtype=torch.bfloat16, function=rows),
        "gather 16 fp32, kernel": partial(gather, width=16, dtype=torch.float32, function=rows),
        "gather 64 fp32": partial(gather, width=64, dtype=torch.float32, function=take_rows),
        "gather 16 fp32": partial(gather, width=16, dtype=torch.float32, function=take_rows),
        "votes, sort": votes_by_sort,
        "votes, histogram": votes_by_adding,
        "votes, processor": votes_on_processor,
    },
)
