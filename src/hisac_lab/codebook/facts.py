"""What a history says of its agents beside their votes: counts that fade at several half-lives, and ages.

Sums are of whole numbers, so that neither order nor padding shows in them. A behavior whose leaf was pruned can go to
the nearest agent; distances are whole numbers too, and of equally near agents the first has it, which has most votes.
Ours, not the paper's: docs/papers/hisac.md#additions-of-ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array

UNIT = 1 << 20
"""A behavior that has not faded, in fading counts."""
GRID = 1 << 16
"""Steps in which vectors are compared; products of such numbers are exact in double precision."""


@dataclass(frozen=True)
class AgentFacts:
    """Facts of R x K agents, zeros where there is none.

    Attributes:
        slot: Agent that has each behavior, request times K plus column, -1 where none; (E,) int64.
        behaviors: How many an agent has; (R, K) int64.
        fading: The same, each behavior less with age, in `UNIT`, per half-life; (R, K, H) int64.
        newest: Seconds since the newest; (R, K) int64.
    """

    slot: Array
    behaviors: Array
    fading: Array
    newest: Array

    def sum_of(self, amounts: Array) -> Array:
        """Sum of whole numbers over the behaviors of each agent; (E,) to (R, K) int64."""
        return _sums(self.slot, amounts, self.behaviors.shape)


def facts_of(
    leaf: Array, ages: Array, heads: Array, nodes: Array, half_lives: Sequence[float], vectors: Array | None = None
) -> AgentFacts:
    """What the behaviors of R histories say of their agents.

    Args:
        leaf: Leaf of each behavior, a request's behaviors together; (E,) int64.
        ages: Seconds from behavior to request; (E,) int64.
        heads: Where each request's behaviors begin, and the end; (R + 1,) int64.
        nodes: Leaf of each agent, -1 in the padding; (R, K) int64.
        half_lives: Seconds after which a behavior counts half.
        vectors: Vector of each leaf, (leaves, S): a pruned leaf's behaviors go to the nearest agent of their request.
            None: they are left out.
    """
    owner = np.repeat(np.arange(len(heads) - 1), np.diff(heads))
    slot = slots_of(owner, leaf, nodes, vectors)
    fading = [_sums(slot, np.rint(UNIT * np.exp2(-ages / half_life)), nodes.shape) for half_life in half_lives]
    newest = np.full(nodes.size, np.iinfo(np.int64).max)
    np.minimum.at(newest, slot[slot >= 0], ages[slot >= 0])
    behaviors = _sums(slot, np.ones(len(leaf)), nodes.shape)
    return AgentFacts(
        slot=slot,
        behaviors=behaviors,
        fading=np.stack(fading, axis=2) if fading else np.zeros((*nodes.shape, 0), np.int64),
        newest=np.where(behaviors > 0, newest.reshape(nodes.shape), 0),
    )


def slots_of(owner: Array, leaf: Array, nodes: Array, vectors: Array | None = None) -> Array:
    """Agent that has each behavior, request times K plus column, -1 where none; (E,) int64.

    Args:
        owner: Request of each behavior; (E,) int64.
        leaf: Its leaf; (E,) int64.
        nodes: As of `facts_of`, as are `vectors`.
        vectors: (leaves, S) or None.
    """
    width = int(max(leaf.max(initial=0), nodes.max(initial=0))) + 1
    cells = np.flatnonzero(nodes.ravel() >= 0)
    pairs = cells // nodes.shape[1] * width + nodes.ravel()[cells]
    order = np.argsort(pairs, kind="stable")
    pairs, asked = pairs[order], owner * width + leaf
    if not len(pairs):
        return np.full(len(leaf), -1)
    place = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
    slot = np.where(pairs[place] == asked, cells[order[place]], -1)
    pruned = np.flatnonzero(slot < 0)
    if vectors is not None and len(pruned):
        pruned = pruned[np.argsort(asked[pruned], kind="stable")]
        fresh = np.diff(asked[pruned], prepend=-1) > 0
        distinct = asked[pruned][fresh]
        slot[pruned] = _nearest(distinct // width, distinct % width, nodes, vectors)[np.cumsum(fresh) - 1]
    return slot


def _nearest(owner: Array, leaf: Array, nodes: Array, vectors: Array) -> Array:
    """Slot of the nearest agent of each (request, leaf), requests in rising order; (n,) int64."""
    slot = np.empty(len(leaf), np.int64)
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    for begin, end in zip(begins, np.append(begins, len(owner))[1:], strict=True):
        request = int(owner[begin])
        agents = _whole(vectors[nodes[request][nodes[request] >= 0]])
        gaps = (agents * agents).sum(axis=1) - 2 * _whole(vectors[leaf[begin:end]]) @ agents.T
        slot[begin:end] = request * nodes.shape[1] + gaps.argmin(axis=1)
    return slot


def _whole(vectors: Array) -> Array:
    whole: Array = np.rint(vectors.astype(np.float64) * GRID)
    return whole


def _sums(slot: Array, amounts: Array, shape: tuple[int, ...]) -> Array:
    there = slot >= 0
    sums: Array = np.bincount(slot[there], amounts[there], shape[0] * shape[1]).astype(np.int64).reshape(shape)
    return sums
