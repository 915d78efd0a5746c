"""HiSAC: interest-agents by hierarchical voting, soft-routing attention (arXiv 2602.21009).

No official code or full text was at hand: this is a reconstruction, and its fidelity card says line by line what
is stated and what is inferred. Sources S1 to S7 are those of the card.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hisac_lab.base.errors import UserError
from hisac_lab.codebook.votes import Agents, split_budget, vote
from hisac_lab.config.model import FrameConfig, HiSACConfig
from hisac_lab.models.contract import CardLine, History, ItemSpace, LongBranch, UserState

DAY = 86_400.0
FLOOR = torch.finfo(torch.float32).min


class HiSACBranch(LongBranch):
    """Compresses a history into K agent vectors once per request; candidates attend to those.

    Args:
        config: Switches; each inferred choice has one.
        frame: Widths shared by all models.
        items: Frozen embeddings and the codebook.

    Raises:
        UserError: Depth or agents beyond what the codebook can give.
    """

    card = (
        CardLine(
            "an inner node's votes are the sum over its children, a leaf's its behaviours",
            "stated",
            "S2, S3",
            "test_votes_of_children_sum_to_parent",
        ),
        CardLine(
            "top-k children under each kept parent, k per level",
            "stated",
            "S3 (the figure also fits a flat top-k: switch `vote`)",
            "test_vote_agrees_with_reference",
        ),
        CardLine(
            "ties: most recent, then lower code",
            "inferred",
            "not public",
            "test_ties_go_to_the_most_recent_then_the_lower_code",
        ),
        CardLine(
            "an agent is the sum of its path's codewords", "stated", "S3", "test_agent_is_the_sum_of_its_codewords"
        ),
        CardLine(
            "routing: temperature softmax over squared distances of frozen vectors",
            "stated",
            "S2, S3",
            "test_routing_matches_the_formula",
        ),
        CardLine(
            "the softmax runs over behaviours, per agent (switch `softmax_over`)",
            "inferred",
            "S3, S7 fit it best",
            "test_routing_rows_sum_to_one",
        ),
        CardLine(
            "all behaviours take part, also those whose ID was pruned",
            "stated",
            "S3",
            "test_pruned_behaviours_still_count",
        ),
        CardLine(
            "values are learnable ranking embeddings with time decay",
            "stated",
            "S2, S3; the decay's form is inferred",
            "test_old_events_decay",
        ),
        CardLine(
            "no gradient reaches embeddings, codewords or routing",
            "stated",
            "S3 (frozen)",
            "test_frozen_parts_get_no_gradient",
        ),
        CardLine(
            "weights: softmax of log votes, a bias on the attention score (switch `weight`)",
            "inferred",
            "S3 says soft-normalised; the place is not public",
            "test_vote_weight_is_a_bias",
        ),
        CardLine(
            "multi-head target attention over the agents",
            "stated",
            "S3",
            "test_candidates_see_the_history_through_agents_only",
        ),
        CardLine("the multimodal encoder; here static word vectors or co-occurrence", "left out", "S3"),
    )

    semantic: Tensor
    leaf_vectors: Tensor
    item_leaf: Tensor

    def __init__(self, config: HiSACConfig, frame: FrameConfig, items: ItemSpace) -> None:
        super().__init__()
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
        book = items.codebook.cut(depth)
        asked = math.prod(config.budgets) if config.budgets else config.agents
        if asked > len(book.parents[-1]):
            raise UserError(
                "params.yaml",
                f"{asked} agents are more than the {len(book.parents[-1])} leaves at depth {depth}",
                "lower agents or budgets, or add to tokenize.widths",
                "models.*.agents",
            )
        if frame.dim % config.heads:
            raise UserError(
                "params.yaml",
                f"{config.heads} heads do not divide frame.dim {frame.dim}",
                "change one",
                "models.*.heads",
            )
        self.register_buffer("semantic", items.semantic)
        self.register_buffer("leaf_vectors", torch.from_numpy(book.vectors[-1]))
        self.register_buffer("item_leaf", torch.from_numpy(book.item_nodes[:, -1].copy()))
        for level, parent in enumerate(book.parents):
            self.register_buffer(f"parents_{level}", torch.from_numpy(parent))
        self.value = nn.Linear(frame.dim, frame.dim)
        self.decay = nn.Parameter(torch.tensor(-4.0))  # softplus: e^-0.018 per day
        self.to_query = nn.Linear(frame.dim, frame.dim, bias=False)
        self.to_key = nn.Linear(frame.dim, frame.dim, bias=False)
        self.to_value = nn.Linear(frame.dim, frame.dim, bias=False)
        self.merge = nn.Linear(frame.dim, frame.dim)

    @property
    def parents(self) -> list[Tensor]:
        """The tree, one tensor per level."""
        return [getattr(self, f"parents_{level}") for level in range(len(self.budgets))]

    def agents(self, history: History) -> Agents:
        """Votes of these histories: depends on frozen artefacts alone, so it can be done offline."""
        leaf = self.item_leaf[history.items]
        return vote(leaf, history.mask, self.parents, self.budgets, self.config.vote)

    def route(self, history: History, agents: Agents) -> Tensor:
        """Weight of each behaviour in each agent, fp32; (R, K, L), zero rows in the padding.

        alpha[a, i] = softmax over i (or a) of -|z_a - e_i|^2 / tau, or membership when routing is hard.
        """
        routed = (history.mask & (self.item_leaf[history.items] >= 0))[:, None, :]  # (R, 1, L)
        real = (agents.nodes >= 0)[:, :, None]  # (R, K, 1)
        if self.config.routing == "hard":
            own = agents.nodes[:, :, None] == self.item_leaf[history.items][:, None, :]
            share = (own & routed & real).float()
            return share / share.sum(dim=2, keepdim=True).clamp(min=1)
        with torch.autocast(self.semantic.device.type, enabled=False):
            z = self.leaf_vectors[agents.nodes.clamp(min=0)]  # (R, K, S)
            e = self.semantic[history.items]  # (R, L, S)
            distance = (z**2).sum(-1)[:, :, None] + (e**2).sum(-1)[:, None, :] - 2 * torch.bmm(z, e.transpose(1, 2))
            scores = -distance / self.config.temperature
            if self.config.softmax_over == "behaviours":
                return torch.softmax(scores.masked_fill(~routed, FLOOR), dim=2) * routed * real
            share = torch.softmax(scores.masked_fill(~real, FLOOR), dim=1) * routed * real
            return share / share.sum(dim=2, keepdim=True).clamp(min=1e-9)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Request-level compression: agent vectors, their keys and values for the attention; (R, K, D)."""
        agents = self.agents(history) if history.agents is None else history.agents
        rate = nn.functional.softplus(self.decay)
        values = self.value(events) * torch.exp(-rate * history.ages / DAY)[..., None].to(events.dtype)
        compressed = torch.bmm(self.route(history, agents).to(values.dtype), values)  # (R, K, D)
        weights = agents.weights(self.config.weight_temperature)
        if self.config.weight == "factor":
            compressed = compressed * weights[..., None].to(compressed.dtype)
        bias = torch.log(weights) if self.config.weight == "bias" else torch.zeros_like(weights)
        bias = bias.masked_fill(agents.nodes < 0, FLOOR)
        return {
            "agent_keys": self.to_key(compressed),
            "agent_values": self.to_value(compressed),
            "agent_bias": bias,
        }

    def attend(self, state: UserState, queries: Tensor) -> Tensor:
        """Multi-head target attention over K agents; (R, C, D)."""
        r, c, d = queries.shape
        heads = self.config.heads
        q, k, v = (
            part.view(r, -1, heads, d // heads).transpose(1, 2)
            for part in (self.to_query(queries), state["agent_keys"], state["agent_values"])
        )
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(d // heads) + state["agent_bias"][:, None, None, :]
        some = (state["agent_bias"] > FLOOR).any(dim=1)[:, None, None, None]
        mixed = ((torch.softmax(scores, dim=-1) * some).to(v.dtype) @ v).transpose(1, 2).reshape(r, c, d)
        out: Tensor = self.merge(mixed)
        return out
