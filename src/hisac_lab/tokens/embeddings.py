"""Item embeddings: the frozen semantic space in which quantizers and routing work.

Every method ends in centered, L2-normalized rows, so that squared distances lie in [0, 4] and one temperature fits
all (the papers leave the normalization open: inferred). Rows are made, written and normalized a batch at a time: memory
does not grow with the items, but for the factorization of `cooccurrence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, load_array, save_arrays
from hisac_lab.base.errors import SETTINGS, UserError, explain_os_error
from hisac_lab.base.progress import say
from hisac_lab.config.base import parse
from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.tokens.cooccurrence import cooccurrence_vectors
from hisac_lab.tokens.records import Embedded
from hisac_lab.tokens.text import static_vectors, transformer_vectors

BATCH = 4096
EMBEDDINGS = "embeddings.npy"
SAME = 1e-5  # a row this much shorter without the mean, relative to itself, is the mean


@arithmetic.one_thread()
def embed(config: EmbedConfig, *, prepared: Path, out: Path) -> None:
    """Writes `embeddings.npy`, (items, D) float32, centered and L2-normalized; zero rows for items without one.

    Beside it stands each mean that was taken off, `PART_mean.npy`, the items' own or that of an earlier output: items
    that come later are centered by it (see `embed_more`).

    Args:
        config: The section `embed`.
        prepared: Output of the stage `prepare`.
        out: An empty directory.

    Raises:
        UserError: What the method needs is missing, an item has nothing to be embedded by, or all are the same.
    """
    weight_of: dict[str, float] = {config.method: 1.0}
    if config.method == "concat":
        weight_of = {str(name): weight for name, weight in config.concat.items()}
    earlier = None if config.previous is None else Path(config.previous)
    if earlier is not None and (then := Embedded.open(earlier).parts) != weight_of:
        hint = "embed as then, or set it null"
        raise UserError(SETTINGS, f"{earlier} was made of {then}, not of {weight_of}", hint, "embed.previous")
    items = _count(prepared)
    _rows(config, weight_of, prepared, out, earlier)
    unit = load_array(out, "embeddings")
    embedded = sum(int(unit[at : at + BATCH].any(axis=1).sum()) for at in range(0, items, BATCH))
    if not embedded:
        raise UserError(
            prepared, "the items' vectors are all equal or zero", "give them texts or vectors that differ", "items"
        )
    Embedded(
        method=config.method,
        parts=weight_of,
        items=items,
        dim=unit.shape[1],
        items_without_embedding=items - embedded,
        **({"without_text": config.without_text} if config.without_text != "zero" else {}),
    ).save(out)


@arithmetic.one_thread()
def embed_more(earlier: Path, *, prepared: Path, out: Path, model_path: str | None = None) -> Array:
    """Vectors of items that came later, by the encoder as it was: method, weights and means are those of then.

    Args:
        earlier: What `embed` left: its manifest and means; the vectors themselves are not read.
        prepared: `items.parquet` of the new items and, for supplied vectors, `vectors.npy`.
        out: An empty directory, for what does not fit memory.
        model_path: Folder of the sentence-transformers model, where that was the method.

    Returns:
        (items, D) float32, zero rows for items without one.

    Raises:
        UserError: A part is learned from histories, which new items lack; what the method needs is missing, or vectors
            have another width.
    """
    facts = Embedded.open(earlier)
    if "cooccurrence" in facts.parts:
        what = "embeds items by the histories they stand in (embed.method: cooccurrence), and a new item has none"
        raise UserError(earlier, what, "run the graph anew, or embed by text or vectors", "method")
    given: dict[str, Any] = {"method": facts.method, "without_text": facts.without_text, "model_path": model_path}
    if facts.method == "concat":
        given["concat"] = facts.parts
    _rows(parse(EmbedConfig, given, SETTINGS, "embed"), facts.parts, prepared, out, earlier)
    return np.array(load_array(out, "embeddings"))


def _rows(
    config: EmbedConfig, weight_of: Mapping[str, float], prepared: Path, out: Path, earlier: Path | None = None
) -> None:
    """Writes `embeddings.npy`, centered by the rows' own means or by those of an earlier output."""
    items = _count(prepared)
    files = []
    for name in sorted(weight_of):
        files.append(out / f"{name}.npy")
        _write(files[-1], METHODS[name](config, prepared), items)
        if config.method in ("text", "sentence_transformers"):
            _tell_unknown(np.load(files[-1], mmap_mode="r"), config, prepared)
        _finish(files[-1], earlier)
    if config.method == "concat":
        arrays = [
            (np.load(path, mmap_mode="r"), weight_of[name]) for path, name in zip(files, sorted(weight_of), strict=True)
        ]
        _write(out / EMBEDDINGS, _side_by_side(arrays, items), items)
        del arrays
        for path in files:
            path.unlink()
        _finish(out / EMBEDDINGS, earlier)
    else:
        files[0].rename(out / EMBEDDINGS)


