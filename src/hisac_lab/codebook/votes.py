"""Hierarchical voting: from a user's behaviors to a sparse set of interest-agents.

Bottom-up, a leaf's votes are the behaviors on it and an inner node's votes the sum over its children; top-down, each
kept parent keeps its k best children. Ties go to the most recently visited child, then to the lower code. What of this
is stated and what inferred: docs/papers/hisac.md#hierarchical-voting. Votes are frozen facts of a history, so they are
counted on the processor, wherever the model runs; `counting` does it for all requests at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hisac_lab.codebook.counting import Rule, count_agents, recency_weights


@dataclass(frozen=True)
class Agents:
    """Interest-agents of R requests, padded to K; those with most votes first.

    Attributes:
        nodes: Leaf of each agent, -1 in the padding; (R, K) int64.
        votes: Behaviors on that leaf, or the sum of their weights, 0 in the padding; (R, K) int64.
    """

    nodes: Tensor
    votes: Tensor

    def weights(self, temperature: float = 1.0) -> Tensor:
        """Soft-normalized votes: softmax(log votes / temperature), 0 in the padding; (R, K) float32.

        At temperature 1 this is the share of the kept votes ("soft-normalized" is stated, its form inferred).
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
    rule: Rule,
    ages: Tensor | None = None,
    half_life: float | None = None,
) -> Agents:
    """Lets the behaviors of R padded histories vote.

    Args:
        nodes: Leaf of each behavior, oldest first, -1 without a semantic ID; (R, L) int64.
        mask: True at real behaviors; (R, L) bool.
        parents: Per level, the parent of each node (`Codebook.parents`); the last level holds the leaves.
        budgets: k of each level; K is at most their product.
        rule: "tree" keeps the k best under each kept parent (stated); "flat" the leaves with most votes of all,
            as many as the product of the budgets (control).
        ages: Seconds from behavior to request, needed with a half-life; (R, L) int64.
        half_life: Seconds after which a behavior counts half; None: all count one (stated).

    Returns:
        The agents; K is the largest number any request has, at least 1.
    """
    voting = (mask & (nodes >= 0)).cpu().numpy()
    heads = np.concatenate([[0], np.cumsum(voting.sum(axis=1))])
    weights = None
    if half_life is not None and ages is not None:
        weights = recency_weights(ages.cpu().numpy()[voting], half_life)
    tree = [parent.cpu().numpy() for parent in parents]
    agents = count_agents(
        nodes.cpu().numpy()[voting], heads, tree, budgets, rule, weights, threads=torch.get_num_threads()
    )
    return Agents(*(torch.from_numpy(part).to(nodes.device) for part in agents))
