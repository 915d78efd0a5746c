"""Prefixes of semantic IDs as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array


@dataclass(frozen=True)
class Prefixes:
    """The distinct prefixes down to one level, numbered in code order.

    Attributes:
        node: Prefix of each item; (n,) int64.
        parent: Prefix one level up of each prefix, 0 at the first level; (nodes,) int64.
        code: Last code of each prefix; (nodes,) int64.
        count: Items below each prefix; (nodes,) int64.
    """

    node: Array
    parent: Array
    code: Array
    count: Array


def prefixes(codes: Array) -> list[Prefixes]:
    """The distinct prefixes of each level: (n, L) codes, none negative, to L levels."""
    levels = []
    above = np.zeros(len(codes), np.int64)
    for level in range(codes.shape[1]):
        width = int(codes[:, level].max(initial=0)) + 1
        number = above * width + codes[:, level]
        key, _, node, count = np.unique(number, return_index=True, return_inverse=True, return_counts=True)
        above = node.ravel().astype(np.int64)
        levels.append(Prefixes(above, key // width, key % width, count.astype(np.int64)))
    return levels
