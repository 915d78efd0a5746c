"""Semantic IDs of items that come after the fit: by the quantizer as it is, behind the items that are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, copy_tree, load_array, save_arrays
from hisac_lab.base.errors import UserError
from hisac_lab.tokens.kmeans import nearest
from hisac_lab.tokens.methods import open_quantizer
from hisac_lab.tokens.records import LATENTS, Tokenized
from hisac_lab.tokens.tokenize import IDS


@arithmetic.one_thread()
def append_ids(tokens: Path, names: list[str], vectors: Array, out: Path) -> None:
    """Writes an output of the stage `tokenize` with more items; codewords and the rows that are there stay as they are.

    Args:
        tokens: The output of the fit, or what this wrote.
        names: Ids of the new items, n of them.
        vectors: Their embeddings, zero rows without one; (n, D) float32.
        out: A directory that is not there yet.

    Raises:
        UserError: The embeddings have another width than those of the fit.
    """
    facts = Tokenized.open(tokens)
    if vectors.shape[1] != facts.dim:
        what = f"the embeddings of the new items are {vectors.shape[1]} wide, those of the fit {facts.dim}"
        raise UserError(tokens, what, "embed them as those were embedded", "dim")
    quantizer, known = open_quantizer(tokens), np.flatnonzero(vectors.any(axis=1))
    rows = np.ascontiguousarray(vectors[known])
    copy_tree(tokens, out)
    codes = np.full((len(names), quantizer.depth), -1, np.int32)
    new: dict[str, Array] = {"codes": codes}
    if quantizer.moves:
        new[LATENTS] = np.zeros((len(names), quantizer.codewords[0].shape[1]), np.float32)
    for name in facts.flat:
        new[f"{name}_nodes"] = np.full(len(names), -1, np.int64)
    if len(known):
        codes[known] = quantizer.encode(rows)
        if quantizer.moves:
            new[LATENTS][known] = quantizer.project(rows)
        for name in facts.flat:
            new[f"{name}_nodes"][known] = nearest(rows, np.asarray(load_array(tokens, f"{name}_vectors")))[0]
    save_arrays(out, {name: np.concatenate([load_array(tokens, name), part]) for name, part in new.items()})
    columns = {f"code_{level + 1}": codes[:, level] for level in range(quantizer.depth)}
    before = pq.read_table(tokens / IDS)
    more = pa.table({"item": names, **columns}).cast(before.schema)
    pq.write_table(pa.concat_tables([before, more]).combine_chunks(), out / IDS)
    without = facts.items_without_id + len(names) - len(known)
    facts.model_copy(update={"items": facts.items + len(names), "items_without_id": without}).save(out)
