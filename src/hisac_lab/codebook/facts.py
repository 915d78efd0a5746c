"""What a history says of its agents beside their votes: counts that fade at several half-lives, and ages.

Sums are of whole numbers, so that neither order nor padding shows in them. A behavior whose leaf was pruned can go to
the nearest agent; distances are whole numbers too, and of equally near agents the first has it, which has most votes.
Ours, not the paper's: docs/papers/hisac.md#additions-of-ours.
"""

from __future__ import annotations

import itertools
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
    slot = slots_of(leaf, heads, nodes, vectors)
    fading = [_sums(slot, np.rint(UNIT * np.exp2(-ages / half_life)), nodes.shape) for half_life in half_lives]
    newest = np.full(nodes.size, np.iinfo(np.int64).max)
    np.minimum.at(newest, slot[slot >= 0], ages[slot >= 0])
    behaviors = _sums(slot, None, nodes.shape)
    return AgentFacts(
        slot=slot,
        behaviors=behaviors,
        fading=np.stack(fading, axis=2) if fading else np.zeros((*nodes.shape, 0), np.int64),
        newest=np.where(behaviors > 0, newest.reshape(nodes.shape), 0),
    )


def slots_of(leaf: Array, heads: Array, nodes: Array, vectors: Array | None = None) -> Array:
    """Agent that has each behavior, request times K plus column, -1 where none; (E,) int64.

    Args:
        leaf: As of `facts_of`, as are `heads`, `nodes` and `vectors`.
        heads: (R + 1,) int64.
        nodes: (R, K) int64.
        vectors: (leaves, S) or None.
    """
    slot = np.empty(len(leaf), np.int64)
    table = np.empty(1 + int(max(leaf.max(initial=0), nodes.max(initial=0))), np.int64)  # by leaf, of one request
    for request, (begin, end) in enumerate(itertools.pairwise(heads.tolist())):
        own, agents = leaf[begin:end], nodes[request][nodes[request] >= 0]
        if vectors is None or not len(agents):
            table[own] = -1
        else:
            places = np.arange(end - begin)
            table[own] = places
            distinct = own[table[own] == places]
            table[distinct] = request * nodes.shape[1] + _nearest(vectors[distinct], vectors[agents])
        table[agents] = request * nodes.shape[1] + np.arange(len(agents))
        slot[begin:end] = table[own]
    return slot


def _nearest(vectors: Array, agents: Array) -> Array:
    """The agent nearest to each vector, the first of equally near ones; (n, S) and (K, S) to (n,) int64."""
    points = _whole(agents)
    nearest: Array = ((points * points).sum(axis=1) - _whole(vectors) @ (2 * points).T).argmin(axis=1)
    return nearest


def _whole(vectors: Array) -> Array:
    whole = vectors.astype(np.float64)
    whole *= GRID
    return np.rint(whole, out=whole)


def _sums(slot: Array, amounts: Array | None, shape: tuple[int, ...]) -> Array:
    """Sums of whole numbers by slot, how many there are without any; the slot -1 is left out."""
    sums: Array = np.bincount(slot + 1, amounts, 1 + shape[0] * shape[1])[1:].astype(np.int64).reshape(shape)
    return sums
