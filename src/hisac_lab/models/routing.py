"""HiSAC's votes and soft routing: what depends on frozen artifacts alone (docs/papers/hisac.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.votes import Agents, vote, with_facts
from hisac_lab.models.compress import DAY, CompressedBranch
from hisac_lab.models.contract import History
from hisac_lab.ops.attention import FLOOR
from hisac_lab.ops.jagged import Distinct, distinct
from hisac_lab.ops.select import take_rows

if TYPE_CHECKING:
    from hisac_lab.models.hisac import HiSACConfig


class RoutedBranch(CompressedBranch):
    """A history's events, items or leaves, each shared out among the agents that the history elects.

    Attributes:
        config: Settings of the branch.
        election: Which leaves become agents.
        depth: Levels in use.
        semantic: Frozen vector of each item; (items, S).
        leaf_vectors: Vector of each leaf; (leaves, S).
        item_square: Squared length of each item's vector; (items,).
        leaf_square: The same of each leaf's; (leaves,).
        item_leaf: Leaf of each item, -1 without a semantic ID; (items,) int64.
        first_voting: Lowest level of feedback whose events vote.
    """

    sides = frozenset({"agents"})
    config: HiSACConfig
    election: Election
    depth: int
    semantic: Tensor
    leaf_vectors: Tensor
    item_square: Tensor
    leaf_square: Tensor
    item_leaf: Tensor
    first_voting: int

    @property
    def parents(self) -> list[Tensor]:
        """The tree, one tensor per level."""
        return [getattr(self, f"parents_{level}") for level in range(self.depth)]

    def agents(self, history: History) -> Agents:
        """Votes of these histories, and facts: depends on frozen artifacts alone, so it can be done offline."""
        history = history.voters(self.first_voting)
        config, leaf = self.config, self.item_leaf[history.items]
        half_life = None if config.vote_half_life is None else config.vote_half_life * DAY
        agents = vote(leaf, history.mask, self.parents, self.election, history.ages, half_life)
        routed = config.pruned == "routed"
        if not (routed or config.facts or config.sums):
            return agents
        half_lives = [days * DAY for days in config.half_lives] if config.facts or config.sums else []
        vectors = self.leaf_vectors if routed else None
        return with_facts(agents, leaf, history.mask, history.ages, half_lives, vectors, half_life)

    def units(self, history: History) -> Distinct:
        """What is routed: events, distinct items or distinct leaves; those without a semantic ID are left out."""
        history = history.voters(self.first_voting)
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

        A behavior's share is the softmax over i (or a) of -|z_a - e_i|^2 / tau, or membership when routing is hard;
        a unit of n equal behaviors has n such shares.
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
            # -|z - e|^2 / tau without |z|^2, of which a softmax over behaviors knows nothing, plus log n.
            affinity = torch.log(times) - squares[number][:, None, :] / heat
            scores = torch.baddbmm(affinity.clamp(min=FLOOR), z * (2 / heat), e.transpose(1, 2))
            if self.config.softmax_over == "behaviors":
                return torch.softmax(scores, dim=2) * real
            scores = (scores - self.leaf_square[leaves][:, :, None] / heat).masked_fill(~real, FLOOR)
            mass = torch.softmax(scores, dim=1) * real * times
            return mass / mass.sum(dim=2, keepdim=True).clamp(min=1e-9)

    def route(self, history: History, agents: Agents) -> Tensor:
        """Weight of each behavior in each agent, zeros in the padding, to look at; (R, K, L)."""
        units = self.units(history)
        slots = units.slots[:, None, :]
        weights = self.shares(units, agents) / units.counts[:, None, :].clamp(min=1)
        spread = weights.gather(2, slots.clamp(min=0).expand(-1, weights.shape[1], -1))
        return spread * (slots >= 0)

    def gaps(self, nodes: Tensor, items: Tensor) -> Tensor:
        """Squared distances of candidates and agents in the space of the codebook, fp32.

        A candidate without a frozen vector is equally near to all agents, so that their votes alone decide.

        Args:
            nodes: Leaf of each agent; (R, K) int64.
            items: (R, C) int64.

        Returns:
            (R, C, K).
        """
        leaves, lengths = nodes.clamp(min=0), self.item_square[items][..., None]
        with torch.autocast(self.semantic.device.type, enabled=False):
            z, e = take_rows(self.leaf_vectors, leaves), take_rows(self.semantic, items)
            squares = lengths + self.leaf_square[leaves][:, None, :]
            gaps = torch.baddbmm(squares, e, z.transpose(1, 2), alpha=-2)
        return gaps.clamp_(min=0).mul_(lengths > 0)
