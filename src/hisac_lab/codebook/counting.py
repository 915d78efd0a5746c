"""Counting votes: histories one after another, all requests at once, in whole numbers.

Request, leaf and place of an event are packed into one integer and sorted. That counts the leaves of every request,
and since nodes are numbered in code order, their ancestors come out sorted too: one sort serves all levels. Nothing is
rounded and no two entries are equally recent, so the order is complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hisac_lab.base.artifacts import Array

Rule = Literal["tree", "flat"]
EVENTS_AT_ONCE = 1 << 17
BITS = 63  # of a packed integer, its sign left out
FRESH = 1 << 10
"""Votes of a behavior at the moment of the request, when older ones count less; the oldest still has one."""


class Entries(NamedTuple):
    """Nodes of one level that some request has voted for, sorted by request, then node.

    Attributes:
        owner: Request; (n,) int64.
        node: Number of the node in its level; (n,) int64.
        votes: Votes of the request for it; (n,) int64.
        last: Place of the newest behavior below it among all events of the batch; (n,) int64.
        above: Which entry of the level above it hangs under, at the first level the request; (n,) int64.
    """

    owner: Array
    node: Array
    votes: Array
    last: Array
    above: Array

    def take(self, kept: Array) -> Entries:
        """The entries where `kept` is true."""
        return Entries(*(part[kept] for part in self))


@dataclass(frozen=True)
class Election:
    """How the leaves that a request has visited become its agents.

    Attributes:
        budgets: k of each level; the agents are at most their product, or `wanted`.
        rule: "tree" keeps the k best under each kept parent (stated); "flat" the leaves with most votes of all, as many
            as the product of the budgets (control).
        wanted: Agents wanted: places that the budgets leave free go to the leaves with most votes of all (ours). None:
            they stay free.
        keep: Share of a request's votes after which no further agent is taken; None: as many as there are places.
    """

    budgets: tuple[int, ...]
    rule: Rule = "tree"
    wanted: int | None = None
    keep: float | None = None

    @property
    def places(self) -> int:
        """Agents at most."""
        return self.wanted or math.prod(self.budgets)


def count_agents(
    leaf: Array,
    heads: Array,
    parents: Sequence[Array],
    election: Election,
    weights: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Lets the behaviors of R histories vote.

    Args:
        leaf: Leaf of each behavior, -1 without a semantic ID, a request's behaviors together, oldest first; (E,) int.
        heads: Where each request's behaviors begin, and the end; (R + 1,) int64.
        parents: Per level, the parent of each node (`Codebook.parents`); the last level holds the leaves.
        election: Which leaves become agents.
        weights: Votes of each behavior, positive; (E,) int64. None: one each (stated).
        threads: Blocks of requests counted at once; the result does not depend on it.

    Returns:
        Leaf and votes of each agent, those with most votes first, -1 and 0 in the padding; two (R, K) int64. K is the
        largest number any request has, at least 1.
    """

    def block(span: tuple[int, int]) -> tuple[Array, Array]:
        first, last = span
        events = slice(int(heads[first]), int(heads[last]))
        block_weights = None if weights is None else weights[events]
        return _count(leaf[events], heads[first : last + 1] - heads[first], parents, election, block_weights)

    spans = list(_blocks(heads))
    if threads > 1 and len(spans) > 1:
        with ThreadPoolExecutor(threads) as pool:
            blocks = list(pool.map(block, spans))
    else:
        blocks = [block(span) for span in spans]
    width = max((nodes.shape[1] for nodes, _ in blocks), default=1)
    nodes = np.full((len(heads) - 1, width), -1, np.int64)
    votes = np.zeros(nodes.shape, np.int64)
    for (first, last), (agents, counts) in zip(spans, blocks, strict=True):
        nodes[first:last, : agents.shape[1]], votes[first:last, : agents.shape[1]] = agents, counts
    if election.keep is None:
        return nodes, votes
    kept = enough(votes, votes_cast(leaf, heads, weights), election.keep)
    width = max(1, int(kept.sum(axis=1).max(initial=0)))
    return np.where(kept, nodes, -1)[:, :width], np.where(kept, votes, 0)[:, :width]


