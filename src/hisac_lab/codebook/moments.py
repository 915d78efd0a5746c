"""Agents at every request moment, straight from the event store."""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.codebook.counting import EVENTS_AT_ONCE, Election, count_agents, recency_weights
from hisac_lab.codebook.tree import Codebook
from hisac_lab.events.store import EventStore


def agents_at(
    store: EventStore,
    samples: Array,
    book: Codebook,
    election: Election,
    half_life: float | None = None,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Interest-agents of the histories of `samples`, gathered block by block: memory does not grow with their number.

    Args:
        store: The event store.
        samples: (N,) of `SAMPLE`; those of one request share its history.
        book: The codebook, cut to the depth in use.
        election: Which leaves become agents.
        half_life: Seconds after which a behavior counts half; None: all count one.
        threads: Blocks counted at once.

    Returns:
        Leaf and votes of each agent, -1 and 0 in the padding; two (N, K) int64.
    """
    leaves = book.item_nodes[:, -1]
    begin, end = store.bounds(samples)
    heads = np.concatenate([[0], np.cumsum(end - begin)])
    blocks: list[tuple[Array, Array]] = []
    first = 0
    while first < len(samples):
        last = int(np.searchsorted(heads, heads[first] + EVENTS_AT_ONCE * threads, side="right")) - 1
        last = min(max(last, first + 1), len(samples))
        block_heads = heads[first : last + 1] - heads[first]
        lengths = np.diff(block_heads)
        place = np.arange(block_heads[-1]) + np.repeat(begin[first:last] - block_heads[:-1], lengths)
        weights = None
        if half_life is not None:
            ages = np.repeat(samples["time"][first:last], lengths) - store.times[place]
            weights = recency_weights(ages, half_life)
        blocks.append(count_agents(leaves[store.items[place]], block_heads, book.parents, election, weights, threads))
        first = last
    width = max((nodes.shape[1] for nodes, _ in blocks), default=1)
    nodes = np.full((len(samples), width), -1, np.int64)
    votes = np.zeros(nodes.shape, np.int64)
    at = 0
    for agents, counts in blocks:
        block = slice(at, at + len(agents))
        nodes[block, : agents.shape[1]], votes[block, : agents.shape[1]] = agents, counts
        at += len(agents)
    return nodes, votes
