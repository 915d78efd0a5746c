"""What the routing kernel uses of Triton's language, on tensors, for machines without Triton.

One program of the grid runs after another, and the kernel's own lines run as plain Python: its arithmetic and its masks
are tried, its speed is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

constexpr = Any
int64, float32 = torch.int64, torch.float32
exp2, where, maximum = torch.exp2, torch.where, torch.maximum
_place = [0, 0]


@dataclass(frozen=True)
class Pointer:
    """Places in a tensor's memory.

    Attributes:
        memory: The tensor, flat.
        places: Of any shape, int64.
    """

    memory: Tensor
    places: Tensor

    def __add__(self, steps: Tensor) -> Pointer:
        return Pointer(self.memory, self.places + steps)


class Launcher:
    """A kernel that is started as Triton's are: `kernel[grid](arguments)`."""

    def __init__(self, body: Callable[..., None]) -> None:
        self.body = body

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        def launch(*arguments: Any, num_warps: int = 0, num_stages: int = 0, **constants: Any) -> None:
            start = torch.zeros((), dtype=torch.int64)
            given = [Pointer(one.view(-1), start) if isinstance(one, Tensor) else one for one in arguments]
            for at in itertools.product(*map(range, grid)):
                _place[:] = at
                self.body(*given, **constants)

        return launch


jit = Launcher


def program_id(axis: int) -> Tensor:
    """Place of the running program in the grid."""
    return torch.tensor(_place[axis])


def arange(begin: int, end: int) -> Tensor:
    """Whole numbers."""
    return torch.arange(begin, end)


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros."""
    return torch.zeros(shape, dtype=dtype)


def full(shape: tuple[int, ...], value: float, dtype: torch.dtype) -> Tensor:
    """One value everywhere."""
    return torch.full(shape, value, dtype=dtype)


def load(pointer: Pointer, mask: Tensor, other: float) -> Tensor:
    """What stands at the places, `other` where masked."""
    places, mask = torch.broadcast_tensors(pointer.places, mask)  # type: ignore[no-untyped-call]
    found = pointer.memory[torch.where(mask, places, 0)]
    return torch.where(mask, found, torch.tensor(other, dtype=found.dtype))


def store(pointer: Pointer, values: Tensor, mask: Tensor) -> None:
    """Writes where the mask is true; numbers take the memory's format."""
    places, mask, values = torch.broadcast_tensors(pointer.places, mask, values)  # type: ignore[no-untyped-call]
    pointer.memory[places[mask]] = values[mask].to(pointer.memory.dtype)


def dot(one: Tensor, other: Tensor, acc: Tensor | None = None, input_precision: str = "ieee") -> Tensor:
    """Matrix product in fp32, added to `acc`."""
    product = one.float() @ other.float()
    return product if acc is None else acc + product


def trans(values: Tensor) -> Tensor:
    """Transposed."""
    return values.t()


def max(values: Tensor, axis: int) -> Tensor:
    """Largest along an axis."""
    return values.amax(dim=axis)


def sum(values: Tensor, axis: int) -> Tensor:
    """Sum along an axis."""
    return values.sum(dim=axis)
