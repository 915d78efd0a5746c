"""What can go wrong in the mathematics of training, as one line that names the setting to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.events.batches import Requests

MEMORY = ("out of memory", "not enough memory", "allocate memory")  # GPU; the allocator of the processor; mmap


@contextmanager
def memory_explained(doing: str, field: str, hint: str) -> Iterator[None]:
    """Names the setting to lower when memory runs out, of a GPU or of the machine.

    Args:
        doing: What was under way, with its size.
        field: The setting that decides it.
        hint: What to do.

    Raises:
        UserError: Memory has run out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(sign in text for sign in MEMORY):
            raise
        raise UserError(SETTINGS, f"out of memory in {doing}", hint, field) from error


def step_explained(requests: Requests, index: Array, pieces: int) -> AbstractContextManager[None]:
    """`memory_explained` for one step on the requests at `index`, taken in `pieces` parts."""
    events, candidates = int(requests.lengths[index].max()), requests.candidates.shape[1]
    split = f" in {pieces} parts" if pieces > 1 else ""
    doing = f"a step of {len(index):,} requests, {candidates:,} candidates each, up to {events:,} events{split}"
    hint = "lower it, or raise train.accumulate; prepare.history_limit and backbone.dim count too"
    return memory_explained(doing, "train.batch_requests", hint)


def scoring_explained() -> AbstractContextManager[None]:
    """`memory_explained` for counting votes and scoring, whose batches have a size of their own."""
    return memory_explained("scoring", "prepare.history_limit", "lower it, or backbone.dim")
