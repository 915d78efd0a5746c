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
    features: tuple[Literal["length", "recency", "pace", "day", "week"], ...] = Field(
        ("length",),
        description="of the user: length of the history, recency of its newest event, pace (events per day); "
        "of the request: time of day, time of week (both UTC)",
    )
    semantic_std: float | None = Field(
        None,
        gt=0,
        description="spread of the first weights on the frozen vector; null: torch's, quiet for wide vectors",
    )
    short_window: int = Field(50, ge=1, description="events the short branch attends to")
    attention_hidden: int = Field(32, ge=1, description="width of the attention unit's hidden layer")
    tower: tuple[int, ...] = Field((64, 32), min_length=1, description="hidden widths of the tower")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the tower")
    table_mb: float | None = Field(
        None, gt=0, description="MB the item table and its optimiser state may take; more items share rows; null: any"
    )


class DINConfig(Section):
    """Target attention over raw events."""

    kind: Literal["din"] = Field("din", description="DIN")
    whole_history: bool = Field(
        True, description="true: a long branch attends to the whole history; false: the short branch alone"
    )


class MeanConfig(Section):
    """Mean pooling."""

    kind: Literal["mean"] = Field("mean", description="mean pooling of the whole history")


class SIMConfig(Section):
    """SIM: a search for few events, then attention over them."""

    kind: Literal["sim"] = Field("sim", description="SIM, hard or soft")
    search: Literal["code", "field", "embedding", "semantic"] = Field(
        "code",
        description="hard: events of the candidate's first semantic code, or of its field; "
        "soft: largest product of learnt embeddings, or cosine of frozen ones",
    )
    field: int = Field(0, ge=0, description="search field only: which item field, counted from 0")
    top: int = Field(50, ge=1, description="events kept per candidate")
    heads: int = Field(4, ge=1, description="heads of the attention over kept events")


class ETAConfig(Section):
    """ETA: search by Hamming distance of SimHash signatures."""

    kind: Literal["eta"] = Field("eta", description="ETA")
    bits: int = Field(32, ge=1, description="bits of a signature")
    top: int = Field(50, ge=1, description="events kept per candidate")
    heads: int = Field(4, ge=1, description="heads of the attention over kept events")
    seed: int = Field(0, ge=0, description="seed of the random planes")


class SDIMConfig(Section):
    """SDIM: events whose hashes collide with the candidate's are summed."""

    kind: Literal["sdim"] = Field("sdim", description="SDIM")
    groups: int = Field(16, ge=1, description="independent hashes; the answer is their mean")
    bits: int = Field(3, ge=1, le=16, description="bits of one hash")
    normalise: bool = Field(True, description="scale each hash's sum to unit length")
    seed: int = Field(0, ge=0, description="seed of the random planes")


class TWINConfig(Section):
    """TWIN: the search ranks events by the attention's own scores."""

    kind: Literal["twin"] = Field("twin", description="TWIN")
    top: int = Field(50, ge=1, description="events kept per candidate and head")
    heads: int = Field(4, ge=1, description="heads of the attention")
    cross: bool = Field(True, description="a learnt bias per head and age: the cross feature of an event")


class MIRRNConfig(Section):
    """MIRRN: three searches, a filter over each, attention over the three answers."""

    kind: Literal["mirrn"] = Field("mirrn", description="MIRRN")
    bits: int = Field(32, ge=1, description="bits of a signature")
    top: int = Field(16, ge=1, description="events kept per search")
    recent: int = Field(16, ge=1, description="newest events whose mean is the local query")
    heads: int = Field(4, ge=1, description="blocks of the Fourier filter and heads of the attention")
    seed: int = Field(0, ge=0, description="seed of the random planes")


class SAMConfig(Section):
    """SAM: a memory that reads the whole history several times for each candidate."""

    kind: Literal["sam"] = Field("sam", description="SAM; 2P: passes 2, 3P: passes 3, 3P+: passes 3 and enhance")
    passes: int = Field(3, ge=1, description="readings of the history")
    enhance: bool = Field(False, description="a second GRU refines the last memory with the candidate (3P+)")
    memory: Literal["iterating", "fixed"] = Field(
        "iterating", description="what a pass asks with: the memory of the pass before, or always the candidate"
    )
    hidden: int = Field(8, ge=1, description="width of the attention network")
    weight_features: int = Field(16, ge=0, description="features made of the attention weights by place; 0: none")
    positions: int = Field(1000, ge=1, description="newest places those features look at")
    norm: Literal["batch", "layer", "none"] = Field("batch", description="normalisation of the output without enhance")
    scale_sum: bool = Field(False, description="divide the sum over L events by the square root of L")


