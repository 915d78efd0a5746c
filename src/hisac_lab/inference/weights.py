"""Weights as a safetensors file, where a tensor may come in blocks because it is larger than memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from hisac_lab.base.artifacts import write_file

NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""What safetensors calls the types of numbers, in its own order."""


@dataclass(frozen=True)
class Streamed:
    """A float32 tensor that is written as it comes.

    Attributes:
        shape: Of all of it.
        blocks: Its rows in order, some at a time.
    """

    shape: tuple[int, ...]
    blocks: Iterator[Tensor]


def write_weights(path: Path, tensors: Mapping[str, Tensor], streamed: Mapping[str, Streamed]) -> None:
    """Writes them all; the same bytes as if no tensor had come in blocks.

    Args:
        path: A file that nobody reads before it is whole.
        tensors: By name, contiguous, on the processor.
        streamed: The others, by name.

    Raises:
        ValueError: The blocks of a tensor are not of its shape.
    """
    if not streamed:
        write_file(path, save(dict(tensors)))
        return
    kept = {name: (part.dtype, tuple(part.shape)) for name, part in tensors.items()}
    kept |= {name: (torch.float32, part.shape) for name, part in streamed.items()}
    head, at, order = {}, 0, list(NAMES)
    # As safetensors has it: the types of numbers from the last to the first, then names.
    for name in sorted(kept, key=lambda name: (-order.index(kept[name][0]), name)):
        kind, shape = kept[name]
        end = at + kind.itemsize * math.prod(shape)
        head[name] = {"dtype": NAMES[kind], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in head:
            if name in tensors:
                file.write(tensors[name].numpy().tobytes())
                continue
            written = 0
            for block in streamed[name].blocks:
                file.write(block.contiguous().numpy().tobytes())
                written += len(block)
            if written != streamed[name].shape[0]:
                raise ValueError(f"{name} has {written} rows, not {streamed[name].shape[0]}")
