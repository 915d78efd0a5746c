"""k-means on a few cores: blocks that stay in the cache, one matrix product per block, nothing left to chance.

Distances come from one single-precision product per block of vectors; sums are kept in double precision. Threads take
whole blocks, whose results are put together in their order, so the same vectors and seed give the same centers to the
bit, whatever the number of threads (`compute.math_threads`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy import sparse

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array

BLOCK = 4096  # vectors of one matrix product
START_PER_CODE = 32  # vectors per code among which the start is drawn
BALANCING_ROUNDS, BALANCING_STEPS = 6, 25  # moves of the centers, and steps of the prices before each


Result = TypeVar("Result")


class Rows(Protocol):
    """Vectors that are read only when asked for: an array, memory-mapped or not, or what is computed from one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Array: ...


@arithmetic.one_thread()
def nearest(vectors: Array, centers: Array, prices: Array | None = None) -> tuple[Array, Array]:
    """The center nearest to each vector; ties go to the lower index.

    Args:
        vectors: (n, D) float32, may be memory-mapped.
        centers: (M, D) float32.
        prices: Added to the squared distance to each center (a power diagram); (M,) float32.

    Returns:
        Index (n,) int32 and squared distance, price left out, (n,) float32.
    """
    table = _table(centers, prices)

    def block(start: int) -> tuple[Array, Array]:
        return _nearest(np.asarray(vectors[start : start + BLOCK], np.float32), table, prices)

    codes, distance = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
    for start, (nearest_center, far) in in_blocks(block, len(vectors)):
        codes[start : start + BLOCK], distance[start : start + BLOCK] = nearest_center, far
    return codes, distance


def in_blocks(work: Callable[[int], Result], count: int) -> Iterator[tuple[int, Result]]:
    """Does the blocks of `count` rows, several at once, and yields where each begins with its result, in order.

    Args:
        work: Takes the first row of a block of `BLOCK`.
        count: Rows in all.
    """
    starts = range(0, count, BLOCK)
    threads = min(arithmetic.threads(), len(starts))
    with arithmetic.one_thread():
        if threads <= 1:
            for start in starts:
                yield start, work(start)
            return
        with ThreadPoolExecutor(threads) as pool:
            yield from zip(starts, pool.map(work, starts), strict=True)


@arithmetic.one_thread()
def kmeans(
    vectors: Array,
    width: int,
    iterations: int,
    random: np.random.Generator,
    start: Array | None = None,
    damping: float = 1.0,
) -> Array:
    """Lloyd's algorithm with a k-means++ start; an empty cell takes the worst-served vector.

    Args:
        vectors: (n, D) float32.
        width: Number of centers M.
        iterations: Passes at most; it ends early when no vector changes its cell.
        random: Source of the start.
        start: Centers to begin from, in their order; (M, D). Empty cells of a given start keep their place.
        damping: How far a center moves toward the mean of its cell, in (0, 1].

    Returns:
        Centers, (M, D) float32.
    """
    centers = plus_plus(vectors, width, random) if start is None else np.array(start, np.float32)
    before = None
    for _ in range(iterations):
        codes, distance, sums, counts = _step(vectors, centers)
        if start is None:
            _fill_empty(vectors, distance, sums, counts)
        used = counts > 0
        means = sums[used] / counts[used, None]
        centers[used] += (damping * (means - centers[used])).astype(np.float32)
        if before is not None and np.array_equal(codes, before):
            break
        before = codes
    return centers


