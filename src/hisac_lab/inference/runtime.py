"""Where a model runs: device, number format, threads."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import torch

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.compute import ComputeConfig


@dataclass(frozen=True)
class Runtime:
    """A device and a number format.

    Attributes:
        device: Where tensors live.
        mixed: bf16 for matrix products, fp32 for weights.
    """

    device: torch.device
    mixed: bool

    @classmethod
    def start(cls, config: ComputeConfig) -> Runtime:
        """Picks the device, sets the number of threads and asks for deterministic algorithms.

        Portable arithmetic has one thread (see `hisac_lab.base.arithmetic`).

        Of several processes on one machine (`torchrun`), each takes a GPU of its own.

        Raises:
            UserError: A GPU is demanded and there is none, or there are more processes than GPUs.
        """
        torch.set_num_threads(1 if config.arithmetic == "portable" else config.math_threads)
        torch.set_deterministic_debug_mode("warn")  # `use_deterministic_algorithms` loads a compiler
        gpu = torch.cuda.is_available()
        if config.device == "cuda" and not gpu:
            raise UserError(SETTINGS, "is cuda, but no GPU is seen", "set auto or cpu", "compute.device")
        device = torch.device("cuda" if gpu and config.device != "cpu" else "cpu")
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if device.type == "cuda" and place:
            count = torch.cuda.device_count()
            if place >= count:
                what = f"{place + 1} processes or more, but GPUs seen: {count}"
                raise UserError(
                    "torchrun", what, "start one for each GPU, or set compute.device: cpu", "--nproc-per-node"
                )
            torch.cuda.set_device(place)
        arithmetic.computes_on(device.type)
        wanted = {"auto": device.type == "cuda", "fp32": False, "bf16": True}
        return cls(device, wanted[config.precision])

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bf16 where it is safe, or nothing."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else contextlib.nullcontext()
