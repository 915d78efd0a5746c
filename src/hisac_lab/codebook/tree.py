"""The global hierarchical codebook: the prefix tree over observed semantic IDs.

A node at level l is a prefix (s1..sl) that some item has; its vector is the sum of the codewords on its path, since
residual codewords are shared over parents (docs/papers/hisac.md#codebook: the tree is stated, the sum is stated for
agents and taken for inner nodes). Nodes of a level are ordered by prefix, so node order is code order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.codebook.flat import FlatBook
from hisac_lab.codebook.records import CodebookFacts

ITEM_VECTORS = "item_vectors"


@dataclass(frozen=True)
class Codebook:
    """The tree, level by level; level 0 of each tuple is the first below the root.

    Attributes:
        parents: Per level, the parent's number in the level above (0, the root, at the first); (nodes,) int64.
        vectors: Per level, the sum of codewords down to each node; (nodes, S) float32.
        counts: Per level, how many items lie below each node; (nodes,) int64.
        item_nodes: Node of each item at each level, -1 without a semantic ID; (items, L) int64.
        codes: Per level, the last code of each node; (nodes,) int64.
        item_vectors: The items in the space of `vectors`, zero rows without one, (items, S) float32; None where that
            is the space of the embeddings.
        flat: Flat codebooks beside the tree, by name.
        digest: Which codebook this is; a model remembers the one it was trained with. Empty for a made-up one.
    """

    parents: tuple[Array, ...]
    vectors: tuple[Array, ...]
    counts: tuple[Array, ...]
    item_nodes: Array
    codes: tuple[Array, ...] = ()
    item_vectors: Array | None = None
    flat: Mapping[str, FlatBook] = field(default_factory=dict)
    digest: str = ""

    @property
    def depth(self) -> int:
        """Number of levels L."""
        return len(self.parents)

    def cut(self, depth: int) -> Codebook:
        """The tree of the first `depth` levels: codes nest, so nothing is fitted again."""
        if not 1 <= depth <= self.depth:
            raise ValueError(f"depth {depth} is outside 1..{self.depth}")
        tables = {name: getattr(self, name)[:depth] for name in ("parents", "vectors", "counts", "codes")}
        return replace(self, item_nodes=self.item_nodes[:, :depth], **tables)

    def path(self, node: int, level: int) -> tuple[int, ...]:
        """Codes from the first level down to a node of `level`: its semantic ID when that is the last level."""
        codes: list[int] = []
        for above in range(level, -1, -1):
            codes.insert(0, int(self.codes[above][node]))
            node = int(self.parents[above][node])
        return tuple(codes)

    def items_at(self, node: int, level: int) -> Array:
        """Items below a node, in the order of their numbers; (n,) int64."""
        order, begins = self._by_node[level]
        items: Array = order[begins[node] : begins[node + 1]]
        return items

    @cached_property
    def _by_node(self) -> list[tuple[Array, Array]]:
        with_id = np.flatnonzero(self.item_nodes[:, 0] >= 0)
        tables = []
        for level in range(self.depth):
            order = with_id[np.argsort(self.item_nodes[with_id, level], kind="stable")]
            tables.append((order, np.concatenate([[0], np.cumsum(self.counts[level])])))
        return tables

    def fingerprint(self) -> str:
        """SHA-256 over tree, flat codebooks, vectors and items, shortened: equal for equal codebooks."""
        digest = hashlib.sha256()
        flat = (part for book in self.flat.values() for part in (book.vectors, book.item_nodes))
        for array in (*self.parents, *self.codes, *self.vectors, self.item_nodes, *flat):
            digest.update(str((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    @classmethod
    def open(cls, path: Path) -> Codebook:
        """Opens the output of the stage `codebook`; depth and shape are those of its manifest.

        Raises:
            UserError: The stage has not run, or its manifest is of another version.
        """
        facts = CodebookFacts.open(path)

        def levels(name: str) -> tuple[Array, ...]:
            return tuple(np.array(load_array(path, f"{name}_{level}")) for level in range(facts.depth))

        return cls(
            parents=levels("parents"),
            vectors=levels("vectors"),
            counts=levels("counts"),
            item_nodes=np.array(load_array(path, "item_nodes")),
            codes=levels("codes"),
            item_vectors=np.array(load_array(path, ITEM_VECTORS)) if facts.own_space else None,
            flat={name: FlatBook.load(path, name) for name in facts.flat},
            digest=facts.digest,
        )
