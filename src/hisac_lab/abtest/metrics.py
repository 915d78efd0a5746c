"""What is read of slates beside their clicks a slate: by user, by slate, by weight, how long a tail, how different."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.abtest.people import PRIOR, Log
from hisac_lab.base.artifacts import Array

HEAD = 0.8
"""Share of the exposures that the head of the catalog makes up; the tail is the rest."""


@dataclass(frozen=True)
class Catalog:
    """What the metrics know of the items.

    Attributes:
        tail: Whether an item is of the long tail; (items,) bool.
        weight: What a click on it weighs; (items,). None: all weigh the same.
        nodes: Node at every level of its semantic ID, -1 without one; (items, depth). None: there are none.
    """

    tail: Array
    weight: Array | None
    nodes: Array | None

    @classmethod
    def of(cls, log: Log, nodes: Array | None) -> Catalog:
        """By the exposures of all periods."""
        return cls(in_tail(np.bincount(log.item, minlength=log.items)), click_weight(log), nodes)

    def read(self, shown: Array, chances: Array, requests: Array) -> dict[str, Array]:
        """Every metric of one policy, a value of each user, means over runs; (T,).

        Args:
            shown: Items; (S, T, visits, slate).
            chances: Of a click on each; (S, T, visits, slate).
            requests: How many slates each user is shown in the test period; (T,).
        """
        found = {
            "clicks_per_user": chances.sum(axis=3).mean(axis=(0, 2)) * requests,
            "slates_clicked": (1 - (1 - chances).prod(axis=3)).mean(axis=(0, 2)),
        }
        if self.weight is not None:
            found["weighted_clicks"] = (chances * self.weight[shown]).sum(axis=3).mean(axis=(0, 2))
        found["tail_share"] = np.mean([tail_share(self.tail, run) for run in shown], axis=0)
        if self.nodes is not None:
            found["diversity"] = np.mean([diversity(self.nodes, run) for run in shown], axis=0)
        return found


def click_weight(log: Log) -> Array | None:
    """Mean weight of the clicks on each item, towards that of all clicks where there are few; (items,).

    None where the log has no weights, or all clicks weigh the same: weighted clicks would say what clicks say.
    """
    clicked = log.label > 0
    if log.weight is None or len(np.unique(log.weight[clicked])) < 2:
        return None
    item, weight = log.item[clicked], log.weight[clicked]
    total, count = np.bincount(item, weight, log.items), np.bincount(item, minlength=log.items)
    mean: Array = (total + PRIOR * weight.mean()) / (count + PRIOR)
    return mean


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
