"""The global hierarchical codebook: the prefix tree over observed semantic IDs.

A node at level l is a prefix (s1..sl) that some item has; its vector is the sum of the codewords on its path, since
residual codewords are shared over parents (HiSAC section 3: the tree is stated, the sum is stated for agents and
taken for inner nodes). Nodes of a level are ordered by prefix, so node order is code order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array, read_manifest


@dataclass(frozen=True)
class Codebook:
    """The tree, level by level; level 0 of each tuple is the first below the root.

    Attributes:
        parents: Per level, the parent's number in the level above (0, the root, at the first); (nodes,) int64.
        vectors: Per level, the sum of codewords down to each node; (nodes, D) float32.
        counts: Per level, how many items lie below each node; (nodes,) int64.
        item_nodes: Node of each item at each level, -1 without a semantic ID; (items, L) int64.
    """

    parents: tuple[Array, ...]
    vectors: tuple[Array, ...]
    counts: tuple[Array, ...]
    item_nodes: Array

    @property
    def depth(self) -> int:
        """Number of levels L."""
        return len(self.parents)

    def cut(self, depth: int) -> Codebook:
        """The tree of the first `depth` levels: codes nest, so nothing is fitted again."""
        if not 1 <= depth <= self.depth:
            raise ValueError(f"depth {depth} is outside 1..{self.depth}")
        return Codebook(self.parents[:depth], self.vectors[:depth], self.counts[:depth], self.item_nodes[:, :depth])

    @classmethod
    def open(cls, path: Path) -> Codebook:
        """Opens the output of the stage `codebook`.

        Raises:
            UserError: The stage has not run.
        """
        depth = int(read_manifest(path)["depth"])

        def part(name: str) -> tuple[Array, ...]:
            return tuple(np.array(load_array(path, f"{name}_{level}")) for level in range(depth))

        return cls(part("parents"), part("vectors"), part("counts"), np.array(load_array(path, "item_nodes")))
