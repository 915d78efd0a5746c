"""Section `sweep`: the Optuna study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hisac_lab.config.base import Section

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(gt=0)]


class SweepConfig(Section):
    """The Optuna study; the last five fields are its search space."""

    model: str = Field("hisac", description="the model that is tuned; its winner is what `train` trains")
    trials: int = Field(12, ge=1, description="trials in all")
    round_size: int = Field(4, ge=1, description="trials asked for at once; they run in parallel")
    seed: int = Field(0, ge=0, description="seed of the study")
    train_share: float = Field(0.6, gt=0, le=1, description="share of the training requests a trial sees, the latest")
    epochs: int = Field(2, ge=1, description="epochs of a trial")
    standard_errors: float = Field(
        2.0,
        ge=0,
        description="the choice: the cheapest trial whose AUC is so many standard errors below the best at most",
    )
    agents: tuple[Positive, ...] = Field((4, 8, 16, 32, 64), min_length=1, description="agent counts")
    depth: tuple[Positive, ...] = Field((1, 2, 3), min_length=1, description="codebook depths")
    breadth: tuple[Share, ...] = Field((0.4, 0.6, 0.8), min_length=1, description="splits into per-level budgets")
    temperature: tuple[Temperature, ...] = Field((0.03, 0.07, 0.15), min_length=1, description="temperatures")

    @model_validator(mode="after")
    def _whole_rounds(self) -> SweepConfig:
        if self.trials % self.round_size:
            raise ValueError("trials must be a multiple of round_size")
        return self
