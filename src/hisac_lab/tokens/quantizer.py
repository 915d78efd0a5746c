"""Residual k-means: semantic IDs in the space of the embeddings themselves.

HiSAC's Figure 1 draws plain residual quantisation (stated, S2); that the quantiser works on the L2-normalised
embedding without an encoder, so that distances to sums of codewords mean something, is inferred (hisac note, hole 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.progress import track


@dataclass(frozen=True)
class ResidualQuantizer:
    """Codewords of each level.

    Depth-l codes of this quantiser are the first l levels of its full codes: levels are fitted one after another.

    Attributes:
        codewords: One (M_l, D) float32 array per level.
    """

    codewords: tuple[Array, ...]

    @property
    def depth(self) -> int:
        """Number of levels L."""
        return len(self.codewords)

    def encode(self, vectors: Array) -> Array:
        """Semantic IDs of `vectors`: (n, D) to (n, L) int32; each level takes the codeword nearest to the residual."""
        residual = np.array(vectors, np.float32)
        codes = np.empty((len(residual), self.depth), np.int32)
        for level, codewords in enumerate(self.codewords):
            codes[:, level] = _nearest(residual, codewords)[0]
            residual -= codewords[codes[:, level]]
        return codes

    def decode(self, codes: Array) -> Array:
        """Sum of the codewords along each path: (n, l <= L) to (n, D) float32."""
        return sum(
            (self.codewords[level][codes[:, level]] for level in range(codes.shape[1])),
            start=np.zeros((len(codes), self.codewords[0].shape[1]), np.float32),
        )

    @classmethod
    def load(cls, path: Path) -> ResidualQuantizer:
        """Opens the output of the stage `tokenize`."""
        codewords = [np.asarray(load_array(path, f"codewords_{level}")) for level in range(depth_of(path))]
        return cls(tuple(codewords))


def depth_of(path: Path) -> int:
    """Depth of the semantic IDs in the output of the stage `tokenize`."""
    return int(load_array(path, "codes").shape[1])


def fit(vectors: Array, widths: tuple[int, ...], iterations: int, seed: int) -> ResidualQuantizer:
    """Fits the levels one after another, each on what the levels above left over.

    Args:
        vectors: (n, D) float32, one row per item.
        widths: Codes per level.
        iterations: Lloyd iterations at most, per level.
        seed: Seed of the k-means++ starts.
    """
    residual = np.array(vectors, np.float32)
    codewords = []
    levels = track(enumerate(widths), len(widths), "tokenize", "levels")
    for level, width in levels:
        centres, codes = _kmeans(residual, width, iterations, np.random.default_rng([seed, level]))
        codewords.append(centres)
        residual = residual - centres[codes]
    return ResidualQuantizer(tuple(codewords))


def _nearest(vectors: Array, centres: Array) -> tuple[Array, Array]:
    """Index of and squared distance to the nearest centre; ties go to the lower index."""
    scores = (centres**2).sum(axis=1) - 2.0 * vectors @ centres.T
    index = scores.argmin(axis=1)
    distance = scores[np.arange(len(vectors)), index] + (vectors**2).sum(axis=1)
    return index, np.maximum(distance, 0)


def _kmeans(vectors: Array, width: int, iterations: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Lloyd's algorithm with a k-means++ start; an empty cell takes the worst-served vector."""
    centres = _plus_plus(vectors, width, random)
    codes, distance = _nearest(vectors, centres)
    for _ in range(iterations):
        sums = np.zeros_like(centres, dtype=np.float64)
        np.add.at(sums, codes, vectors)
        counts = np.bincount(codes, minlength=width)
        for cell in np.flatnonzero(counts == 0):
            worst = int(distance.argmax())
            sums[cell], counts[cell], distance[worst] = vectors[worst], 1, 0
        centres = (sums / counts[:, None]).astype(np.float32)
        before = codes
        codes, distance = _nearest(vectors, centres)
        if np.array_equal(codes, before):
            break
    return centres, codes


def _plus_plus(vectors: Array, width: int, random: np.random.Generator) -> Array:
    centres = np.empty((width, vectors.shape[1]), np.float32)
    centres[0] = vectors[random.integers(len(vectors))]
    distance = ((vectors - centres[0]) ** 2).sum(axis=1)
    for cell in range(1, width):
        total = float(distance.sum(dtype=np.float64))
        if total > 0:
            chosen = int(np.searchsorted(np.cumsum(distance, dtype=np.float64), random.random() * total))
            chosen = min(chosen, len(vectors) - 1)
        else:
            chosen = int(random.integers(len(vectors)))
        centres[cell] = vectors[chosen]
        distance = np.minimum(distance, ((vectors - centres[cell]) ** 2).sum(axis=1))
    return centres
