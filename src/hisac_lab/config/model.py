"""Sections `experiment`, `backbone` and `instances`, and what the settings of models share.

The settings of each model stand beside its branch, in `hisac_lab.models`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import Field, model_validator

from hisac_lab.config.base import Name, Section, Seed, Size
from hisac_lab.config.train import TunedConfig


class ExperimentConfig(Section):
    """The matrix of training runs."""

    models: tuple[Name, ...] = Field(
        ("din_50", "din_whole", "hisac", "item_alone", "user_alone"),
        min_length=1,
        description="names from the section `models`",
    )
    seeds: tuple[Seed, ...] = Field((0, 1), min_length=1, description="one training run per model and seed")
    tuned: dict[Name, TunedConfig] = Field(
        {},
        description="rates, schedule, batch, epochs, labels and width of single models, by name, in place of the "
        "sections'",
    )

    @model_validator(mode="after")
    def _unique(self) -> ExperimentConfig:
        if len(set(self.models)) < len(self.models) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a model or seed is named twice: name each once")
        return self


Feature: TypeAlias = Literal[
    "length",
    "recency",
    "pace",
    "rate",
    "day",
    "week",
    "user",
    "request",
    "item_recency",
    "popularity",
    "item_rate",
    "pair",
]


TaskWeight = Annotated[float, Field(gt=0, le=1000)]


class BackboneConfig(Section):
    """What every model shares: item encoder, short branch, tower."""

    dim: int = Field(16, ge=4, description="width of item representations and of both branches")
    features: tuple[Feature, ...] = Field(
        ("length", "recency", "pace", "rate", "user", "request", "item_recency", "popularity", "item_rate", "pair"),
        description="of the user: length of the history, recency of its newest event, pace (events per day), rate "
        "(share of positives), user (the data set's columns of its users); of the request: day, week (time of day, of "
        "the week, both UTC), request (its columns of requests); of a candidate, from everybody's events before the "
        "request: item_recency (days since the last positive), popularity (positives), item_rate (positives per "
        "exposure); pair (the user's own events on it). What the data cannot give is left out",
    )
    semantic_std: float | None = Field(
        None,
        gt=0,
        description="spread of the first weights on the frozen vector; null: torch's, quiet for wide vectors",
    )
    short_window: int = Field(50, ge=1, description="events the short branch attends to")
    attention_hidden: int = Field(32, ge=1, description="width of the attention unit's hidden layer")
    tower: tuple[Size, ...] = Field((64, 32), min_length=1, description="hidden widths of the tower")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the tower")
    feedback: bool = Field(
        True, description="every event of a history is told with its feedback, where the log has one"
    )
    tasks: dict[Name, TaskWeight] = Field(
        {},
        description="what a model learns to answer beside the label, by the names of prepare.tasks, and the weight of "
        "its loss; the label's is 1",
    )
    table_mb: float | None = Field(
        None, gt=0, description="MB the item table and its optimizer state may take; more items share rows; null: any"
    )


class Attention(NamedTuple):
    """How target attention weighs events, and whether it tells how much it found.

    Attributes:
        weights: softmax: weights sum to one; sigmoid: each event has its own, and events are summed.
        soft_counts: log(1 + sum of e^score) of each head goes to the tower.
    """

    weights: Literal["softmax", "sigmoid"] = "softmax"
    soft_counts: bool = False


USUAL = Attention()


class ModelConfig(Section):
    """An entry of the section `models`: the base of each model's settings, which stand beside its branch.

    Attributes:
        configurable: Whether the section `models` may name this kind.
        needs_instances: Whether the kind makes or reads an instance store.
        learns: Whether its runs learn, so that another seed gives another model.
    """

    configurable: ClassVar[bool] = True
    needs_instances: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    kind: str

    @property
    def attention(self) -> Attention:
        """Of the short branch, and of a long branch that attends."""
        return USUAL

    @property
    def control(self) -> Literal["item", "user"] | None:
        """The only side of a request that it reads; None: it reads both.

        A board's page has such controls in its tables of all models; charts of differences leave them out.
        """
        return None


class SequenceConfig(ModelConfig):
    """What models share whose long branch reads the events of a history."""

    length: int | None = Field(
        None,
        ge=1,
        description="newest events that the long branch reads; null: all. What every model is told, as the short "
        "branch's window and the length of the history, stays as it is",
    )


class StateConfig(SequenceConfig):
    """What models with a state flat in the length of history share: how it is kept."""

    state_bits: Literal[8, 32] = Field(
        32, description="bits of a number in the state that is kept of a request; training knows 32 alone"
    )


class AttentionConfig(SequenceConfig):
    """What models share whose candidates attend to events, or to vectors that stand for events."""

    soft_counts: bool = Field(
        False,
        description="log(1 + sum of e^score) of each attention head, the short branch's too, goes to the tower: how "
        "much was found, which a softmax divides away",
    )

    @property
    def attention(self) -> Attention:
        """With or without soft counts."""
        return Attention(soft_counts=self.soft_counts)


class ValueConfig(AttentionConfig, StateConfig):
    """What compressors share: time decay of the values, and who reads the compressed sequence."""

    decay: Literal["exponential", "power", "none"] = Field(
        "exponential", description="how an event's value shrinks: e^(-rate days), (1 + days)^-rate, or not"
    )
    decay_rate: float = Field(0.01815, gt=0, description="where the learned rate starts")
    reader: Literal["attention", "transformer"] = Field(
        "attention", description="target attention, at once or after a transformer block over the compressed sequence"
    )
    heads: int = Field(4, ge=1, description="heads of the reader")


class SourceConfig(Section):
    """IAT, stage one: what compresses each training instance to a vector."""

    order: str
    dim: int = Field(64, ge=1, description="width of an instance")
    decoder: tuple[Size, ...] = Field((256,), min_length=1, description="hidden widths of the decompressor")
    window: int = Field(256, ge=2, description="instances the transformer reads, the current one with them")
    layers: int = Field(2, ge=1, description="blocks of the instance transformer")
    heads: int = Field(4, ge=1, description="its heads")


class InstancesConfig(SourceConfig):
    """The store of instances that models of kind iat read."""

    order: Literal["none", "temporal", "user", "both"] = Field(
        "none",
        description="none: no store; temporal: each instance is compressed alone; user: a transformer over the user's "
        "earlier instances shapes the compressor; both: two stores, and each model says which it reads",
    )
    features: tuple[Feature, ...] | None = Field(
        None, description="what the compressor is told, as backbone.features names it; null: those features"
    )
    logged: tuple[Name, ...] | None = Field(
        None,
        description="what the log says of an exposure, such as its position or propensity, that the compressor reads; "
        "rankers are told the columns of requests alone; null: every such column of the data set",
    )
    tower: tuple[Size, ...] | None = Field(
        None, min_length=1, description="hidden widths of the compressor's tower; null: those of backbone.tower"
    )
    chunks: int = Field(
        16, ge=1, description="parts of the training period; each is compressed before the compressor learns from it"
    )
    label_delay: int = Field(3600, ge=0, description="seconds after which an instance's label is known")
    basis: Literal["own", "last"] = Field(
        "own",
        description="own: a vector stays as the weights of its chunk wrote it; last: vectors of each chunk are rotated "
        "toward what the last weights make of the same instances",
    )
    precision: Literal["float16", "float32"] = Field("float16", description="how a stored number is kept")
    seed: int = Field(0, ge=0, description="seed of the compressor's weights, order and dropout")
