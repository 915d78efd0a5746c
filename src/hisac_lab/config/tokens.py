"""Sections `embed` and `tokenize`: item embeddings and their semantic IDs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from hisac_lab.base import plugins
from hisac_lab.config.base import Section


def flat_names(widths: Sequence[int]) -> list[str]:
    """flat_WIDTH; the second of a width is flat_WIDTH_2."""
    repeats = [list(widths[: place + 1]).count(width) for place, width in enumerate(widths)]
    return [
        f"flat_{width}" + (f"_{repeat}" if repeat > 1 else "") for width, repeat in zip(widths, repeats, strict=True)
    ]


VectorSource = Literal["text", "supplied", "sentence_transformers", "cooccurrence"]


class EmbedConfig(Section):
    """Item embeddings: the frozen semantic space."""

    method: Literal["text", "supplied", "sentence_transformers", "cooccurrence", "concat"] = Field(
        "text",
        description="text: static word vectors; supplied: vectors in the data; sentence_transformers: your model; "
        "cooccurrence: training histories; concat: several",
    )
    without_text: Literal["zero", "fields", "refuse"] = Field(
        "zero",
        description="an item without a known word: has no vector, hence no semantic ID; is told by the words of its "
        "categorical fields; or stops the graph",
    )
    model_path: str | None = Field(None, description="sentence_transformers only: the folder of the model")
    concat: dict[VectorSource, Annotated[float, Field(gt=0)]] = Field(
        {"text": 1.0, "cooccurrence": 1.0}, min_length=1, description="concat only: weight of each part, unit rows each"
    )
    previous: str | None = Field(
        None,
        description="a copy of an earlier output of this stage, or champion/embed: items are centered by its means, so "
        "that they keep their vectors; not with cooccurrence",
    )
    cooccurrence_dim: int = Field(64, ge=2, description="width of cooccurrence vectors")
    cooccurrence_window: int = Field(10, ge=1, description="events that count as neighbors")
    cooccurrence_shift: float = Field(1.0, ge=1, description="k of shifted PPMI: log k is taken off; 1 is plain PPMI")
    seed: int = Field(0, ge=0, description="seed of the randomized SVD")

    @model_validator(mode="after")
    def _histories_are_of_their_day(self) -> EmbedConfig:
        parts = self.concat if self.method == "concat" else {self.method}
        if self.previous is not None and "cooccurrence" in parts:
            raise ValueError("previous is set, but vectors of cooccurrence are learned anew each day: set it null")
        return self

    @model_validator(mode="after")
    def _a_model_is_named(self) -> EmbedConfig:
        wanted = self.method == "sentence_transformers" or (
            self.method == "concat" and "sentence_transformers" in self.concat
        )
        if wanted and self.model_path is None:
            raise ValueError("model_path is null, but sentence_transformers needs it: name the folder of a model")
        return self


class RQVAEConfig(Section):
    """The autoencoder whose latent space is quantized."""

    latent: int = Field(32, ge=2, description="width of the latent space")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((128,), description="hidden widths of the encoder")
    steps: int = Field(3000, ge=1, description="training steps")
    batch: int = Field(512, ge=1, description="items per step")
    learning_rate: float = Field(0.001, gt=0, description="Adam")
    commitment: float = Field(0.25, ge=0, description="beta: weight of the pull of latents toward their codewords")
    revive_every: int = Field(100, ge=1, description="steps after which unused codes move to badly served items")


class TokenizeLimits(Section):
    """The gate: the graph stops when a limit is broken."""

    min_use: float = Field(0.5, ge=0, le=1, description="share of a level's codes that must be in use")
    min_evenness: float = Field(0.02, ge=0, le=1, description="perplexity of a level over its width")
    min_fan_out: float = Field(1.0, ge=0, description="children per parent, mean, at the second level")
    min_occupancy: float = Field(
        0.05, ge=0, description="distinct IDs over those that as many items would take if each fell on one at random"
    )
    max_bucket_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of items on the most crowded ID; null: a twentieth, or four times an ID's fair part",
    )
    min_explained_variance: float = Field(0.1, le=1, description="of the embeddings, by the full ID")
    min_neighbor_overlap: float = Field(0.02, ge=0, le=1, description="share of nearest neighbors that the ID keeps")
    min_purity_lift: float = Field(
        1.0, ge=0, description="how much likelier two items of a first code share their category than any two"
    )
    min_seed_agreement: float = Field(0.0, ge=-1, le=1, description="adjusted Rand index of two seeds' first codes")


Width = Annotated[int, Field(ge=2)]
if TYPE_CHECKING:
    Method: TypeAlias = str
else:
    Method = Literal[("residual_kmeans", "rqvae", "random", *plugins.names(plugins.QUANTIZERS))]


class TokenizeConfig(Section):
    """The quantizer of the item embeddings."""

    method: Method = Field(
        "residual_kmeans",
        description="residual_kmeans: of the embeddings; rqvae: of a learned latent space; random: a control",
    )
    widths: tuple[Width, ...] = Field(
        (32, 32, 32), min_length=1, description="codes per level; their number is the depth"
    )
    flat: tuple[Width, ...] = Field(
        (),
        description="widths of flat k-means codebooks beside the IDs, for votes; named flat_256, the next of a width "
        "flat_256_2",
    )
    fit: Literal["full", "mini_batch"] = Field(
        "full", description="residual_kmeans: full passes over a sample held in memory, or mini-batches from the disk"
    )
    iterations: int = Field(50, ge=1, description="passes (or mini-batches) at most, per level")
    sample_per_code: int = Field(512, ge=1, description="items per code of the widest level that a full fit looks at")
    batch: int = Field(8192, ge=1, description="items of a mini-batch")
    balanced: bool = Field(False, description="residual_kmeans: even out the codes by a price on crowded ones")
    previous: str | None = Field(
        None,
        description="a copy of an earlier output of this stage, or champion/tokens: the fit starts there and keeps "
        "code numbers",
    )
    frozen: bool = Field(False, description="previous only: no fit, the codewords stay as they are")
    seed: int = Field(0, ge=0, description="seed of starts, samples and batches")
    rqvae: RQVAEConfig = Field(RQVAEConfig(), description="rqvae only: the autoencoder")
    neighbors: int = Field(10, ge=1, description="the gate: nearest neighbors that are compared")
    probes: int = Field(1000, ge=1, description="the gate: items whose neighbors are compared")
    compare_seeds: bool = Field(True, description="the gate: fit once more with the next seed and compare")
    limits: TokenizeLimits = Field(TokenizeLimits(), description="the quality gate")

    @model_validator(mode="after")
    def _codes_can_be_balanced(self) -> TokenizeConfig:
        if self.balanced and (self.method, self.fit) != ("residual_kmeans", "full"):
            raise ValueError("balanced is true, but only method: residual_kmeans with fit: full can even out codes")
        return self

    @model_validator(mode="after")
    def _what_is_frozen_was_fitted(self) -> TokenizeConfig:
        if self.frozen and self.previous is None:
            raise ValueError("frozen is true, but previous is null: name the earlier output whose codewords stay")
        return self

    @model_validator(mode="after")
    def _random_codes_stand_alone(self) -> TokenizeConfig:
        if self.flat and self.method == "random":
            raise ValueError(f"flat is {list(self.flat)}, but method: random has no geometry: set flat: []")
        return self
