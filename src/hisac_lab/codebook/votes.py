"""Hierarchical voting: from a user's behaviors to a sparse set of interest-agents.

Bottom-up, a leaf's votes are the behaviors on it and an inner node's votes the sum over its children; top-down, each
kept parent keeps its k best children. Ties go to the most recently visited child, then to the lower code. What of this
is stated and what inferred: docs/papers/hisac.md#hierarchical-voting. Votes are frozen facts of a history, so they are
counted on the processor, wherever the model runs; `counting` does it for all requests at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base.artifacts import Array
from hisac_lab.codebook.counting import Election, count_agents, recency_weights, votes_cast
from hisac_lab.codebook.facts import UNIT, facts_of

DAY = 86_400.0
LOW = 0.9
"""Coverage below which agents say little of a history: training and `agents show` tell."""
MEND = "raise agents, lower depth, or rank all leaves (vote: flat)"


@dataclass(frozen=True)
class Agents:
    """Interest-agents of R requests, padded to K; those whose leaf has most votes first.

    Attributes:
        nodes: Leaf of each agent, -1 in the padding; (R, K) int64.
        votes: Behaviors on that leaf, or the sum of their weights, 0 in the padding; with those of pruned leaves where
            these are given away; (R, K) int64.
        coverage: Share of a request's votes that the kept leaves have, 1 where it has none; (R,) float32.
        facts: Where asked for: behaviors, the same fading at each half-life, days since the newest; 0 in the padding;
            (R, K, 1 + half-lives + 1) float32.
    """

    nodes: Tensor
    votes: Tensor
    coverage: Tensor | None = None
    facts: Tensor | None = None

    def weights(self, temperature: float = 1.0) -> Tensor:
        """Soft-normalized votes: softmax(log votes / temperature), 0 in the padding; (R, K) float32.

        At temperature 1 this is the share of the kept votes ("soft-normalized" is stated, its form inferred).
        """
        scores = torch.log(self.votes.float()) / temperature
        return torch.nan_to_num(torch.softmax(scores, dim=1))


def split_budget(agents: int, depth: int, breadth: float) -> tuple[int, ...]:
    """Per-level budgets k1..kL, at least 2 each where there is room, with the largest product up to `agents`.

    Of several such splits the one nearest to the wanted shares of log(agents) is taken, and of equally near ones the
    one with more at the upper levels. A budget of one child per parent would be no vote.

    Args:
        agents: The agent count aimed at.
        depth: Levels L.
        breadth: Share of log(agents) wanted at the first level; what is left is wanted evenly at the others.
    """
    least = 2 if agents >= 2**depth else 1
    wanted = [breadth, *[(1 - breadth) / (depth - 1)] * (depth - 1)] if depth > 1 else [1.0]

    def far(budgets: tuple[int, ...]) -> tuple[float, list[int]]:
        gaps = (math.log(k) - share * math.log(agents) for k, share in zip(budgets, wanted, strict=True))
        return round(sum(gap * gap for gap in gaps), 9), [-k for k in budgets]

    product = next(product for product in range(agents, 0, -1) if next(_factors(product, depth, least), None))
    return min(_factors(product, depth, least), key=far)


def _factors(product: int, depth: int, least: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a product as so many factors, none below `least`, order counted."""
    if depth == 1:
        if product >= least:
            yield (product,)
        return
    for first in range(least, product // least ** (depth - 1) + 1):
        if product % first == 0:
            for rest in _factors(product // first, depth - 1, least):
                yield (first, *rest)


def vote(
    nodes: Tensor,
    mask: Tensor,
    parents: Sequence[Tensor],
    election: Election,
    ages: Tensor | None = None,
    half_life: float | None = None,
) -> Agents:
    """Lets the behaviors of R padded histories vote.

    Args:
        nodes: Leaf of each behavior, oldest first, -1 without a semantic ID; (R, L) int64.
        mask: True at real behaviors; (R, L) bool.
        parents: Per level, the parent of each node (`Codebook.parents`); the last level holds the leaves.
        election: Which leaves become agents.
        ages: Seconds from behavior to request, needed with a half-life; (R, L) int64.
        half_life: Seconds after which a behavior counts half; None: all count one (stated).

    Returns:
        The agents; K is the largest number any request has, at least 1.
    """
    leaf, heads, weights = _behaviors(nodes, mask, ages, half_life)
    tree = [parent.cpu().numpy() for parent in parents]
    kept, votes = count_agents(leaf, heads, tree, election, weights, torch.get_num_threads())
    cast = votes_cast(leaf, heads, weights)
    coverage = np.where(cast > 0, votes.sum(axis=1) / np.maximum(cast, 1), 1).astype(np.float32)
    return Agents(*(torch.from_numpy(part).to(nodes.device) for part in (kept, votes, coverage)))


def with_facts(
    agents: Agents,
    nodes: Tensor,
    mask: Tensor,
    ages: Tensor,
    half_lives: Sequence[float],
    vectors: Tensor | None = None,
    half_life: float | None = None,
) -> Agents:
    """The same agents with facts on their behaviors, and with the votes of pruned leaves where these are given away.

    Ours, not the paper's: docs/papers/hisac.md#additions-of-ours.

    Args:
        agents: What `vote` has elected.
        nodes: As of `vote`, as are `mask`, `ages` and `half_life`.
        mask: (R, L) bool.
        ages: (R, L) int64.
        half_lives: Seconds, of the fading counts.
        vectors: Vector of each leaf, (leaves, S): a pruned leaf's behaviors go to the nearest agent. None: they are
            dropped.
        half_life: Seconds after which a vote counts half; None: all count one.
    """
    leaf, heads, weights = _behaviors(nodes, mask, ages, half_life)
    seconds = ages.cpu().numpy()[_voting(nodes, mask)]
    space = None if vectors is None else vectors.cpu().numpy()
    told = facts_of(leaf, seconds, heads, agents.nodes.cpu().numpy(), half_lives, space)
    votes = told.behaviors if weights is None else told.sum_of(weights)
    days = torch.from_numpy(told.newest)[..., None] / DAY
    counts = torch.from_numpy(np.concatenate([told.behaviors[..., None], told.fading / UNIT], axis=2))
    facts = torch.cat([counts, days], dim=2).float()
    return replace(agents, votes=torch.from_numpy(votes).to(nodes.device), facts=facts.to(nodes.device))


def _voting(nodes: Tensor, mask: Tensor) -> Array:
    voting: Array = (mask & (nodes >= 0)).cpu().numpy()
    return voting


def _behaviors(
    nodes: Tensor, mask: Tensor, ages: Tensor | None, half_life: float | None
) -> tuple[Array, Array, Array | None]:
    """Leaf of each behavior that votes, where each request's begin, and the end, and their votes where not one each."""
    voting = _voting(nodes, mask)
    heads = np.concatenate([[0], np.cumsum(voting.sum(axis=1))])
    weights = None
    if half_life is not None and ages is not None:
        weights = recency_weights(ages.cpu().numpy()[voting], half_life)
    return nodes.cpu().numpy()[voting], heads, weights
