"""Residual quantizers: semantic IDs as paths of codewords, coarse to fine.

The residual k-means works on the L2-normalized embedding without an encoder, as HiSAC's Figure 1 draws it;
that distances to sums of codewords mean something there is inferred (docs/papers/hisac.md#semantic-ids). Every
quantizer keeps two promises, tested by one suite: depth-l codes are the first l levels of depth-L codes, and the sum of
the codewords on a path lives in the space into which `project` puts the items, so that distances between the two mean
something.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from hisac_lab.base.artifacts import Array, load_array, save_arrays
from hisac_lab.base.progress import track
from hisac_lab.tokens.kmeans import BLOCK, balance, in_blocks, kmeans, mini_batch_kmeans, nearest


@dataclass(frozen=True)
class ResidualQuantizer:
    """Codewords of each level, in the space of the embeddings; other quantizers replace what differs.

    Attributes:
        codewords: One (M_l, S) float32 array per level.
        prices: Per level what is added to the squared distance to each codeword, (M_l,) float32; empty: nothing.
    """

    kind: ClassVar[str] = "residual_kmeans"
    moves: ClassVar[bool] = False
    """Whether the codewords live in another space than the embeddings."""

    codewords: tuple[Array, ...]
    prices: tuple[Array, ...] = ()

    @property
    def depth(self) -> int:
        """Number of levels L."""
        return len(self.codewords)

    @property
    def widths(self) -> tuple[int, ...]:
        """Codes per level."""
        return tuple(len(words) for words in self.codewords)

    def cut(self, depth: int) -> Self:
        """The quantizer of the first `depth` levels: its codes are the first levels of these."""
        return replace(self, codewords=self.codewords[:depth], prices=self.prices[:depth])

    def project(self, vectors: Array) -> Array:
        """Embeddings in the space of the codewords: (n, D) to (n, S) float32."""
        return np.asarray(vectors, np.float32)

    def encode(self, vectors: Array) -> Array:
        """Semantic IDs of `vectors`: (n, D) to (n, L) int32; each level takes the codeword nearest to the residual."""

        def block(start: int) -> Array:
            residual = np.array(self.project(vectors[start : start + BLOCK]))
            codes = np.empty((len(residual), self.depth), np.int32)
            for level, words in enumerate(self.codewords):
                codes[:, level] = nearest(residual, words, self.prices[level] if self.prices else None)[0]
                residual -= words[codes[:, level]]
            return codes

        codes = np.empty((len(vectors), self.depth), np.int32)
        for start, block_codes in in_blocks(block, len(vectors)):
            codes[start : start + BLOCK] = block_codes
        return codes

    def decode(self, codes: Array) -> Array:
        """Sum of the codewords along each path, in their own space: (n, l <= L) to (n, S) float32."""
        return sum(
            (self.codewords[level][codes[:, level]] for level in range(codes.shape[1])),
            start=np.zeros((len(codes), self.codewords[0].shape[1]), np.float32),
        )

    def reconstruct(self, codes: Array) -> Array:
        """What the codes say of the embeddings: (n, l <= L) to (n, D) float32."""
        return self.decode(codes)

    def with_codewords(self, codewords: tuple[Array, ...]) -> Self:
        """The same quantizer with other codewords, as many as before."""
        return replace(self, codewords=codewords)

    def facts(self) -> dict[str, Any]:
        """What else the manifest says of it."""
        return {"balanced": bool(self.prices)}

    def save(self, out: Path) -> None:
        """Writes codewords and prices, one array per level."""
        save_arrays(out, {f"codewords_{level}": words for level, words in enumerate(self.codewords)})
        save_arrays(out, {f"prices_{level}": prices for level, prices in enumerate(self.prices)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Opens what `save` wrote.

        Raises:
            UserError: The stage `tokenize` has not run.
        """
        return cls(*_levels(path))


def depth_of(path: Path) -> int:
    """Depth of the semantic IDs in the output of the stage `tokenize`."""
    return int(load_array(path, "codes").shape[1])


def fit(
    vectors: Array, widths: tuple[int, ...], iterations: int, seed: int, balanced: bool = False
) -> ResidualQuantizer:
    """Fits residual k-means, the levels one after another, each on what the levels above left over.

    Args:
        vectors: (n, D) float32, one row per item, held in memory.
        widths: Codes per level.
        iterations: Lloyd iterations at most, per level.
        seed: Seed of the k-means++ starts.
        balanced: Whether to find prices that even out the codes.
    """
    residual = np.array(vectors, np.float32)
    words, prices = [], []
    for level, width in track(enumerate(widths), len(widths), "tokenize", "levels"):
        centers = kmeans(residual, width, iterations, np.random.default_rng([seed, level]))
        if balanced:
            centers, price = balance(residual, centers)
            prices.append(price)
        words.append(centers)
        residual -= centers[nearest(residual, centers, prices[-1] if balanced else None)[0]]
    return ResidualQuantizer(tuple(words), tuple(prices))


def fit_mini_batch(vectors: Array, widths: tuple[int, ...], steps: int, batch: int, seed: int) -> ResidualQuantizer:
    """Fits residual k-means by mini-batches: only the rows of a batch are ever in memory.

    Args:
        vectors: (n, D) float32, may be memory-mapped.
        widths: Codes per level.
        steps: Batches per level.
        batch: Vectors per batch.
        seed: Seed of starts and batches.
    """
    words: list[Array] = []
    for level, width in track(enumerate(widths), len(widths), "tokenize", "levels"):
        random = np.random.default_rng([seed, level])
        residuals = _Residuals(vectors, ResidualQuantizer(tuple(words)))
        words.append(mini_batch_kmeans(residuals, width, steps, batch, random))
    return ResidualQuantizer(tuple(words))


class _Residuals:
    """What the levels above leave of rows that are read only when they are asked for."""

    def __init__(self, vectors: Array, above: ResidualQuantizer) -> None:
        self.vectors, self.above = vectors, above

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Array) -> Array:
        residual = np.array(self.vectors[rows], np.float32)
        return residual - self.above.decode(self.above.encode(residual)) if self.above.depth else residual


def _levels(path: Path) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    depth = depth_of(path)
    words = tuple(np.array(load_array(path, f"codewords_{level}")) for level in range(depth))
    priced = (path / "prices_0.npy").exists()
    return words, tuple(np.array(load_array(path, f"prices_{level}")) for level in range(depth if priced else 0))
