"""Section `promotion`: the gates in front of the alias champion."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.base import Section


class PromotionConfig(Section):
    """The gates in front of the alias `champion`."""

    min_ab_lift: float = Field(0.0, description="the lower end of the A/B lift's interval must be above it")
    max_calibration_error: float = Field(0.05, gt=0, description="expected calibration error at most")
    max_candidate_cost: float = Field(50000, gt=0, description="multiply-adds per candidate at most")
    max_state_bytes: float = Field(200000, gt=0, description="bytes of user state at most")
