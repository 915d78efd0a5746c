"""Ranks, and order statistics in many suffixes of one array at once.

For the suffixes, the array is split by one bit of its values after the other, highest first: the levels of a wavelet
tree (Grossi, Gupta and Vitter, SODA 2003). All queries go down together, so that one level lies in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def dense_rank(values: Array) -> Array:
    """Place of each value among the distinct ones, from 0, by a stable sort; (n,) to (n,) int64."""
    rank: Array = np.unique(values, return_index=True, return_inverse=True)[2]
    return rank


def count_below(values: Array, begin: Array, bound: Array) -> Array:
    """How many of `values[begin:]` are below the bound; (q,) int64.

    Args:
        values: (n,) integers from 0.
        begin: Of each query, at most n; (q,) int64.
        bound: Of each query, from 0; (q,) int64.
    """
    low, high = begin, np.full(len(begin), len(values))
    count = np.zeros(len(begin), np.int64)
    for bit, zeros in _levels(values, int(bound.max(initial=0))):
        inside = zeros[high] - zeros[low]
        one = (bound >> bit) & 1 == 1
        count += np.where(one, inside, 0)
        low, high = (_go(zeros, end, one) for end in (low, high))
    return count


def select(values: Array, begin: Array, rank: Array) -> Array:
    """The value of a rank, from 0, among `values[begin:]`; (q,) int64.

    Args:
        values: (n,) integers from 0.
        begin: Of each query, below n; (q,) int64.
        rank: Of each query, below n - begin; (q,) int64.
    """
    low, high = begin, np.full(len(begin), len(values))
    value = np.zeros(len(begin), np.int64)
    for bit, zeros in _levels(values):
        inside = zeros[high] - zeros[low]
        one = rank >= inside
        rank = np.where(one, rank - inside, rank)
        value |= one.astype(np.int64) << bit
        low, high = (_go(zeros, end, one) for end in (low, high))
    return value


def _levels(values: Array, largest: int = 0) -> Iterator[tuple[int, Array]]:
    """Of each bit, highest first: the bit, and how many values before each place have it not; (n + 1,) int64."""
    for bit in reversed(range(max(largest, int(values.max(initial=0))).bit_length())):
        zero = (values >> bit) & 1 == 0
        yield bit, np.concatenate([np.zeros(1, np.int64), np.cumsum(zero)])
        values = np.concatenate([values[zero], values[~zero]])


def _go(zeros: Array, end: Array, one: Array) -> Array:
    """Where an end of a range lies on the next level."""
    return np.where(one, zeros[-1] + end - zeros[end], zeros[end])


def grouped(codes: Array) -> Array:
    """The order in which equal codes stand together, rising, each in its own order: a stable argsort; (n,) int64.

    Code and place are sorted as one number, for which NumPy has vector instructions.

    Args:
        codes: From 0 on, below 2^31; (n,) integers.
    """
    keys = codes.astype(np.int64) << 32
    keys |= np.arange(len(codes))
    keys.sort()
    keys &= (1 << 32) - 1
    return keys
