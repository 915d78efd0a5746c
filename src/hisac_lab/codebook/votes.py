"""Hierarchical voting: from a user's behaviours to a sparse set of interest-agents (HiSAC section 4).

Bottom-up, a leaf's votes are the behaviours on it and an inner node's votes the sum over its children; top-down, each
kept parent keeps its k best children (stated, S2 and S3). Ties go to the most recently visited child, then to the lower
code (inferred, hole 4). All users of a batch are counted at once, by sorting; there is no loop over users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agents:
    """Interest-agents of R requests, padded to K; those with most votes first.

    Attributes:
        nodes: Leaf of each agent, -1 in the padding; (R, K) int64.
        votes: Behaviours on that leaf, 0 in the padding; (R, K) int64.
    """

    nodes: Tensor
    votes: Tensor

    def weights(self, temperature: float = 1.0) -> Tensor:
        """Soft-normalised votes: softmax(log votes / temperature), 0 in the padding; (R, K) float32.

        At temperature 1 this is the share of the kept votes ("soft-normalised" is stated, its form inferred).
        """
        scores = torch.log(self.votes.float()) / temperature
        return torch.nan_to_num(torch.softmax(scores, dim=1))


def split_budget(agents: int, depth: int, breadth: float) -> tuple[int, ...]:
    """Per-level budgets k1..kL whose product is at most `agents`.

    Args:
        agents: The agent count aimed at.
        depth: Levels L.
        breadth: Share of log(agents) spent at the first level; what is left is spread evenly over the others.
    """
    if depth == 1:
        return (agents,)
    first = max(1, min(agents, round(agents**breadth)))
    budgets = [first]
    for level in range(1, depth):
        room = agents // math.prod(budgets)
        budgets.append(max(1, int(room ** (1 / (depth - level)) + 1e-9)))
    return tuple(budgets)


def vote(
    nodes: Tensor,
    mask: Tensor,
    parents: Sequence[Tensor],
    budgets: Sequence[int],
    rule: Literal["tree", "flat"],
) -> Agents:
    """Lets the behaviours of R histories vote.

    Args:
        nodes: Leaf of each behaviour, oldest first, -1 without a semantic ID; (R, L) int64.
        mask: True at real behaviours; (R, L) bool.
        parents: Per level, the parent of each node (`Codebook.parents`); the last level holds the leaves.
        budgets: k of each level; K is at most their product.
        rule: "tree" keeps the k best under each kept parent (stated); "flat" the leaves with most votes of all,
            as many as the product of the budgets (control).

    Returns:
        The agents; K is the largest number any request has, at least 1.
    """
    requests = len(nodes)
    row, column = torch.nonzero(mask & (nodes >= 0), as_tuple=True)
    leaf = nodes[row, column]
    width = len(parents[-1])
    key, slot = torch.unique(row * width + leaf, return_inverse=True)
    votes = torch.zeros_like(key).index_add_(0, slot, torch.ones_like(slot))
    last = torch.zeros_like(key).scatter_reduce_(0, slot, column, "amax")
    owner, leaf = key // width, key % width

    if rule == "flat":
        kept = _best(owner, votes, last, math.prod(budgets))
    else:
        # Climb: entries of each level, each with its parent entry one level up; the root entry is the request.
        ladder = [(votes, last)]
        up = []
        node, under = leaf, owner
        for level in range(len(parents) - 1, -1, -1):
            if level:
                above = len(parents[level - 1])
                key, entry = torch.unique(under * above + parents[level][node], return_inverse=True)
            else:
                key, entry = under, under
            up.append(entry)
            if not level:
                break
            total = torch.zeros_like(key).index_add_(0, entry, ladder[-1][0])
            recent = torch.zeros_like(key).scatter_reduce_(0, entry, ladder[-1][1], "amax")
            ladder.append((total, recent))
            under, node = key // above, key % above
        # Descend: under each kept parent, the best k.
        kept = torch.ones(requests, dtype=torch.bool, device=nodes.device)
        for (total, recent), entry, budget in zip(reversed(ladder), reversed(up), budgets, strict=True):
            kept = kept[entry] & _best(entry, total, recent, budget)

    return _pack(owner[kept], leaf[kept], votes[kept], last[kept], requests)


def _order(group: Tensor, votes: Tensor, last: Tensor) -> Tensor:
    """Positions sorted by group, then votes, then recency, then code; entries come in code order."""
    order = torch.argsort(last, descending=True, stable=True)
    order = order[torch.argsort(votes[order], descending=True, stable=True)]
    return order[torch.argsort(group[order], stable=True)]


def _ranks(sorted_group: Tensor) -> Tensor:
    """Position of each entry inside its run of equal values."""
    place = torch.arange(len(sorted_group), device=sorted_group.device)
    starts = torch.ones_like(sorted_group, dtype=torch.bool)
    starts[1:] = sorted_group[1:] != sorted_group[:-1]
    return place - torch.cummax(torch.where(starts, place, 0), dim=0).values if len(place) else place


def _best(group: Tensor, votes: Tensor, last: Tensor, budget: int) -> Tensor:
    """True at the `budget` best entries of each group."""
    order = _order(group, votes, last)
    kept = torch.zeros_like(group, dtype=torch.bool)
    kept[order] = _ranks(group[order]) < budget
    return kept


def _pack(owner: Tensor, leaf: Tensor, votes: Tensor, last: Tensor, requests: int) -> Agents:
    order = _order(owner, votes, last)
    owner, leaf, votes = owner[order], leaf[order], votes[order]
    rank = _ranks(owner)
    width = int(rank.max()) + 1 if len(rank) else 1
    nodes = torch.full((requests, width), -1, dtype=torch.int64, device=leaf.device)
    counts = torch.zeros_like(nodes)
    nodes[owner, rank] = leaf
    counts[owner, rank] = votes
    return Agents(nodes, counts)
