"""Sections `evaluate`, `abtest`, `promotion` and `mlflow`: how models are judged, kept and shown."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.base import Section


class EvaluateConfig(Section):
    """Offline evaluation on the test period."""

    reference: str = Field("din_50", description="the model every other is compared with")
    top: int = Field(10, ge=1, description="k of NDCG@k and Recall@k")
    bootstrap: int = Field(500, ge=10, description="resamples of the users for each interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of all intervals")
    slices: int = Field(4, ge=2, description="bins of history length and of item popularity")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")


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


class PromotionConfig(Section):
    """The gates in front of the alias `champion`."""

    min_ab_lift: float = Field(0.0, description="the lower end of the A/B lift's interval must be above it")
    max_calibration_error: float = Field(0.05, gt=0, description="expected calibration error at most")
    max_candidate_cost: float = Field(50000, gt=0, description="multiply-adds per candidate at most")
    max_state_bytes: float = Field(200000, gt=0, description="bytes of user state at most")


class MLflowConfig(Section):
    """Where runs and models are shown."""

    tracking_uri: str = Field("sqlite:///mlflow.db", description="SQLite file or a PostgreSQL or HTTP address")
    experiment: str = Field("hisac-lab", description="name of the experiment")
    mirror: bool = Field(True, description="false: the graph leaves MLflow alone until `hisac-lab sync`")
