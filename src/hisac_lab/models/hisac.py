"""HiSAC: interest-agents by hierarchical voting, soft-routing attention (arXiv 2602.21009).

No official code or full text was at hand: this is a reconstruction, and its fidelity card says line by line what
is stated and what is inferred. Sources and differences are in docs/papers/hisac.md.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.codebook.votes import split_budget
from hisac_lab.config.model import BackboneConfig, ValueConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, UserState
from hisac_lab.models.path_votes import PathVotes
from hisac_lab.models.routing import RoutedBranch
from hisac_lab.ops.attention import FLOOR
from hisac_lab.ops.jagged import segment_sum

SHUFFLE = 0
"""Seed of the control that gives semantic IDs to other items."""


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
        None, gt=0, description="days after which a behavior counts half; null: all count one"
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
    softmax_over: Literal["behaviors", "agents"] = Field("behaviors", description="axis of the routing softmax")
    weight: Literal["bias", "factor", "none"] = Field(
        "bias", description="how an agent's votes enter: log-weight on the attention score, factor, or not"
    )
    weight_temperature: float = Field(
        1.0, gt=0, description="softness of the vote weights; 1: share of the votes, larger: more even"
    )


GOLDEN = HiSACConfig(
    decay="exponential",
    decay_rate=0.01815,
    reader="attention",
    heads=4,
    depth=3,
    agents=16,
    breadth=0.7,
    budgets=None,
    temperature=0.07,
    vote="tree",
    every_leaf=False,
    path_votes=False,
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
        "hisac-flat-vote": HiSACConfig(agents=8, vote="flat"),
        "hisac-all-leaves": HiSACConfig(agents=8, every_leaf=True),
        "hisac-hard-routing": HiSACConfig(agents=8, routing="hard"),
        "hisac-softmax-over-agents": HiSACConfig(agents=8, softmax_over="agents"),
        "hisac-weight-factor": HiSACConfig(agents=8, weight="factor", weight_temperature=2.0),
        "hisac-no-weight": HiSACConfig(agents=8, weight="none"),
        "hisac-one-level-one-head": HiSACConfig(agents=4, depth=1, heads=1),
        "hisac-own-budgets": HiSACConfig(budgets=(2, 1, 2), temperature=0.5),
        "hisac-by-items-before-a-transformer": HiSACConfig(agents=8, route_by="items", reader="transformer"),
        "hisac-by-leaves-fading-by-a-power": HiSACConfig(agents=8, route_by="leaves", decay="power", decay_rate=0.5),
        "hisac-with-path-votes": HiSACConfig(agents=8, path_votes=True),
        "hisac-shuffled": HiSACConfig(agents=8, ids="shuffled", decay="none"),
    }
    golden: ClassVar = {
        "hisac": GOLDEN,
        "hisac_by_leaves": GOLDEN.model_copy(update={"decay": "power", "decay_rate": 0.2, "route_by": "leaves"}),
        "hisac_path_votes": GOLDEN.model_copy(update={"path_votes": True}),
        "hisac_by_items_before_a_transformer": GOLDEN.model_copy(update={"reader": "transformer", "route_by": "items"}),
    }
    card = (
        CardLine(
            "an inner node's votes are the sum over its children, a leaf's its behaviors",
            "stated",
            "docs/papers/hisac.md#hierarchical-voting",
            "test_votes_of_children_sum_to_parent",
        ),
        CardLine(
            "the top k children stay under each kept parent, with a k per level; `vote: flat` ranks all leaves",
            "stated",
            "docs/papers/hisac.md#hierarchical-voting",
            "test_vote_agrees_with_reference",
        ),
        CardLine(
            "each behavior counts one vote",
            "stated",
            "docs/papers/hisac.md#hierarchical-voting",
            "test_vote_agrees_with_reference",
        ),
        CardLine(
            "a vote halves with age (switch `vote_half_life`, off by default)",
            "inferred",
            "docs/papers/hisac.md#additions-of-ours",
            "test_old_behaviors_can_count_less",
        ),
        CardLine(
            "ties go to the most recent child, then to the lower code",
            "inferred",
            "docs/papers/hisac.md#hierarchical-voting",
            "test_ties_go_to_the_most_recent_then_the_lower_code",
        ),
        CardLine(
            "the agents are the kept leaves, at most the product of the levels' k",
            "stated",
            "docs/papers/hisac.md#agents",
            "test_agents_are_observed_leaves_and_at_most_the_product_of_budgets",
        ),
        CardLine(
            "an agent is the sum of its path's codewords",
            "stated",
            "docs/papers/hisac.md#agents",
            "test_agent_is_the_sum_of_its_codewords",
        ),
        CardLine(
            "codewords live where the frozen vectors of items live, shared by all parents",
            "inferred",
            "docs/papers/hisac.md#codebook",
            "test_a_nodes_vector_is_the_sum_of_the_codewords_on_its_path",
        ),
        CardLine(
            "routing is a temperature softmax over squared distances of frozen vectors",
            "stated",
            "docs/papers/hisac.md#soft-routing-attention",
            "test_routing_matches_the_formula",
        ),
        CardLine(
            "the softmax runs over behaviors, per agent (switch `softmax_over`)",
            "inferred",
            "docs/papers/hisac.md#soft-routing-attention",
            "test_routing_rows_sum_to_one",
        ),
        CardLine(
            "all behaviors take part, also those whose ID is pruned",
            "stated",
            "docs/papers/hisac.md#soft-routing-attention",
            "test_pruned_behaviors_still_count",
        ),
        CardLine(
            "no gradient reaches embeddings, codewords or routing",
            "stated",
            "docs/papers/hisac.md#soft-routing-attention",
            "test_frozen_parts_get_no_gradient",
        ),
        CardLine(
            "values are learnable ranking embeddings with time decay",
            "stated",
            "docs/papers/hisac.md#values",
            "test_old_events_decay",
        ),
        CardLine(
            "decay is exponential in days, a power of days, or none (switch `decay`)",
            "inferred",
            "docs/papers/hisac.md#values",
            "test_values_fade_by_the_law_that_is_set",
        ),
        CardLine(
            "values also hold a projection of the frozen vector",
            "inferred",
            "docs/papers/hisac.md#where-our-reconstruction-differs",
            "test_an_item_is_the_sum_of_its_id_fields_and_projected_embedding",
        ),
        CardLine(
            "an agent's weight is the softmax of its log votes",
            "inferred",
            "docs/papers/hisac.md#agents",
            "test_weights_are_shares_of_the_kept_votes_and_sum_to_one",
        ),
        CardLine(
            "the log weight is a bias on the attention score (switch `weight`)",
            "inferred",
            "docs/papers/hisac.md#target-attention",
            "test_vote_weight_is_a_bias",
        ),
        CardLine(
            "multi-head attention reads the agents and nothing else of the long history",
            "stated",
            "docs/papers/hisac.md#target-attention",
            "test_candidates_see_the_history_through_agents_only",
        ),
        CardLine(
            "the candidate is the query of that attention",
            "inferred",
            "docs/papers/hisac.md#target-attention",
            "test_candidates_see_the_history_through_agents_only",
        ),
        CardLine(
            "a transformer block reads the agents first (switch `reader`): it stands for the paper's host models",
            "inferred",
            "docs/papers/hisac.md#target-attention",
            "test_agents_can_stand_in_front_of_a_transformer_block",
        ),
        CardLine(
            "ablation: every observed leaf is an agent (switch `every_leaf`)",
            "stated",
            "docs/papers/hisac.md#agents",
            "test_without_hierarchical_voting_every_observed_leaf_is_an_agent",
        ),
        CardLine(
            "ablation: each behavior goes to its own leaf's agent (switch `routing`)",
            "stated",
            "docs/papers/hisac.md#soft-routing-attention",
            "test_hard_routing_is_the_mean_over_an_agents_own_leaf",
        ),
        CardLine(
            "control: semantic IDs change places among items (switch `ids`)",
            "inferred",
            "docs/papers/hisac.md#additions-of-ours",
            "test_shuffled_ids_route_by_the_embeddings_of_other_items",
        ),
        CardLine(
            "equal items are routed once, with the same numbers (switch `route_by`)",
            "inferred",
            "docs/papers/hisac.md#additions-of-ours",
            "test_routing_each_item_once_gives_the_same_numbers",
        ),
        CardLine(
            "whole leaves are routed at once, approximately (switch `route_by`)",
            "inferred",
            "docs/papers/hisac.md#additions-of-ours",
            "test_routing_by_leaf_is_exact_where_items_lie_on_their_leaf",
        ),
        CardLine(
            "the votes of each node on the candidate's own path reach the tower (switch `path_votes`, off by default)",
            "inferred",
            "docs/papers/hisac.md#additions-of-ours",
            "test_a_candidate_is_told_the_votes_of_its_own_path",
        ),
        CardLine(
            "Adam for dense parameters, Adagrad for tables; ours adds weight decay",
            "stated",
            "docs/papers/hisac.md#training-and-serving",
            "test_tables_go_to_adagrad_and_all_else_to_adam_each_once",
        ),
        CardLine(
            "the multimodal encoder; static word vectors or co-occurrence take its place",
            "left out",
            "docs/papers/hisac.md#semantic-ids",
        ),
        CardLine(
            "PatchRec, ELASTIC and LONGER as host models",
            "left out",
            "docs/papers/hisac.md#target-attention",
        ),
    )

    def __init__(self, config: HiSACConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(config, backbone.dim)
        self.config = config
        depth = config.depth or items.codebook.depth
        if depth > items.codebook.depth:
            raise UserError(
                SETTINGS,
                f"{depth} levels are more than the {items.codebook.depth} of the codebook",
                "lower it or add to tokenize.widths",
                "models.*.depth",
            )
        self.budgets = config.budgets or split_budget(config.agents, depth, config.breadth)
        if len(self.budgets) != depth:
            raise UserError(
                SETTINGS,
                f"{list(self.budgets)} does not fit {depth} levels",
                "give one k per level",
                "models.*.budgets",
            )
        space = items.shuffled(SHUFFLE) if config.ids == "shuffled" else items
        book = space.codebook.cut(depth)
        asked = math.prod(config.budgets) if config.budgets else config.agents
        if not config.every_leaf and asked > len(book.parents[-1]):
            raise UserError(
                SETTINGS,
                f"{asked} agents are more than the {len(book.parents[-1])} leaves at depth {depth}",
                "lower agents or budgets, or add to tokenize.widths",
                "models.*.agents",
            )
        self.register_buffer("semantic", space.routed)
        self.register_buffer("leaf_vectors", torch.from_numpy(book.vectors[-1]))
        # Squared lengths, computed once: they are most of a squared distance's work.
        self.register_buffer("item_square", space.routed.square().sum(dim=1))
        self.register_buffer("leaf_square", torch.from_numpy(book.vectors[-1]).square().sum(dim=1))
        self.register_buffer("item_leaf", torch.from_numpy(book.item_nodes[:, -1].copy()))
        nodes = torch.from_numpy(book.item_nodes.astype("int64"))
        self.path = PathVotes(nodes, backbone.dim) if config.path_votes else None
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
        """Request-level compression (see `CompressedBranch.encode`), and the votes of all nodes where asked for."""
        return super().encode(history, events) | ({} if self.path is None else self.path.encode(history))

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Multi-head target attention over the agents, and the candidate's own path; (R, C, D)."""
        out = super().attend(state, candidates)
        return out if self.path is None else out + self.path.attend(state.tensors, candidates.items).to(out.dtype)

    def cost(self, history: History) -> Cost:
        """Routing is linear in the history once per request; a candidate sees K agents."""
        agents = self.agents(history).nodes.shape[1]
        units = self.units(history).values.shape[1]
        state, encode, candidate = self.reading(history.items.shape[1], agents)
        width = 0 if self.config.routing == "hard" else self.semantic.shape[1]
        if self.path is not None:
            state, candidate = state + self.path.state_bytes(history), candidate + self.path.out.weight.numel()
        return Cost(state, encode + agents * units * (width + self.dim), 0, candidate)
