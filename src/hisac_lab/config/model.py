"""Sections `experiment`, `frame` and `models`: what is trained, and how each model is built."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, RootModel, model_validator

from hisac_lab.base.errors import UserError
from hisac_lab.config.base import Section


class ExperimentConfig(Section):
    """The matrix of training runs."""

    models: tuple[str, ...] = Field(
        ("din_50", "din_whole", "hisac"), min_length=1, description="names from the section `models`"
    )
    seeds: tuple[int, ...] = Field((0, 1), min_length=1, description="one training run per model and seed")

    @model_validator(mode="after")
    def _unique(self) -> ExperimentConfig:
        if len(set(self.models)) < len(self.models) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a model or seed is named twice: name each once")
        return self


class FrameConfig(Section):
    """What every model shares: item encoder, short branch, tower."""

    dim: int = Field(16, ge=4, description="width of item representations and of both branches")
    short_window: int = Field(50, ge=1, description="events the short branch attends to")
    attention_hidden: int = Field(32, ge=1, description="width of the attention unit's hidden layer")
    tower: tuple[int, ...] = Field((64, 32), min_length=1, description="hidden widths of the tower")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the tower")


class DINConfig(Section):
    """Target attention over raw events."""

    kind: Literal["din"] = Field("din", description="DIN")
    whole_history: bool = Field(
        True, description="true: a long branch attends to the whole history; false: the short branch alone"
    )


class HiSACConfig(Section):
    """HiSAC: votes, interest-agents, soft routing."""

    kind: Literal["hisac"] = Field("hisac", description="HiSAC")
    depth: int | None = Field(None, ge=1, description="levels of the codebook in use; null: all")
    agents: int = Field(32, ge=1, description="agents per user at most: the product of the levels' budgets")
    breadth: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of log(agents) spent at the first level; the rest is spread evenly",
    )
    budgets: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="k of each level, written out; overrides agents and breadth"
    )
    temperature: float = Field(0.07, gt=0, description="tau of the routing softmax")
    vote: Literal["tree", "flat"] = Field(
        "tree", description="tree: top-k under each kept parent; flat: the leaves with most votes"
    )
    routing: Literal["soft", "hard"] = Field("soft", description="hard: each event goes to its own leaf's agent")
    softmax_over: Literal["behaviours", "agents"] = Field("behaviours", description="axis of the routing softmax")
    weight: Literal["bias", "factor", "none"] = Field(
        "bias", description="how an agent's votes enter: log-weight on the attention score, factor, or not"
    )
    weight_temperature: float = Field(
        1.0, gt=0, description="softness of the vote weights; 1: share of the votes, larger: more even"
    )
    heads: int = Field(4, ge=1, description="heads of the target attention over agents")


AnyModel: TypeAlias = DINConfig | HiSACConfig
ModelConfig = Annotated[AnyModel, Field(discriminator="kind")]


class Models(RootModel[dict[str, ModelConfig]]):
    """The section `models`: settings by name."""

    model_config = ConfigDict(frozen=True, strict=True)

    def get(self, name: str) -> AnyModel:
        """The settings of one model.

        Raises:
            UserError: There is no model of that name.
        """
        if name not in self.root:
            known = ", ".join(self.root)
            raise UserError("params.yaml", f"{name!r} is not in it (there are: {known})", "add it", "models")
        return self.root[name]
