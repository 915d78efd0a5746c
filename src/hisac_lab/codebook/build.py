"""Growing the codebook from semantic IDs: the stage `codebook`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, load_array, save_arrays
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.flat import FlatBook
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.codebook.tree import ITEM_VECTORS, Codebook
from hisac_lab.ops.ranks import grouped
from hisac_lab.tokens.prefixes import prefixes
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.tokens.records import LATENTS, Fitted

BLOCK = 1 << 16  # semantic IDs that are Python objects at once


def grow(
    codes: Array,
    quantizer: ResidualQuantizer,
    item_vectors: Array | None = None,
    flat: Mapping[str, FlatBook] = MappingProxyType({}),
) -> Codebook:
    """Builds the tree.

    Args:
        codes: Semantic IDs, (items, L) int, rows of -1 for items without one.
        quantizer: Holds the codewords.
        item_vectors: The items in the space of the codewords where that is not the embeddings' own; (items, S).
        flat: Flat codebooks that go along, by name.
    """
    with_id = codes[:, 0] >= 0
    levels = prefixes(codes[with_id])
    item_nodes = np.full(codes.shape, -1, np.int64)
    vectors: list[Array] = []
    for level, nodes in enumerate(levels):
        item_nodes[with_id, level] = nodes.node
        words = quantizer.codewords[level][nodes.code]
        vectors.append(words + vectors[-1][nodes.parent] if vectors else np.array(words, np.float32))
    book = Codebook(
        parents=tuple(part.parent for part in levels),
        vectors=tuple(vectors),
        counts=tuple(part.count for part in levels),
        item_nodes=item_nodes,
        codes=tuple(part.code for part in levels),
        item_vectors=item_vectors,
        flat=flat,
    )
    return replace(book, digest=book.fingerprint())


def grow_from(tokenized: Path) -> Codebook:
    """Builds the tree from the output of the stage `tokenize`, flat codebooks beside it.

    Raises:
        UserError: No item has a semantic ID.
    """
    codes = np.asarray(load_array(tokenized, "codes"))
    if not (codes[:, 0] >= 0).any():
        raise UserError(tokenized / "codes.npy", "no item has a semantic ID", "give the items embeddings")
    latents = np.asarray(load_array(tokenized, LATENTS)) if (tokenized / f"{LATENTS}.npy").exists() else None
    flat = {name: FlatBook.load(tokenized, name) for name in Fitted.open(tokenized).flat}
    return grow(codes, ResidualQuantizer.load(tokenized), latents, flat)


@arithmetic.one_thread()
def build_codebook(*, tokenized: Path, out: Path) -> None:
    """Grows the tree over the semantic IDs of all items and writes it with its shape, flat codebooks beside it.

    Beside the arrays stands `semantic_ids.parquet`, the table item <-> ID, sorted by ID and then by item number: the
    item's own id, its number, its semantic ID as text, the leaf and the codes; items without an ID come last.

    Raises:
        UserError: No item has a semantic ID.
    """
    book = grow_from(tokenized)
    codes, fitted = np.asarray(load_array(tokenized, "codes")), Fitted.open(tokenized)
    for name in ("parents", "vectors", "counts", "codes"):
        save_arrays(out, {f"{name}_{level}": part for level, part in enumerate(getattr(book, name))})
    save_arrays(out, {"item_nodes": book.item_nodes})
    if book.item_vectors is not None:
        save_arrays(out, {ITEM_VECTORS: book.item_vectors})
    for name, flat in book.flat.items():
        flat.save(out, name)
    pq.write_table(_both_ways(book, codes, tokenized), out / "semantic_ids.parquet")
    nodes = [len(parent) for parent in book.parents]
    CodebookFacts(
        depth=book.depth,
        widths=list(ResidualQuantizer.load(tokenized).widths),
        method=fitted.method,
        digest=book.digest,
        own_space=book.item_vectors is not None,
        nodes=nodes,
        mean_fan_out=[round(below / above, 4) for above, below in zip([1, *nodes], nodes, strict=False)],
        items=len(codes),
        items_without_id=int((codes[:, 0] < 0).sum()),
        **({"flat": fitted.flat} if fitted.flat else {}),
    ).save(out)


def _both_ways(book: Codebook, codes: Array, tokenized: Path) -> pa.Table:
    leaf = book.item_nodes[:, -1]
    order = grouped(np.where(leaf < 0, len(book.parents[-1]), leaf))
    names = pq.read_table(tokenized / "ids.parquet", columns=["item"]).column("item").take(order)
    rows, texts = codes[order], [pa.array([], pa.string())]
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].tolist()
        texts.append(pa.array(["-".join(map(str, row)) if row[0] >= 0 else None for row in block], pa.string()))
    columns = {f"code_{level + 1}": rows[:, level] for level in range(book.depth)}
    return pa.table(
        {"item": names, "number": order, "semantic_id": pa.concat_arrays(texts), "leaf": leaf[order], **columns}
    )
