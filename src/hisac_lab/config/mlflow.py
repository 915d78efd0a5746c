"""Section `mlflow`: where runs and models are shown."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.base import Section


class MLflowConfig(Section):
    """Where runs and models are shown."""

    tracking_uri: str = Field("sqlite:///mlflow.db", description="SQLite file or a PostgreSQL or HTTP address")
    artifact_root: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9+.-]*://.+",
        description="where files of runs and models go, such as s3://bucket/mlflow (the extra s3), for a tracking_uri "
        "that is a database; null: a folder here, or what a server says",
    )
    experiment: str = Field("hisac-lab", description="name of the experiment")
    mirror: bool = Field(True, description="false: the graph leaves MLflow alone until `hisac-lab sync`")