@arithmetic.one_thread()
def mini_batch_kmeans(vectors: Rows, width: int, steps: int, batch: int, random: np.random.Generator) -> Array:
    """Mini-batch k-means (Sculley 2010): each step draws a batch and moves a center by one over its count so far.

    Args:
        vectors: (n, D) float32; only drawn rows are read.
        width: Number of centers M.
        steps: Batches.
        batch: Vectors per batch.
        random: Source of start and batches.

    Returns:
        Centers, (M, D) float32. A center that no batch has used for a whole round takes a worst-served vector.
    """

    def draw(size: int) -> Array:
        rows = np.sort(random.choice(len(vectors), min(size, len(vectors)), replace=False, shuffle=False))
        return np.asarray(vectors[rows], np.float32)

    centers = plus_plus(draw(START_PER_CODE * width), width, random)
    seen = np.zeros(width, np.int64)
    for step in range(steps):
        drawn = draw(batch)
        _, distance, sums, counts = _step(drawn, centers)
        seen += counts
        used = counts > 0
        means = sums[used] / counts[used, None]
        centers[used] += ((counts[used] / seen[used])[:, None] * (means - centers[used])).astype(np.float32)
        if (step + 1) % max(1, steps // 4) == 0 and step + 1 < steps:
            worst = np.argsort(-distance, kind="stable")
            idle = np.flatnonzero(seen == 0)[: len(worst)]
            centers[idle] = drawn[worst[: len(idle)]]
    return centers


@arithmetic.one_thread()
def balance(vectors: Array, centers: Array) -> tuple[Array, Array]:
    """Evens out the cells by prices: the duals of a balanced transport, so that the cells form a power diagram.

    A price belongs to a center, not to a vector, hence a vector seen later is encoded by the same rule. Centers follow
    the means of their cells.

    Args:
        vectors: (n, D) float32.
        centers: (M, D) float32.

    Returns:
        Centers (M, D) and prices (M,), mean zero, float32.
    """
    prices = np.zeros(len(centers), np.float32)
    for _ in range(BALANCING_ROUNDS):
        prices = _even_prices(vectors, centers, prices)
        _, _, sums, counts = _step(vectors, centers, prices)
        used, centers = counts > 0, centers.copy()
        centers[used] = sums[used] / counts[used, None]
    return centers, _even_prices(vectors, centers, prices)


def _even_prices(vectors: Array, centers: Array, prices: Array) -> Array:
    """Steps of dual ascent: crowded centers become dearer; gives the prices with the smallest largest cell.

    It begins without prices where those given, which were made for other centers, are worse than none.
    """
    sample = vectors[:: -(-len(vectors) // BLOCK)]
    two = np.partition((centers**2).sum(axis=1) - 2.0 * sample @ centers.T, 1, axis=1)[:, :2]
    scale = float((two[:, 1] - two[:, 0]).mean()) or 1.0  # what it takes to move a vector to its next center
    if _largest(vectors, centers, np.zeros_like(prices)) < _largest(vectors, centers, prices):
        prices = np.zeros_like(prices)
    target, least, best = len(vectors) / len(centers), len(vectors) + 1, prices
    for step in range(BALANCING_STEPS):
        counts = np.bincount(nearest(vectors, centers, prices)[0], minlength=len(centers))
        if counts.max() < least:
            least, best = int(counts.max()), prices
        push = np.clip(counts / target - 1, -1, 1) * scale / (1 + step / 4)
        prices = (prices + push - push.mean()).astype(np.float32)
    return best


def _largest(vectors: Array, centers: Array, prices: Array) -> int:
    return int(np.bincount(nearest(vectors, centers, prices)[0]).max())


def plus_plus(vectors: Array, width: int, random: np.random.Generator) -> Array:
    """Greedy k-means++ start among at most `START_PER_CODE` vectors per center.

    Each next center is the best of 2 + ln M vectors drawn by their squared distance (Arthur and Vassilvitskii 2007).
    Where all distances are zero (fewer distinct vectors than centers) the rest repeats earlier vectors.
    """
    if len(vectors) > START_PER_CODE * width:
        vectors = vectors[np.sort(random.choice(len(vectors), START_PER_CODE * width, replace=False, shuffle=False))]
    squares = np.einsum("nd,nd->n", vectors, vectors)
    trials = 2 + int(np.log(width))
    centers = np.empty((width, vectors.shape[1]), np.float32)
    drawn = random.integers(len(vectors), size=1)
    distance = np.full((len(vectors), 1), np.inf, np.float32)
    for cell in range(width):
        fresh = squares[:, None] - 2.0 * (vectors @ vectors[drawn].T) + squares[drawn]
        fresh[drawn, np.arange(len(drawn))] = 0
        fresh = np.minimum(distance, np.maximum(fresh, 0))
        best = int(fresh.sum(axis=0, dtype=np.float64).argmin())
        centers[cell], distance = vectors[drawn[best]], fresh[:, [best]]
        heap = np.cumsum(distance, dtype=np.float64)
        places = np.searchsorted(heap, random.random(trials) * heap[-1], side="right")
        drawn = places if heap[-1] > 0 else random.integers(len(vectors), size=trials)
        drawn = np.minimum(drawn, len(vectors) - 1)
    return centers


def _table(centers: Array, prices: Array | None) -> Array:
    """What a vector with a one behind it is multiplied by to give |c|^2 - 2 x.c plus the price; (D + 1, M)."""
    squares = (centers**2).sum(axis=1)
    table: Array = np.vstack([-2 * centers.T, squares if prices is None else squares + prices]).astype(np.float32)
    return table


def _nearest(block: Array, table: Array, prices: Array | None) -> tuple[Array, Array]:
    """`nearest` on one block; |x|^2 is added for the one chosen."""
    wide = np.empty((len(block), len(table)), np.float32)
    wide[:, :-1], wide[:, -1] = block, 1
    scores = wide @ table
    codes = scores.argmin(axis=1)
    distance = scores[np.arange(len(block)), codes] + np.einsum("nd,nd->n", block, block)
    if prices is not None:
        distance -= prices[codes]
    return codes, np.maximum(distance, 0)


def _step(vectors: Array, centers: Array, prices: Array | None = None) -> tuple[Array, Array, Array, Array]:
    """Codes, distances, sums (M, D) float64 and counts of the cells, in one walk over the vectors."""
    table = _table(centers, prices)

    def block(start: int) -> tuple[Array, Array, Array]:
        rows = vectors[start : start + BLOCK]
        cells, far = _nearest(rows, table, prices)
        ones = np.ones(len(rows), np.float32)
        member = sparse.csr_matrix((ones, cells, np.arange(len(rows) + 1)), shape=(len(rows), len(centers)))
        return cells, far, member.T @ rows

    codes, distance = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
    sums = np.zeros(centers.shape, np.float64)
    for start, (cells, far, cell_sums) in in_blocks(block, len(vectors)):
        codes[start : start + BLOCK], distance[start : start + BLOCK] = cells, far
        sums += cell_sums
    return codes, distance, sums, np.bincount(codes, minlength=len(centers))


def _fill_empty(vectors: Array, distance: Array, sums: Array, counts: Array) -> None:
    """Each empty cell takes the worst-served vector that no other has taken, in place."""
    empty = np.flatnonzero(counts == 0)
    worst = np.argsort(-distance, kind="stable")[: len(empty)]
    empty = empty[: len(worst)]
    sums[empty], counts[empty] = vectors[worst], 1
