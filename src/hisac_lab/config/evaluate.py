"""Section `evaluate`: offline evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hisac_lab.config.base import Section


class EvaluateConfig(Section):
    """Offline evaluation on the test period."""

    reference: str = Field("din_50", description="the model every other is compared with")
    top: int = Field(10, ge=1, description="k of NDCG@k and Recall@k")
    bootstrap: int = Field(500, ge=10, description="resamples of the users for each interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of all intervals")
    interval_over: Literal["users", "users_and_seeds"] = Field(
        "users", description="what is drawn for each interval; users_and_seeds: of each model also its seeds"
    )
    slices: int = Field(4, ge=2, description="bins of history length and of item popularity")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")