class TransformerConfig(Section):
    """Self-attention over the newest events."""

    kind: Literal["transformer"] = Field("transformer", description="causal transformer over raw events")
    block: Literal["softmax", "hstu"] = Field("softmax", description="softmax: SASRec-like; hstu: HSTU-like")
    readout: Literal["candidate", "last"] = Field(
        "candidate", description="candidate: it stands as the next event; last: the newest event's output answers all"
    )
    window: int = Field(200, ge=1, description="newest events it reads; cost is quadratic in it")
    layers: int = Field(2, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="heads")


class ValueConfig(Section):
    """What compressors share: time decay of the values, and who reads the compressed sequence."""

    kind: str
    decay: Literal["exponential", "power", "none"] = Field(
        "exponential", description="how an event's value shrinks: e^(-rate days), (1 + days)^-rate, or not"
    )
    decay_rate: float = Field(0.01815, gt=0, description="where the learnt rate starts")
    reader: Literal["attention", "transformer"] = Field(
        "attention", description="target attention, at once or after a transformer block over the compressed sequence"
    )
    heads: int = Field(4, ge=1, description="heads of the reader")


class CompressConfig(ValueConfig):
    """Linear-time compressors of a history to K vectors."""

    kind: Literal["compress"] = Field("compress", description="a compressor beside HiSAC")
    by: Literal["kmeans", "lsh", "patches", "queries"] = Field(
        "kmeans",
        description="kmeans and lsh: clusters of frozen embeddings; patches: equal stretches of the sequence; "
        "queries: attention of K learnt queries",
    )
    size: int = Field(32, ge=1, description="vectors K; lsh: the power of two at or below it")
    iterations: int = Field(5, ge=1, description="kmeans only: Lloyd iterations")
    seed: int = Field(0, ge=0, description="lsh only: seed of the random planes")


class HiSACConfig(ValueConfig):
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
    every_leaf: bool = Field(False, description="no pruning: every leaf with a vote is an agent (ablation)")
    vote_half_life: float | None = Field(
        None, gt=0, description="days after which a behaviour counts half; null: all count one"
    )
    routing: Literal["soft", "hard"] = Field("soft", description="hard: each event goes to its own leaf's agent")
    route_by: Literal["events", "items", "leaves"] = Field(
        "events",
        description="what is routed: each event; each distinct item once (the same result); each leaf (approximate)",
    )
    path_votes: bool = Field(
        False, description="also tell the tower the votes of each node on the candidate's own path (ours)"
    )
    ids: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: semantic IDs and routing vectors change places among items (control)"
    )
    softmax_over: Literal["behaviours", "agents"] = Field("behaviours", description="axis of the routing softmax")
    weight: Literal["bias", "factor", "none"] = Field(
        "bias", description="how an agent's votes enter: log-weight on the attention score, factor, or not"
    )
    weight_temperature: float = Field(
        1.0, gt=0, description="softness of the vote weights; 1: share of the votes, larger: more even"
    )


class VotesConfig(Section):
    """The votes of the candidate's own path in the codebook, alone: a control for HiSAC."""

    kind: Literal["votes"] = Field("votes", description="votes of the candidate's path, no agents, no attention")