def votes_cast(leaf: Array, heads: Array, weights: Array | None = None) -> Array:
    """All votes of each request, pruned or not; arguments as of `count_agents`, (R,) int64."""
    votes = (leaf >= 0).astype(np.int64) if weights is None else weights * (leaf >= 0)
    return np.diff(np.concatenate([[0], np.cumsum(votes)])[heads])


def enough(votes: Array, cast: Array, share: float) -> Array:
    """The fewest agents, those with most votes first, that hold a share of the votes cast; all where none do.

    Args:
        votes: Of each agent, most first, 0 in the padding; (R, K) int64.
        cast: All votes of each request; (R,) int64.
        share: Above 0, at most 1.

    Returns:
        True at those agents; (R, K) bool.
    """
    wanted = np.ceil(np.round(share * cast, 6))  # rounded, so that 0.7 of 10 votes is 7
    kept: Array = (votes > 0) & (np.cumsum(votes, axis=1) - votes < wanted[:, None])
    return kept


def recency_weights(ages: Array, half_life: float) -> Array:
    """Votes of behaviors by age: `FRESH` halved with every half-life, at least 1; int64 of the same shape.

    The paper counts behaviors and mentions no weighting; this is one of docs/papers/hisac.md#additions-of-ours.

    Args:
        ages: Seconds from behavior to request.
        half_life: Seconds.
    """
    votes: Array = np.rint(FRESH * np.exp2(-np.asarray(ages, np.float64) / half_life)).astype(np.int64)
    return np.maximum(votes, 1)


def levels_of(leaf: Array, heads: Array, parents: Sequence[Array], weights: Array | None = None) -> list[Entries]:
    """Bottom-up: the votes of every node of every level; arguments as of `count_agents`."""
    entries = _leaves(leaf, heads, len(parents[-1]), weights)
    above: list[Entries] = []
    for level in range(len(parents) - 1, 0, -1):
        parent = parents[level][entries.node]
        fresh = _changes(entries.owner * len(parents[level - 1]) + parent)
        begins = np.flatnonzero(fresh)
        above.insert(0, entries._replace(above=np.cumsum(fresh) - 1))
        if len(begins):
            votes, last = np.add.reduceat(entries.votes, begins), np.maximum.reduceat(entries.last, begins)
            entries = Entries(entries.owner[begins], parent[begins], votes, last, entries.owner[begins])
    return [entries._replace(above=entries.owner), *above]


def _blocks(heads: Array) -> Iterator[tuple[int, int]]:
    """Runs of whole requests with about `EVENTS_AT_ONCE` events."""
    first, requests = 0, len(heads) - 1
    while first < requests:
        last = int(np.searchsorted(heads, heads[first] + EVENTS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), first + EVENTS_AT_ONCE, requests)
        yield first, last
        first = last


def _count(
    leaf: Array, heads: Array, parents: Sequence[Array], election: Election, weights: Array | None
) -> tuple[Array, Array]:
    events = len(leaf)
    if election.rule == "flat":
        entries = _leaves(leaf, heads, len(parents[-1]), weights)
        entries = entries.take(_best(entries, entries.owner, election.places, events))
    else:
        kept = np.ones(len(heads) - 1, bool)  # the roots
        for level, budget in zip(levels_of(leaf, heads, parents, weights), election.budgets, strict=True):
            inside = np.flatnonzero(kept[level.above])
            entries = level.take(inside)
            best = _best(entries, entries.above, budget, events)
            kept = np.zeros(len(level.node), bool)
            kept[inside[best]] = True
        if election.wanted is not None:
            kept |= _next_best(level, kept, election.wanted, events)
        entries = level.take(kept)
    order = _ranking(entries.owner, entries.votes, entries.last, events)
    owner = entries.owner[order]
    rank = _ranks(owner)
    shape = (len(heads) - 1, int(rank.max(initial=0)) + 1)
    nodes, votes = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    nodes[owner, rank], votes[owner, rank] = entries.node[order], entries.votes[order]
    return nodes, votes


