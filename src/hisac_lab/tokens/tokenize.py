"""The stage `tokenize`: embeddings in, quantizer, semantic IDs and their quality out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hisac_lab.base import arithmetic, plugins
from hisac_lab.base.artifacts import Array, load_array, save_arrays
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import say
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.events.records import Prepared
from hisac_lab.tokens.flat import fit_flat
from hisac_lab.tokens.kmeans import BLOCK, nearest
from hisac_lab.tokens.methods import fit_quantizer, open_previous, refit_quantizer
from hisac_lab.tokens.quality import check_limits, evener, measure, uneven
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.tokens.random_codes import distinct_rows
from hisac_lab.tokens.records import LATENTS, Tokenized

IDS = "ids.parquet"


@arithmetic.one_thread()
def tokenize(config: TokenizeConfig, *, prepared: Path, embedded: Path, out: Path) -> None:
    """Fits the quantizer on the items' embeddings and writes it with codes and their quality.

    Items without an embedding get the code -1 at every level: they neither vote nor are routed. Where the codewords
    live in a space of their own, `latents.npy` (items, S) float32 holds the items there. Flat codebooks stand beside:
    `NAME_vectors.npy` (nodes, D) float32 and `NAME_nodes.npy` (items,) int64.

    Args:
        config: The section `tokenize`.
        prepared: Output of the stage `prepare`: the items' ids and their first categorical field.
        embedded: Output of the stage `embed`.
        out: An empty directory.

    Raises:
        UserError: The embeddings cannot carry so many codes, an earlier fit does not match, or the quality gate closes.
    """
    vectors = load_array(embedded, "embeddings")
    names = pq.read_table(prepared / "items.parquet", columns=["item"]).column("item").cast(pa.string())
    _check(vectors, len(names), config, embedded / "embeddings.npy")
    with_vector = np.flatnonzero(_lengths(vectors) > 0)
    rows = vectors if len(with_vector) == len(vectors) else _gather(vectors, with_vector, out / "known.npy")
    quantizer, refit = _fit(config, rows, names.take(with_vector))
    codes = np.full((len(vectors), quantizer.depth), -1, np.int32)
    codes[with_vector] = quantizer.encode(rows)
    other = None
    if config.compare_seeds and config.previous is None:
        other = fit_quantizer(config, rows, config.seed + 1).encode(rows)
    fields = Prepared.open(prepared).fields
    categories = np.asarray(load_array(prepared, "item_fields"))[with_vector, 0].astype(np.int64) if fields else None
    quality = measure(rows, codes[with_vector], quantizer, config.neighbors, config.probes, categories, other)
    check_limits(quality, config)
    if poorest := uneven(quality):
        say(f"tokenize: {poorest}; {evener(config)}")
    if quantizer.moves:
        latents = np.zeros((len(vectors), quantizer.codewords[0].shape[1]), np.float32)
        latents[with_vector] = quantizer.project(rows)
        save_arrays(out, {LATENTS: latents})
    flat = _flat(
        config, rows, _moved(config, refit.get("new_items", len(rows)) / len(rows)), with_vector, len(vectors), out
    )
    (out / "known.npy").unlink(missing_ok=True)
    quantizer.save(out)
    save_arrays(out, {"codes": codes})
    columns = {f"code_{level + 1}": codes[:, level] for level in range(quantizer.depth)}
    pq.write_table(pa.table({"item": names.combine_chunks(), **columns}), out / IDS)
    if refit:
        refit |= changes(out / IDS, Path(str(config.previous)) / IDS)
    Tokenized(
        method=quantizer.kind,
        widths=list(quantizer.widths),
        depth=quantizer.depth,
        dim=vectors.shape[1],
        items=len(codes),
        items_without_id=len(codes) - len(with_vector),
        category=fields[0].name if fields else None,
        quality=quality,
        refit=refit,
        **({"flat": flat} if flat else {}),
        **quantizer.facts(),
        **plugins.origin(plugins.QUANTIZERS, quantizer.kind),
    ).save(out)


def changes(now: Path, then: Path) -> dict[str, Any]:
    """How many items that had an ID then have another now.

    Args:
        now: `ids.parquet` of this fit.
        then: That of the earlier one.

    Returns:
        `old_items` (with an ID in both), `changed_ids` (share of them) and `changed_by_level` (share whose first
        codes changed).
    """
    tables = [pq.read_table(path) for path in (now, then)]
    place = pc.index_in(tables[0].column("item"), value_set=tables[1].column("item"))
    rows = pc.fill_null(place, -1).to_numpy()
    after, before = (np.column_stack([column.to_numpy() for column in table.columns[1:]]) for table in tables)
    both = (rows >= 0) & (after[:, 0] >= 0) & (before[rows, 0] >= 0)
    moved = np.logical_or.accumulate(after[both] != before[rows[both]], axis=1)
    shares = [round(float(share), 6) for share in moved.mean(axis=0)] if both.any() else [0.0] * after.shape[1]
    return {"old_items": int(both.sum()), "changed_ids": shares[-1], "changed_by_level": shares}


def _fit(config: TokenizeConfig, rows: Array, names: pa.ChunkedArray) -> tuple[ResidualQuantizer, dict[str, Any]]:
    """The quantizer and, where it starts from an earlier one, how many items are new."""
    if config.previous is None:
        return fit_quantizer(config, rows, config.seed), {}
    path = Path(config.previous)
    previous = open_previous(path, config, rows.shape[1])
    seen = pq.read_table(path / IDS, columns=["item", "code_1"])
    old = seen.filter(pc.greater_equal(seen.column("code_1"), 0)).column("item")
    fresh = len(names) - pc.sum(pc.is_in(names, value_set=old), min_count=0).as_py()
    return refit_quantizer(previous, config, rows, _moved(config, fresh / len(names))), {"new_items": fresh}


def _moved(config: TokenizeConfig, fresh: float) -> float:
    """How far a fit goes from an earlier one: the share of new items, or nowhere."""
    return 0.0 if config.frozen else fresh


def _flat(
    config: TokenizeConfig, rows: Array, fresh: float, with_vector: Array, items: int, out: Path
) -> dict[str, int]:
    """Writes the flat codebooks, -1 for items without an embedding; how many nodes each has."""
    books = fit_flat(config, rows, fresh)
    for name, centers in books.items():
        nodes = np.full(items, -1, np.int64)
        nodes[with_vector] = nearest(rows, centers)[0]
        save_arrays(out, {f"{name}_vectors": centers, f"{name}_nodes": nodes})
    return {name: len(centers) for name, centers in books.items()}


def _check(vectors: Array, items: int, config: TokenizeConfig, where: Path) -> None:
    """What would otherwise end in codes that mean nothing."""
    if vectors.ndim != 2 or len(vectors) != items:
        shape = " x ".join(str(side) for side in vectors.shape)
        raise UserError(where, f"is {shape}, but there are {items} items", "run the stage embed again")
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK])
        if not np.isfinite(block).all():
            row = start + int(np.argwhere(~np.isfinite(block))[0, 0])
            raise UserError(where, f"row {row} is not finite", "fix the embedding of that item")
    distinct = distinct_rows(vectors)
    if distinct < 2:
        what = "all embeddings are equal" if distinct else "no item has an embedding"
        raise UserError(where, what, "give the items texts or vectors that differ, or change embed.method")
    for field, widths in (("widths", config.widths), ("flat", config.flat)):
        if max(widths, default=0) > distinct:
            raise UserError(
                SETTINGS,
                f"a level of {max(widths)} codes is more than the {distinct} distinct embeddings can give",
                "lower it or add items",
                f"tokenize.{field}",
            )


def _lengths(vectors: Array) -> Array:
    blocks = [np.asarray(vectors[at : at + BLOCK]).any(axis=1) for at in range(0, len(vectors), BLOCK)]
    return np.concatenate(blocks).astype(np.int8)


def _gather(vectors: Array, rows: Array, path: Path) -> Array:
    """The given rows as a file of their own, block by block."""
    gathered = np.lib.format.open_memmap(path, "w+", np.float32, (len(rows), vectors.shape[1]))
    for start in range(0, len(rows), BLOCK):
        gathered[start : start + BLOCK] = vectors[rows[start : start + BLOCK]]
    return gathered
