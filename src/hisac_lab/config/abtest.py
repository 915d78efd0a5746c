"""Section `abtest`: the simulated A/B test."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.base import Section


class ABTestConfig(Section):
    """The simulated A/B test."""

    control: str = Field("din_50", description="the policy of the control arm")
    users: int = Field(
        400000, ge=100, description="simulated users, both arms together; enough to see a lift of 0.25 %"
    )
    visits: int = Field(5, ge=1, description="slates each user is shown")
    pool: int = Field(100, ge=2, description="items a policy chooses a slate from")
    slate: int = Field(10, ge=1, description="items on a slate")
    taste_noise: float = Field(0.3, ge=0, description="how far a simulated user's taste is from the real one's")
    world_dim: int = Field(8, ge=1, description="factors of the fitted world")
    world_penalty: float = Field(0.02, gt=0, description="L2 penalty per event on the world's parameters")
    split_salt: str = Field("hisac-lab", description="salt of the user hash; a new experiment takes a new one")
    seed: int = Field(0, ge=0, description="seed of tastes, pools and clicks")
