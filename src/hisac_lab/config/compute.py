"""Section `compute`: where and in which number format the mathematics runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hisac_lab.config.base import Section


class ComputeConfig(Section):
    """Where the mathematics runs."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto is bf16 mixed precision on a GPU and fp32 on a CPU"
    )
    math_threads: int = Field(
        1, ge=1, description="threads inside one process; results depend on it, so it is never guessed"
    )
