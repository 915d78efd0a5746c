"""The global hierarchical codebook: the prefix tree over observed semantic IDs.

A node at level l is a prefix (s1..sl) that some item has; its vector is the sum of the codewords on its path, since
residual codewords are shared over parents (HiSAC section 3: the tree is stated, the sum is stated for agents and
taken for inner nodes). Nodes of a level are ordered by prefix, so node order is code order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array, read_manifest, save_arrays, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.tokens.quantizer import ResidualQuantizer


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
        return Codebook(
            self.parents[:depth], self.vectors[:depth], self.counts[:depth], self.item_nodes[:, :depth]
        )

    @classmethod
    def open(cls, path: Path) -> Codebook:
        """Opens the output of the stage `codebook`.

        Raises:
            UserError: The stage has not run.
        """
        levels = range(int(read_manifest(path)["depth"]))
        parts = [
            tuple(np.array(load_array(path, f"{name}_{level}")) for level in levels)
            for name in ("parents", "vectors", "counts")
        ]
        return cls(*parts, np.array(load_array(path, "item_nodes")))


def grow(codes: Array, quantizer: ResidualQuantizer) -> Codebook:
    """Builds the tree.

    Args:
        codes: Semantic IDs, (items, L) int, rows of -1 for items without one.
        quantizer: Holds the codewords.
    """
    known = codes[:, 0] >= 0
    item_nodes = np.full(codes.shape, -1, np.int64)
    parents, vectors, counts = [], [], []
    above = np.zeros(int(known.sum()), np.int64)
    for level in range(codes.shape[1]):
        prefixes, node, count = np.unique(
            codes[known, : level + 1], axis=0, return_inverse=True, return_counts=True
        )
        node = node.ravel().astype(np.int64)
        parent = np.zeros(len(prefixes), np.int64)
        parent[node] = above
        item_nodes[known, level] = above = node
        parents.append(parent)
        vectors.append(quantizer.decode(prefixes).astype(np.float32))
        counts.append(count.astype(np.int64))
    return Codebook(tuple(parents), tuple(vectors), tuple(counts), item_nodes)


def build_codebook(tokenized: Path, out: Path) -> None:
    """Grows the tree over the semantic IDs of all items and writes it with its shape.

    Raises:
        UserError: No item has a semantic ID.
    """
    codes = np.asarray(load_array(tokenized, "codes"))
    if not (codes[:, 0] >= 0).any():
        raise UserError(tokenized / "codes.npy", "no item has a semantic ID", "give the items embeddings")
    book = grow(codes, ResidualQuantizer.load(tokenized))
    for name in ("parents", "vectors", "counts"):
        save_arrays(out, {f"{name}_{level}": part for level, part in enumerate(getattr(book, name))})
    save_arrays(out, {"item_nodes": book.item_nodes})
    fan_out = [
        np.bincount(parent, minlength=len(book.parents[level - 1]) if level else 1)
        for level, parent in enumerate(book.parents)
    ]
    write_manifest(
        out,
        depth=book.depth,
        nodes=[len(parent) for parent in book.parents],
        mean_fan_out=[round(float(fans.mean()), 4) for fans in fan_out],
        items_without_id=int((codes[:, 0] < 0).sum()),
    )
