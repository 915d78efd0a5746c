"""HiSAC: interest-agents by hierarchical voting, soft-routing attention (arXiv 2602.21009).

No official code or full text was at hand: this is a reconstruction, and its fidelity card says line by line what
is stated and what is inferred. Sources and differences are in docs/papers/hisac.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.tree import Codebook
from hisac_lab.codebook.votes import split_budget
from hisac_lab.config.model import BackboneConfig, ValueConfig
from hisac_lab.events.feedback import VotesFrom
from hisac_lab.models.contract import Candidates, Cost, History, ItemSpace, UserState
from hisac_lab.models.heads import KernelSums, Score
from hisac_lab.models.hisac_card import CARD
from hisac_lab.models.path_votes import GOLDEN as VOTES
from hisac_lab.models.path_votes import SHUFFLE, VotesBranch, VotesConfig
from hisac_lab.models.routing import RoutedBranch
from hisac_lab.ops.attention import FLOOR
from hisac_lab.ops.jagged import segment_sum


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
    fill: bool = Field(
        True, description="places that the budgets leave free go to the leaves with most votes (ours); false: none does"
    )
    vote: Literal["tree", "flat"] = Field(
        "tree", description="tree: top-k under each kept parent; flat: the leaves with most votes"
    )
    votes_from: VotesFrom = Field(
        "positives", description="positives: events whose feedback is known to be negative do not vote; all: they do"
    )
    every_leaf: bool = Field(False, description="no pruning: every leaf with a vote is an agent (ablation)")
    vote_half_life: float | None = Field(
        None, gt=0, description="days after which a behavior counts half; null: all count one"
    )
    routing: Literal["soft", "hard"] = Field("soft", description="hard: each event goes to its own leaf's agent")
    route_by: Literal["events", "items", "leaves"] = Field(
        "events",
        description="what is routed: each event; each distinct item once (the same result); each leaf (approximate)",
    )
    score: Score = Field(
        "frozen",
        description="how a candidate asks an agent: learned, q k (the paper's); frozen, by the distance of frozen "
        "vectors over a trained temperature per head (ours); both, the sum",
    )
    facts: bool = Field(
        True,
        description="an agent's value also tells how many behaviors it has, how many lately, how old the newest is",
    )
    half_lives: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 7.0, 30.0, 90.0), description="days after which a behavior counts half in the facts, one count each"
    )
    pruned: Literal["dropped", "routed"] = Field(
        "routed", description="votes of leaves that were not kept: dropped, or given to the nearest agent (ours)"
    )
    keep_votes: float | None = Field(
        None,
        gt=0,
        le=1,
        description="no more agents than hold this share of a history's votes, most votes first; null: as many as the "
        "budgets allow; without pruning (every_leaf) it is not read",
    )
    sums: bool = Field(
        False,
        description="also tell the tower the counts around the candidate, weighed by distance, not divided (ours)",
    )
    counts: VotesConfig | None = Field(
        None,
        description="votes of the candidate's own nodes beside the agents: settings of the kind votes (ours); "
        "{kind: votes} has those of its path",
    )
    ids: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: semantic IDs and routing vectors change places among items (control)"
    )
    softmax_over: Literal["behaviors", "agents"] = Field("behaviors", description="axis of the routing softmax")
    weight: Literal["bias", "factor", "none"] = Field(
        "bias", description="how an agent's votes enter: log-weight on the attention score, factor, or not"
    )
    weight_temperature: float = Field(
        1.0, gt=0, description="softness of the vote weights; 1: share of the votes, larger: more even"
    )

    @model_validator(mode="after")
    def _one_history(self) -> HiSACConfig:
        if self.counts is not None and self.counts.length is not None:
            raise ValueError("agents and the votes beside them read one history: set length beside counts, not in it")
        return self

    @property
    def wanted(self) -> int:
        """Agents asked for."""
        return math.prod(self.budgets) if self.budgets else self.agents

    def election(self, book: Codebook) -> Election:
        """How these settings make agents of the leaves of a codebook, cut to the depth in use."""
        if self.every_leaf:
            return Election((len(book.parents[-1]),), "flat")
        budgets = self.budgets or split_budget(self.agents, book.depth, self.breadth)
        return Election(budgets, self.vote, self.wanted if self.fill else None, self.keep_votes)


PAPER = HiSACConfig(score="learned", facts=False, fill=False, pruned="dropped", votes_from="positives")
"""The paper's reading, as far as it is known: what is ours is off."""
GOLDEN = HiSACConfig(
    length=None,
    decay="exponential",
    decay_rate=0.01815,
    reader="attention",
    heads=4,
    soft_counts=False,
    depth=3,
    agents=16,
    breadth=0.7,
    budgets=(7, 1, 2),
    fill=False,
    temperature=0.07,
    vote="tree",
    votes_from="all",
    every_leaf=False,
    score="learned",
    facts=False,
    half_lives=(1.0, 7.0, 30.0, 90.0),
    pruned="dropped",
    keep_votes=None,
    sums=False,
    counts=None,
    state_bits=32,
    vote_half_life=None,
    routing="soft",
    route_by="events",
    ids="own",
    softmax_over="behaviors",
    weight="bias",
    weight_temperature=1.0,
)


