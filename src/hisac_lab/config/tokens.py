"""Sections `embed` and `tokenize`: item embeddings and their semantic IDs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hisac_lab.config.base import Section


class EmbedConfig(Section):
    """Item embeddings: the frozen semantic space."""

    method: Literal["text", "cooccurrence"] = Field(
        "text", description="text: static word vectors of the items' words; cooccurrence: training histories"
    )
    cooccurrence_dim: int = Field(64, ge=2, description="width of cooccurrence vectors")
    cooccurrence_window: int = Field(10, ge=1, description="events that count as neighbours")
    seed: int = Field(0, ge=0, description="seed of the randomised SVD")


class TokenizeLimits(Section):
    """The gate: the graph stops when a limit is broken."""

    min_use: float = Field(0.5, ge=0, le=1, description="share of a level's codes that must be in use")
    max_collision_rate: float = Field(0.8, ge=0, le=1, description="share of items whose full ID is not theirs alone")
    max_bucket_share: float = Field(0.05, gt=0, le=1, description="share of items on the most crowded ID")


Width = Annotated[int, Field(ge=2)]


class TokenizeConfig(Section):
    """Residual k-means over the item embeddings."""

    widths: tuple[Width, ...] = Field(
        (32, 32, 32), min_length=1, description="codes per level; their number is the depth"
    )
    iterations: int = Field(50, ge=1, description="Lloyd iterations at most, per level")
    seed: int = Field(0, ge=0, description="seed of the k-means++ start")
    limits: TokenizeLimits = Field(TokenizeLimits(), description="the quality gate")