def supplied_vectors(config: EmbedConfig, prepared: Path) -> Iterator[Array]:
    """The vectors that came with the data; batches of (b, D) float32, zero rows for items without one.

    Raises:
        UserError: There are none, too few or too many, or one is not finite.
    """
    path = prepared / "vectors.npy"
    if not path.exists():
        raise UserError(path, "the data set has no vectors", "set embed.method: text or cooccurrence")
    vectors = load_array(prepared, "vectors")
    items = _count(prepared)
    if vectors.ndim != 2 or len(vectors) != items:
        shape = " x ".join(str(side) for side in vectors.shape)
        raise UserError(path, f"is {shape}, but there are {items} items", "give one row per item")
    for start in range(0, items, BATCH):
        block = np.asarray(vectors[start : start + BATCH], np.float32)
        if not np.isfinite(block).all():
            row = start + int(np.argwhere(~np.isfinite(block))[0, 0])
            raise UserError(path, f"row {row} is not finite", "fix the vector of that item")
        yield block


METHODS: dict[str, Callable[[EmbedConfig, Path], Iterator[Array]]] = {
    "text": static_vectors,
    "supplied": supplied_vectors,
    "sentence_transformers": transformer_vectors,
    "cooccurrence": cooccurrence_vectors,
}


def _count(prepared: Path) -> int:
    path = prepared / "items.parquet"
    try:
        return int(pq.read_metadata(path).num_rows)
    except OSError as error:
        raise explain_os_error(error, path) from error


def _write(path: Path, batches: Iterator[Array], items: int) -> None:
    """Batches into one file, as they come."""
    first = next(batches)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (items, first.shape[1]))
    rows[: len(first)] = first
    at = len(first)
    for batch in batches:
        rows[at : at + len(batch)] = batch
        at += len(batch)
    rows.flush()


def _finish(path: Path, earlier: Path | None) -> None:
    """Takes the mean off the rows that are not zero and gives them length one, in place; the mean is kept.

    Static word vectors share one large direction; without the mean, distances tell items apart.
    """
    rows = np.lib.format.open_memmap(path, "r+")
    name = f"{path.stem}_mean"
    if earlier is None:
        mean = _mean(rows)
    else:
        mean = np.array(load_array(earlier, name))
        if mean.shape != rows.shape[1:]:
            what = f"the vectors of new items are {rows.shape[1]} wide, those of the others {len(mean)}"
            raise UserError(earlier, what, "make them as those were made", name)
    save_arrays(path.parent, {name: mean})
    for start in range(0, len(rows), BATCH):
        block = np.array(rows[start : start + BATCH])
        before = np.linalg.norm(block, axis=1, keepdims=True)
        block -= np.where(before > 0, mean, 0)
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        told_apart = norms > SAME * before
        rows[start : start + BATCH] = np.divide(block, norms, out=np.zeros_like(block), where=told_apart)
    rows.flush()


def _mean(rows: Array) -> Array:
    """Mean of the rows that are not zero; (D,) float32."""
    sums, embedded = np.zeros(rows.shape[1]), 0
    for start in range(0, len(rows), BATCH):
        block = rows[start : start + BATCH]
        sums += block.sum(axis=0, dtype=np.float64)
        embedded += int(block.any(axis=1).sum())
    mean: Array = (sums / max(embedded, 1)).astype(np.float32)
    return mean


def _side_by_side(arrays: list[tuple[Array, float]], items: int) -> Iterator[Array]:
    for start in range(0, items, BATCH):
        yield np.concatenate([weight * part[start : start + BATCH] for part, weight in arrays], axis=1)


def _tell_unknown(rows: Array, config: EmbedConfig, prepared: Path) -> None:
    """Says how many items have no word that the model knows.

    Raises:
        UserError: There is one, and the settings refuse it.
    """
    chunks = range(0, len(rows), BATCH)
    empty = np.concatenate([start + np.flatnonzero(~rows[start : start + BATCH].any(axis=1)) for start in chunks])
    if not len(empty):
        return
    names = pq.read_table(prepared / "items.parquet", columns=["item"]).column("item")
    first = f"item {names[int(empty[0])].as_py()!r}"
    if config.without_text == "refuse":
        what = f"{first} has no word the model knows, so it has no embedding"
        hint = "give it a text, or set embed.without_text or embed.method: cooccurrence"
        raise UserError(prepared / "items.parquet", what, hint, "text")
    share = len(empty) / len(rows)
    say(f"embed: {len(empty):,} items ({share:.1%}) have no known word, {first} first: no vector, no semantic ID")
