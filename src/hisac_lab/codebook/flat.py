"""Flat codebooks: one k-means of the items' embeddings each, without levels. Votes are counted at their nodes.

Two of them cut the catalog along different borders, and so does one whose items are shared out softly: both smooth the
edges of a single partition (docs/papers/baselines.md#votes).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, load_array, save_arrays

BLOCK = 4096  # items whose distances are in memory at once
DIGITS = 6  # decimals of a squared distance that decide which node is nearer


@dataclass(frozen=True)
class FlatBook:
    """One flat codebook.

    Attributes:
        vectors: Of the nodes, in the space of the embeddings; (nodes, S) float32.
        item_nodes: Nearest node of each item, -1 without an embedding; (items,) int64.
    """

    vectors: Array
    item_nodes: Array

    @arithmetic.one_thread()
    def spread(self, vectors: Array, nearest: int, tau: float) -> tuple[Array, Array]:
        """Shares each item out to its nearest nodes: softmax over -|e - z|^2 / tau; ties go to the lower node.

        Args:
            vectors: Embeddings of the items; (items, S) float32.
            nearest: n nodes, at most as many as there are.
            tau: Softness, in squared distances.

        Returns:
            Nodes, nearest first, (items, n) int64, and shares that sum to one, (items, n) float32; -1 and 0 without an
            embedding.
        """
        squares = (self.vectors**2).sum(axis=1)
        numbers = np.arange(len(self.vectors))
        nodes, shares = np.empty((len(vectors), nearest), np.int64), np.empty((len(vectors), nearest), np.float32)
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            distance = squares - 2 * block @ self.vectors.T + (block**2).sum(axis=1)[:, None]
            steps = np.rint(distance.astype(np.float64) * 10**DIGITS).astype(np.int64)
            keys = steps * len(numbers) + numbers
            best = np.sort(np.partition(keys, nearest - 1, axis=1)[:, :nearest], axis=1)
            far = best // len(numbers)
            weights = np.exp((far[:, :1] - far) / (10**DIGITS * tau))
            nodes[start : start + BLOCK] = best % len(numbers)
            shares[start : start + BLOCK] = weights / weights.sum(axis=1, keepdims=True)
        nodes[self.item_nodes < 0], shares[self.item_nodes < 0] = -1, 0
        return nodes, shares

    def save(self, out: Path, name: str) -> None:
        """Writes vectors and nodes under the name of the codebook."""
        save_arrays(out, {f"{name}_vectors": self.vectors, f"{name}_nodes": self.item_nodes})

    @classmethod
    def load(cls, path: Path, name: str) -> FlatBook:
        """Opens what `save` wrote.

        Raises:
            UserError: It is not there.
        """
        return cls(*(np.array(load_array(path, f"{name}_{part}")) for part in ("vectors", "nodes")))