class HiSACBranch(RoutedBranch):
    """Compresses a history into K agent vectors once per request; candidates attend to those.

    Routing depends on frozen vectors alone, so equal items of a history are routed alike: they can be routed once and
    their values summed (`route_by: items`, the same numbers), or whole leaves at once (`leaves`, approximate).

    Args:
        config: Switches; each inferred choice has one.
        backbone: Widths shared by all models.
        items: Frozen embeddings and the codebook.

    Raises:
        UserError: Depth or agents beyond what the codebook can give.
    """

    Config = HiSACConfig
    examples: ClassVar = {
        "hisac": HiSACConfig(agents=8),
        "hisac_paper": PAPER.model_copy(update={"agents": 8}),
        "hisac-flat-vote": HiSACConfig(agents=8, vote="flat", keep_votes=0.8),
        "hisac-all-leaves": HiSACConfig(agents=8, every_leaf=True),
        "hisac-hard-routing": HiSACConfig(agents=8, routing="hard", score="both", sums=True),
        "hisac-softmax-over-agents": HiSACConfig(agents=8, softmax_over="agents"),
        "hisac-weight-factor": HiSACConfig(agents=8, weight="factor", weight_temperature=2.0),
        "hisac-no-weight": HiSACConfig(agents=8, weight="none"),
        "hisac-one-level-one-head": HiSACConfig(agents=4, depth=1, heads=1),
        "hisac-own-budgets": HiSACConfig(budgets=(2, 1, 2), temperature=0.5, score="learned", half_lives=()),
        "hisac-by-items-before-a-transformer": HiSACConfig(agents=8, route_by="items", reader="transformer"),
        "hisac-by-leaves-fading-by-a-power": HiSACConfig(agents=8, route_by="leaves", decay="power", decay_rate=0.5),
        "hisac-beside-exposures": PAPER.model_copy(update={"agents": 8, "counts": VotesConfig(exposures=True)}),
        "hisac-sums-of-fading-votes": PAPER.model_copy(update={"agents": 8, "sums": True, "vote_half_life": 20.0}),
        "hisac-soft-counts": HiSACConfig(agents=8, heads=2, soft_counts=True, sums=True, counts=VotesConfig()),
        "hisac-beside-counts": HiSACConfig(agents=8, counts=VotesConfig(half_lives=(7.0,), into="tower")),
        "hisac-beside-gated-counts": HiSACConfig(agents=8, counts=VotesConfig(books=("flat_6",)), sums=True),
        "hisac-shuffled": HiSACConfig(agents=8, ids="shuffled", decay="none"),
    }
    golden: ClassVar = {
        "hisac": GOLDEN,
        "hisac_by_leaves": GOLDEN.model_copy(update={"decay": "power", "decay_rate": 0.2, "route_by": "leaves"}),
        "hisac_beside_counts": GOLDEN.model_copy(update={"counts": VOTES}),
        "hisac_by_items_before_a_transformer": GOLDEN.model_copy(update={"reader": "transformer", "route_by": "items"}),
        "hisac_frozen": GOLDEN.model_copy(update={"score": "frozen", "facts": True, "pruned": "routed"}),
        "hisac_both_sums": GOLDEN.model_copy(update={"score": "both", "sums": True, "keep_votes": 0.9}),
    }
    card = CARD

    def __init__(self, config: HiSACConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(config, backbone.dim, config.score)
        self.config, self.first_voting = config, items.first_voting(config.votes_from)
        depth = config.depth or items.codebook.depth
        if depth > items.codebook.depth:
            raise UserError(
                SETTINGS,
                f"{depth} levels are more than the {items.codebook.depth} of the codebook",
                "lower it or add to tokenize.widths",
                "models.*.depth",
            )
        if config.budgets is not None and len(config.budgets) != depth:
            raise UserError(
                SETTINGS,
                f"{list(config.budgets)} does not fit {depth} levels",
                "give one k per level",
                "models.*.budgets",
            )
        space = items.shuffled(SHUFFLE) if config.ids == "shuffled" else items
        book = space.codebook.cut(depth)
        self.depth, self.election = depth, config.election(book)
        if not config.every_leaf and config.wanted > len(book.parents[-1]):
            raise UserError(
                SETTINGS,
                f"{config.wanted} agents are more than the {len(book.parents[-1])} leaves at depth {depth}",
                "lower agents or budgets, or add to tokenize.widths",
                "models.*.agents",
            )
        self.register_buffer("semantic", space.routed)
        self.register_buffer("leaf_vectors", torch.from_numpy(book.vectors[-1]))
        # Squared lengths, computed once: they are most of a squared distance's work.
        self.register_buffer("item_square", space.routed.square().sum(dim=1))
        self.register_buffer("leaf_square", torch.from_numpy(book.vectors[-1]).square().sum(dim=1))
        self.register_buffer("item_leaf", torch.from_numpy(book.item_nodes[:, -1].copy()))
        counts = 1 + len(config.half_lives)
        self.asks_distance = config.sums or config.score != "learned"
        self.told = nn.Linear(counts + 1, backbone.dim) if config.facts else None
        self.sums = KernelSums(backbone.dim, config.heads, counts) if config.sums else None
        self.counts = VotesBranch(config.counts, backbone, items) if config.counts else None
        if self.counts is not None:
            self.extra_width, self.standardizes = self.counts.extra_width, self.counts.standardizes
        for level, parent in enumerate(book.parents):
            self.register_buffer(f"parents_{level}", torch.from_numpy(parent))

    def compress(self, history: History, values: Tensor) -> tuple[Tensor, Tensor]:
        """Agent vectors, (R, K, D), and the log of their share of votes."""
        agents = self.agents(history) if history.agents is None else history.agents
        units = self.units(history)
        if self.config.route_by != "events":
            counts = units.counts[..., None].clamp(min=1).to(values.dtype)
            values = segment_sum(values, units.slots, units.values.shape[1]) / counts
        compressed = torch.bmm(self.shares(units, agents).to(values.dtype), values)
        weights = agents.weights(self.config.weight_temperature)
        if self.config.weight == "factor":
            compressed = compressed * weights[..., None].to(compressed.dtype)
        bias = torch.log(weights) if self.config.weight == "bias" else torch.zeros_like(weights)
        return compressed, bias.masked_fill(agents.nodes < 0, FLOOR)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Request-level compression (see `CompressedBranch.encode`), and what else candidates will ask for.

        Where asked for: the agents' leaves, (R, K) int64; their counts, (R, K, N); the votes of the nodes.
        """
        agents = self.agents(history) if history.agents is None else history.agents
        assert agents.facts is not None or (self.told is None and self.sums is None), (
            "agents were counted without facts"
        )
        state = super().encode(replace(history, agents=agents), events)
        if self.asks_distance:
            state["nodes"] = agents.nodes
        if self.told is not None and agents.facts is not None:
            state["values"] = state["values"] + self.told(agents.facts.log1p())
        if self.sums is not None and agents.facts is not None:
            state["counts"] = agents.facts[..., :-1]
        return state if self.counts is None else state | self.counts.encode(history, events)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Multi-head target attention over the agents, and what else is asked for; (R, C, D + `soft_counts`)."""
        gaps = self.gaps(state["nodes"], candidates.items) if self.asks_distance else None
        out = self.reader.read(candidates.vectors, state.tensors.get("keys"), state["values"], state["bias"], gaps)
        beside = (0, self.soft_counts)
        if self.sums is not None and gaps is not None:
            out = out + nn.functional.pad(self.sums(gaps, state["counts"]), beside).to(out.dtype)
        if self.counts is not None and self.counts.answers:
            out = out + nn.functional.pad(self.counts.attend(state, candidates), beside).to(out.dtype)
        return out

    def extra(self, state: UserState, candidates: Candidates) -> Tensor:
        """The counts beside the agents, where they go past the gate; (R, C, `extra_width`)."""
        return super().extra(state, candidates) if self.counts is None else self.counts.extra(state, candidates)

    def agent_weights(self, state: UserState, candidates: Candidates) -> Tensor:
        """Share of each agent in what each head reads; (R, H, C, K)."""
        gaps = self.gaps(state["nodes"], candidates.items) if self.asks_distance else None
        return self.reader.weights(candidates.vectors, state.tensors.get("keys"), state["bias"], gaps)

    def node_votes(self, state: UserState, items: Tensor) -> dict[str, Tensor]:
        """Of the counts beside the agents."""
        return {} if self.counts is None else self.counts.node_votes(state, items)

    def standardize(self, batches: Iterable[tuple[History, Tensor, Tensor]]) -> None:
        """Of those counts; see `VotesBranch.standardize`."""
        if self.counts is not None:
            self.counts.standardize(batches)

    def cost(self, history: History) -> Cost:
        """Routing is linear in the history once per request; a candidate sees K agents."""
        agents = self.agents(history).nodes.shape[1]
        units = self.units(history).values.shape[1]
        state, encode, candidate = self.reading(history.items.shape[1], agents)
        width = 0 if self.config.routing == "hard" else self.semantic.shape[1]
        encode += agents * units * (width + self.dim)
        if self.asks_distance:
            state, candidate = state + 8 * agents, candidate + agents * self.semantic.shape[1]
        if self.told is not None:
            encode += agents * self.told.weight.numel()
        if self.sums is not None:
            counts = self.sums.out.in_features
            state += 4 * agents * counts // self.reader.heads
            candidate += agents * counts + self.sums.out.weight.numel()
        if self.counts is not None:
            beside = self.counts.cost(history)
            state, candidate = state + beside.state_bytes, candidate + beside.candidate
        return Cost(state, encode, 0, candidate)
