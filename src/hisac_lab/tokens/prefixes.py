"""Prefixes of semantic IDs as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array

ROOMY = 4
"""Times as many as the numbers: so large may they be to be counted by a table, which takes no sort."""


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
        key, above, count = _distinct(number)
        levels.append(Prefixes(above, key // width, key % width, count))
    return levels


def _distinct(numbers: Array) -> tuple[Array, Array, Array]:
    """Distinct numbers from 0 on, rising, the place of each number among them and how often each occurs; all int64."""
    if numbers.max(initial=0) < ROOMY * len(numbers):
        tally = np.bincount(numbers)
        key = np.flatnonzero(tally)
        count = tally[key]
        tally[key] = np.arange(len(key))
        return key, tally[numbers], count
    key, place, count = np.unique(numbers, return_inverse=True, return_counts=True)
    return key, place.astype(np.int64), count.astype(np.int64)
