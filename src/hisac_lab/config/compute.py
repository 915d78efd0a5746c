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
    arithmetic: Literal["portable", "native"] = Field(
        "portable",
        description="portable: the same bytes on every x86-64 processor with AVX2; native: the fastest code of each",
    )
    math_threads: int = Field(
        1,
        ge=1,
        description="threads inside one process; portable arithmetic uses them only where no result depends on them",
    )
