"""Section `serve`: the server in front of a promoted version."""

from __future__ import annotations

from pydantic import Field

from hisac_lab.config.base import Section


class ServeConfig(Section):
    """The server in front of a promoted version."""

    alias: str = Field("champion", description="which version of the product answers")
    host: str = Field(
        "127.0.0.1", description="address that is listened at; anything else than this machine needs a token"
    )
    port: int = Field(8080, ge=1, le=65535, description="port")
    workers: int = Field(1, ge=1, le=64, description="processes, each with the model in memory and one thread")
    states: str = Field(
        "sqlite:.work/states.db",
        description="where users' histories and states are: sqlite:FILE or redis://HOST:PORT/N",
    )
    refresh_seconds: int = Field(
        300, ge=0, description="a stored state answers requests until this long after it was made; 0: it is made anew"
    )
    max_candidates: int = Field(4096, ge=1, le=1_000_000, description="candidates of a request at most")
    max_history: int = Field(50_000, ge=1, le=10_000_000, description="events in a request at most")
    max_body_mb: float = Field(16.0, gt=0, le=1024, description="megabytes of a request's body at most")
    budget_ms: int = Field(1000, ge=1, le=600_000, description="a request that waits longer is given up (HTTP 504)")
    batch: int = Field(16, ge=1, le=1024, description="waiting requests that are answered in one pass at most")
    poll_seconds: float = Field(5.0, gt=0, le=86_400, description="how often the alias is looked up")
    token_variable: str = Field(
        "HISAC_LAB_TOKEN",
        description="environment variable with the token that requests must bring; unset: none is asked",
    )
