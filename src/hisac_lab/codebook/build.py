"""Growing the codebook from semantic IDs: the stage `codebook`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array, save_arrays, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.tree import Codebook
from hisac_lab.tokens.quantizer import ResidualQuantizer


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
        prefixes, node, count = np.unique(codes[known, : level + 1], axis=0, return_inverse=True, return_counts=True)
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
