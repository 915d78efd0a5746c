"""HiSAC: interest-agents by hierarchical voting, soft-routing attention (arXiv 2602.21009).

No official code or full text was at hand: this is a reconstruction, and its fidelity card says line by line what
is stated and what is inferred. Sources and differences are in docs/papers/hisac.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hisac_lab.base.errors import UserError
from hisac_lab.codebook.votes import Agents, split_budget, vote
from hisac_lab.config.model import FrameConfig, HiSACConfig
from hisac_lab.models.compress import DAY, CompressedBranch
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, UserState
from hisac_lab.models.path_votes import PathVotes
from hisac_lab.ops.attention import FLOOR
from hisac_lab.ops.jagged import Distinct, distinct, segment_sum
from hisac_lab.ops.select import take_rows

SHUFFLE = 0
"""Seed of the control that gives semantic IDs to other items."""


class HiSACBranch(CompressedBranch):
    """Compresses a history into K agent vectors once per request; candidates attend to those.

    Routing depends on frozen vectors alone, so equal items of a history are routed alike: they can be routed once and
    their values summed (`route_by: items`, the same numbers), or whole leaves at once (`leaves`, approximate).

    Args:
        config: Switches; each inferred choice has one.
        frame: Widths shared by all models.
        items: Frozen embeddings and the codebook.

    Raises:
        UserError: Depth or agents beyond what the codebook can give.
    """

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
            "test_old_behaviours_can_count_less",
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
            "test_pruned_behaviours_still_count",
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

    semantic: Tensor
    leaf_vectors: Tensor
    item_square: Tensor
    leaf_square: Tensor
    item_leaf: Tensor

    def __init__(self, config: HiSACConfig, frame: FrameConfig, items: ItemSpace) -> None:
        super().__init__(config, frame.dim)
        self.config = config
        depth = config.depth or items.codebook.depth
        if depth > items.codebook.depth:
            raise UserError(
                "params.yaml",
                f"{depth} levels are more than the {items.codebook.depth} of the codebook",
                "lower it or add to tokenize.widths",
                "models.*.depth",
            )
        self.budgets = config.budgets or split_budget(config.agents, depth, config.breadth)
        if len(self.budgets) != depth:
            raise UserError(
                "params.yaml",
                f"{list(self.budgets)} does not fit {depth} levels",
                "give one k per level",
                "models.*.budgets",
            )
        space = items.shuffled(SHUFFLE) if config.ids == "shuffled" else items
        book = space.codebook.cut(depth)
        asked = math.prod(config.budgets) if config.budgets else config.agents
        if not config.every_leaf and asked > len(book.parents[-1]):
            raise UserError(
                "params.yaml",
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
        self.path = PathVotes(nodes, frame.dim) if config.path_votes else None
        for level, parent in enumerate(book.parents):
            self.register_buffer(f"parents_{level}", torch.from_numpy(parent))

    @property
    def parents(self) -> list[Tensor]:
        """The tree, one tensor per level."""
        return [getattr(self, f"parents_{level}") for level in range(len(self.budgets))]

    def agents(self, history: History) -> Agents:
        """Votes of these histories: depends on frozen artefacts alone, so it can be done offline."""
        leaf = self.item_leaf[history.items]
        half_life = None if self.config.vote_half_life is None else self.config.vote_half_life * DAY
        if self.config.every_leaf:
            return vote(leaf, history.mask, self.parents, (len(self.leaf_vectors),), "flat", history.ages, half_life)
        return vote(leaf, history.mask, self.parents, self.budgets, self.config.vote, history.ages, half_life)

    def units(self, history: History) -> Distinct:
        """What is routed: events, distinct items or distinct leaves; those without a semantic ID are left out."""
        leaf = self.item_leaf[history.items]
        routed = history.mask & (leaf >= 0)
        if self.config.route_by == "items":
            return distinct(history.items, routed)
        if self.config.route_by == "leaves":
            return distinct(leaf, routed)
        places = torch.arange(leaf.shape[1], device=leaf.device).expand_as(leaf)
        return Distinct(torch.where(routed, history.items, -1), routed.long(), torch.where(routed, places, -1))

    def shares(self, units: Distinct, agents: Agents) -> Tensor:
        """Share of each unit in each agent, fp32; (R, K, U), rows sum to one, zeros in the padding.

        A behaviour's share is the softmax over i (or a) of -|z_a - e_i|^2 / tau, or membership when routing is hard;
        a unit of n equal behaviours has n such shares.
        """
        by_leaf = self.config.route_by == "leaves"
        number = units.values.clamp(min=0)
        times = units.counts.float()[:, None, :]  # (R, 1, U)
        real = (agents.nodes >= 0)[:, :, None]  # (R, K, 1)
        if self.config.routing == "hard":
            leaf = number if by_leaf else self.item_leaf[number]
            mass = ((agents.nodes[:, :, None] == leaf[:, None, :]) & real) * times
            return mass / mass.sum(dim=2, keepdim=True).clamp(min=1)
        heat = self.config.temperature
        with torch.autocast(self.semantic.device.type, enabled=False):
            leaves = agents.nodes.clamp(min=0)
            vectors, squares = (self.leaf_vectors, self.leaf_square) if by_leaf else (self.semantic, self.item_square)
            z = take_rows(self.leaf_vectors, leaves)  # (R, K, S)
            e = take_rows(vectors, number)  # (R, U, S)
            # -|z - e|^2 / tau without |z|^2, of which a softmax over behaviours knows nothing, plus log n.
            own = torch.log(times) - squares[number][:, None, :] / heat
            scores = torch.baddbmm(own.clamp(min=FLOOR), z * (2 / heat), e.transpose(1, 2))
            if self.config.softmax_over == "behaviours":
                return torch.softmax(scores, dim=2) * real
            scores = (scores - self.leaf_square[leaves][:, :, None] / heat).masked_fill(~real, FLOOR)
            mass = torch.softmax(scores, dim=1) * real * times
            return mass / mass.sum(dim=2, keepdim=True).clamp(min=1e-9)

    def route(self, history: History, agents: Agents) -> Tensor:
        """Weight of each behaviour in each agent, zeros in the padding, to look at; (R, K, L)."""
        units = self.units(history)
        slots = units.slots[:, None, :]
        weights = self.shares(units, agents) / units.counts[:, None, :].clamp(min=1)
        spread = weights.gather(2, slots.clamp(min=0).expand(-1, weights.shape[1], -1))
        return spread * (slots >= 0)

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
        found = super().attend(state, candidates)
        return found if self.path is None else found + self.path.attend(state.parts, candidates.items).to(found.dtype)

    def cost(self, history: History) -> Cost:
        """Routing is linear in the history once per request; a candidate sees K agents."""
        agents = self.agents(history).nodes.shape[1]
        units = self.units(history).values.shape[1]
        state, encode, candidate = self.reading(history.items.shape[1], agents)
        width = 0 if self.config.routing == "hard" else self.semantic.shape[1]
        if self.path is not None:
            state, candidate = state + self.path.state_bytes(history), candidate + self.path.out.weight.numel()
        return Cost(state, encode + agents * units * (width + self.dim), 0, candidate)
