"""Section `mlflow`: where runs and models are shown."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.base import Section


class MLflowConfig(Section):
    """Where runs and models are shown."""

    tracking_uri: str = Field("sqlite:///mlflow.db", description="SQLite file or a PostgreSQL or HTTP address")
    experiment: str = Field("hisac-lab", description="name of the experiment")
    mirror: bool = Field(True, description="false: the graph leaves MLflow alone until `hisac-lab sync`")
