"""A user state in eight bits a number: each row of a tensor between its own ends, on a logarithmic scale.

A row is a vector, or the counts of one node. It is packed by itself, so that a state depends on its request alone,
whatever stands beside it in a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOW, STEP = ".low", ".step"
CODES = 255
NARROW, WIDE = torch.iinfo(torch.int32).max, torch.iinfo(torch.int64).max


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows of numbers as codes, node and item numbers in four bytes; masks and tensors of one row stay as they are.

    Args:
        tensors: Of R requests, by name; (R, N, D) floats are packed.

    Returns:
        Of each of those codes, (R, N, D) uint8, and under its name with `LOW` and `STEP` the ends they count from and
        the width of a code, (R, N, 1) float16.
    """
    packed: dict[str, Tensor] = {}
    for name, part in tensors.items():
        if part.is_floating_point() and part.dim() == 3 and part.shape[2]:
            scaled = _scale(part.float())
            low, high = scaled.amin(dim=2, keepdim=True), scaled.amax(dim=2, keepdim=True)
            low, step = low.half(), ((high - low) / CODES).half()
            codes = (scaled - low.float()) / torch.where(step > 0, step, 1).float()
            packed[name] = codes.round().clamp(0, CODES).to(torch.uint8)
            packed[name + LOW], packed[name + STEP] = low, step
        else:
            packed[name] = part.clamp(max=NARROW).int() if part.dtype == torch.int64 else part
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` was given, numbers within half a code of it on the logarithmic scale."""
    tensors = {}
    for name, part in packed.items():
        if name + STEP in packed:
            scaled = packed[name + LOW].float() + part.float() * packed[name + STEP].float()
            tensors[name] = scaled.sign() * scaled.abs().expm1()
        elif not name.endswith((LOW, STEP)):
            narrow = part.dtype == torch.int32
            tensors[name] = part.long().masked_fill(part == NARROW, WIDE) if narrow else part
    return tensors


def _scale(values: Tensor) -> Tensor:
    """Counts of one and of thousands side by side: log(1 + |x|) with the sign of x."""
    return values.sign() * values.abs().log1p()