class R2LEDConfig(Section):
    """R2LED: retrieval over routes and views, refinement by gates and cross-attention."""

    kind: Literal["r2led"] = Field("r2led", description="R2LED, a reconstruction from its abstract")
    routes: tuple[Literal["target", "recent", "global"], ...] = Field(
        ("target", "recent", "global"), min_length=1, description="what each search starts from"
    )
    mix: Literal["score", "union", "cascade", "collaborative", "semantic", "random", "newest"] = Field(
        "score",
        description="how views choose events: weighted score, half from each, semantic then collaborative, one alone; "
        "random and newest are controls",
    )
    weight: float = Field(0.5, ge=0, le=1, description="mix score only: share of the collaborative view")
    top: int = Field(16, ge=1, description="events kept per route")
    recent: int = Field(16, ge=1, description="newest events the recent route starts from")
    bits: int = Field(32, ge=1, description="bits of a signature in the collaborative view")
    depth: int | None = Field(None, ge=1, description="levels of the semantic IDs in use; null: all")
    level_gate: bool = Field(True, description="a gate weighs the levels; false: their mean")
    fuse: Literal["views", "items"] = Field(
        "views", description="views: each view is attended to by itself; items: a gate mixes them in each event first"
    )
    fusion: Literal["attention", "concat", "mean"] = Field("attention", description="how the routes' answers meet")
    heads: int = Field(4, ge=1, description="heads of all attentions")
    ids: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: semantic IDs change places among items (control)"
    )
    seed: int = Field(0, ge=0, description="seed of planes, shuffles and the random control")


class SourceConfig(Section):
    """IAT, stage one: what compresses each training instance to a vector."""

    order: str
    dim: int = Field(64, ge=1, description="width of an instance")
    decoder: tuple[int, ...] = Field((256,), min_length=1, description="hidden widths of the decompressor")
    window: int = Field(256, ge=2, description="instances the transformer reads, the current one with them")
    layers: int = Field(2, ge=1, description="blocks of the instance transformer")
    heads: int = Field(4, ge=1, description="its heads")


class IATSourceConfig(SourceConfig):
    """The source model as it is saved; it is set in the section `instances`, not in `models`."""

    kind: Literal["iat_source"] = Field("iat_source", description="IAT's source model")
    order: Literal["temporal", "user"] = Field(
        "user", description="temporal: each instance alone; user: a transformer reads the user's earlier instances"
    )


class InstancesConfig(SourceConfig):
    """The store of instances that models of kind iat read."""

    order: Literal["none", "temporal", "user"] = Field(
        "none",
        description="none: no store; temporal: each instance is compressed alone; "
        "user: a transformer over the user's earlier instances shapes the compressor",
    )
    stretches: int = Field(
        16, ge=1, description="parts of the training period; each is compressed before the compressor learns from it"
    )
    label_delay: int = Field(3600, ge=0, description="seconds after which an instance's label is known")
    precision: Literal["float16", "float32"] = Field("float16", description="how a stored number is kept")
    seed: int = Field(0, ge=0, description="seed of the compressor's weights, order and dropout")

    def source(self) -> IATSourceConfig:
        """The compressor; `order` is not none."""
        return IATSourceConfig.model_validate({name: getattr(self, name) for name in SourceConfig.model_fields})


class IATConfig(Section):
    """IAT, stage two: reads the user's stored instances."""

    kind: Literal["iat"] = Field("iat", description="IAT's downstream model; needs `instances.order`")
    tokens: Literal["instances", "handmade"] = Field(
        "instances", description="handmade: item, label and time of the same instances (control)"
    )
    stored: Literal["before", "after"] = Field(
        "before", description="row before the source's transformer, or after it (control)"
    )
    instances: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: vectors change places among all stored instances (control)"
    )
    labels: bool = Field(True, description="tokens know the label where it had arrived; false: an ablation")
    dim: int = Field(64, ge=1, description="width of a stored instance: instances.dim")
    window: int = Field(256, ge=1, description="instances it reads, the newest")
    layers: int = Field(2, ge=1, description="blocks of the transformer")
    heads: int = Field(4, ge=1, description="its heads")


AnyModel: TypeAlias = (
    DINConfig
    | HiSACConfig
    | MeanConfig
    | SIMConfig
    | ETAConfig
    | SDIMConfig
    | TWINConfig
    | MIRRNConfig
    | SAMConfig
    | TransformerConfig
    | CompressConfig
    | VotesConfig
    | R2LEDConfig
    | IATConfig
)
ModelConfig = Annotated[AnyModel, Field(discriminator="kind")]
EveryModel: TypeAlias = AnyModel | IATSourceConfig
"""Also what the section `models` cannot name: the compressor of instances, which the stage `instances` trains."""


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