def _next_best(leaves: Entries, kept: Array, wanted: int, events: int) -> Array:
    """Which pruned leaves fill the places that are left of `wanted`, those with most votes first; (n,) bool."""
    free = wanted - np.bincount(leaves.owner[kept], minlength=int(leaves.owner.max(initial=-1)) + 1)
    pruned = np.flatnonzero(~kept)
    rest = leaves.take(pruned)
    order = _ranking(rest.owner, rest.votes, rest.last, events)
    owner = rest.owner[order]
    filled = np.zeros(len(kept), bool)
    filled[pruned[order[_ranks(owner) < free[owner]]]] = True
    return filled


def _leaves(leaf: Array, heads: Array, width: int, weights: Array | None) -> Entries:
    """Votes of the leaves by one sort."""
    owner = np.repeat(np.arange(len(heads) - 1), np.diff(heads))
    place_bits, leaf_bits = _bits(len(leaf)), _bits(width)
    if _bits(len(heads)) + leaf_bits + place_bits > BITS:
        raise ValueError(f"{len(heads) - 1} requests, {width} leaves and {len(leaf)} events are too many at once")
    key = ((owner << leaf_bits) | leaf) << place_bits
    key |= np.arange(len(leaf))
    if leaf.min(initial=0) < 0:
        key = key[leaf >= 0]
    key.sort()
    place = key & ((1 << place_bits) - 1)
    key >>= place_bits
    begins = np.flatnonzero(_changes(key))
    ends = np.append(begins, len(key))[1:] - 1
    votes = ends - begins + 1
    if weights is not None and len(begins):
        votes = np.add.reduceat(weights[place], begins)
    cell = key[begins]
    owner = cell >> leaf_bits
    return Entries(owner, cell & ((1 << leaf_bits) - 1), votes, place[ends], owner)


def _best(entries: Entries, group: Array, budget: int, events: int) -> Array:
    """Positions, ascending, of the `budget` best entries of each group; groups are runs."""
    begins = np.flatnonzero(_changes(group))
    sizes = np.diff(begins, append=len(group))
    if not (sizes > budget).any():
        return np.arange(len(group))
    order = _ranking(group, entries.votes, entries.last, events)
    best: Array = np.sort(order[np.arange(len(group)) - np.repeat(begins, sizes) < budget])
    return best


def _ranking(group: Array, votes: Array, last: Array, events: int) -> Array:
    """Positions sorted by group (ascending already), then most votes, then most recent.

    `last` names one behavior, and two entries of one level never share it, so it also tells which entry a packed
    integer came from.
    """
    if not len(group):
        return np.zeros(0, np.int64)
    most = int(votes.max())
    vote_bits, place_bits = _bits(most + 1), _bits(events)
    if _bits(len(group)) + vote_bits + place_bits > BITS:
        return np.lexsort((-last, -votes, group))
    key = ((np.cumsum(_changes(group)) - 1 << vote_bits) | (most - votes)) << place_bits
    key |= events - 1 - last
    key.sort()
    entry = np.empty(events, np.int64)
    entry[last] = np.arange(len(last))
    last_entry: Array = entry[events - 1 - (key & ((1 << place_bits) - 1))]
    return last_entry


def _changes(values: Array) -> Array:
    """True where a run of equal values begins."""
    starts = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def _ranks(group: Array) -> Array:
    """Position of each entry inside its run of equal values."""
    begins = np.flatnonzero(_changes(group))
    ranks: Array = np.arange(len(group)) - np.repeat(begins, np.diff(begins, append=len(group)))
    return ranks


def _bits(count: int) -> int:
    """Bits that hold 0 to count - 1."""
    return max(count - 1, 1).bit_length()
