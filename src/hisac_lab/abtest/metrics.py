"""What a slate is beside its clicks: how much of it is long tail, and how different its items are."""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array

HEAD = 0.8
"""Share of the exposures that the head of the catalog makes up; the tail is the rest."""


def in_tail(counts: Array) -> Array:
    """Whether an item is of the long tail: outside the most shown that make up `HEAD` of all; (items,) bool."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    tail = np.ones(len(counts), bool)
    tail[order] = before >= HEAD * counts.sum()
    return tail


def tail_share(tail: Array, slates: Array) -> Array:
    """Share of each user's shown items that are of the tail; (items,), (T, visits, slate) to (T,)."""
    share: Array = tail[slates].mean(axis=(1, 2))
    return share


def diversity(nodes: Array, slates: Array) -> Array:
    """Mean over the pairs on a slate of the share of semantic-ID levels in which they part; (T,).

    Args:
        nodes: Node of each item at every level, -1 without a semantic ID, which is like no other; (items, depth).
        slates: (T, visits, slate).
    """
    size = slates.shape[2]
    if size < 2:
        return np.zeros(len(slates))
    parted = np.zeros(len(slates))
    for one in range(size):
        mine, others = nodes[slates[:, :, one]], nodes[slates[:, :, one + 1 :]]
        alike = (mine[:, :, None] == others) & (others >= 0)
        parted += (1 - alike.mean(axis=3)).sum(axis=2).mean(axis=1)
    share: Array = parted / (size * (size - 1) / 2)
    return share
