"""Random codes: the control that any quantizer has to beat.

An item's code at each level is a hash of its embedding, so equal items share it and later items have one too, but
nearness is gone. Codewords are the means of what is left over, as in residual k-means.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.tokens.kmeans import BLOCK
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.tokens.records import RandomFile


@dataclass(frozen=True)
class RandomCodes(ResidualQuantizer):
    """Codes by hash.

    Attributes:
        seed: Seed of the hash.
    """

    kind: ClassVar[str] = "random"
    seed: int = 0

    def encode(self, vectors: Array) -> Array:
        """Semantic IDs of `vectors`: (n, D) to (n, L) int32, even over the codes."""
        return hashed(vectors, self.widths, self.seed)

    def facts(self) -> dict[str, Any]:
        """What else the manifest says of it."""
        return {}

    def save(self, out: Path) -> None:
        """Writes the codewords and the seed."""
        super().save(out)
        RandomFile(seed=self.seed).save(out)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Opens what `save` wrote."""
        return cls(ResidualQuantizer.load(path).codewords, seed=RandomFile.open(path).seed)


def fit_random(vectors: Array, widths: tuple[int, ...], seed: int) -> RandomCodes:
    """Draws the codes and takes the mean residual of each as its codeword.

    Args:
        vectors: (n, D) float32.
        widths: Codes per level.
        seed: Seed of the hash.
    """
    codes = hashed(vectors, widths, seed)
    residual = np.array(vectors, np.float32)
    words = []
    for level, width in enumerate(widths):
        sums = np.zeros((width, residual.shape[1]))
        np.add.at(sums, codes[:, level], residual)
        counts = np.bincount(codes[:, level], minlength=width).clip(min=1)
        words.append((sums / counts[:, None]).astype(np.float32))
        residual -= words[-1][codes[:, level]]
    return RandomCodes(tuple(words), seed=seed)


def hashed(vectors: Array, widths: tuple[int, ...], seed: int) -> Array:
    """A hash of each row's bytes as codes: (n, D) float32 to (n, L) int32."""
    codes = np.empty((len(vectors), len(widths)), np.int32)
    for start in range(0, len(vectors), BLOCK):
        state = row_hash(vectors[start : start + BLOCK], seed)
        for level, width in enumerate(widths):
            state = _mix(state + np.uint64(0x9E3779B97F4A7C15))
            codes[start : start + BLOCK, level] = (state >> np.uint64(32)) % np.uint64(width)
    return codes


def row_hash(block: Array, seed: int = 0) -> Array:
    """64 bits of each row's bytes, minus zero read as zero: (n, D) float32 to (n,) uint64."""
    odd = np.random.default_rng(seed).integers(1 << 62, size=block.shape[1], dtype=np.uint64) * 2 + 1
    bits = (np.ascontiguousarray(block, np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    return _mix((bits * odd).sum(axis=1))


def distinct_rows(vectors: Array) -> int:
    """How many different rows there are, zero rows aside; (n, D) float32, may be memory-mapped."""
    hashes = []
    for start in range(0, len(vectors), BLOCK):
        rows = np.asarray(vectors[start : start + BLOCK])
        hashes.append(row_hash(rows[rows.any(axis=1)]))
    return len(np.unique(np.concatenate(hashes))) if hashes else 0


def _mix(state: Array) -> Array:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = state ^ (state >> np.uint64(31))
    return mixed
