"""New items for a trained model: vectors and semantic IDs by what the bundle holds frozen, nothing fitted again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, copy_tree, load_array, save_arrays
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.build import grow_from
from hisac_lab.events.items import UNKNOWN
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.carry import carry_over
from hisac_lab.inference.items import describe_catalog, standardized
from hisac_lab.inference.records import CatalogFile, ModelFile, VocabularyFile
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.tokens.append import append_ids
from hisac_lab.tokens.embeddings import EMBEDDINGS, embed_more

TOKENS, EMBED, FIELDS = "tokens", "embed", "item_fields"
"""In a bundle: output of `tokenize`, that of `embed` without the vectors, and the codes of the items' fields."""
SHUFFLED, SEMANTIC = '"shuffled"', "encoder.semantic"


def keep_encoder(out: Path, *, prepared: Path, embedded: Path, tokenized: Path) -> None:
    """Writes into a bundle what later items are embedded and told apart by: all but the vectors, which its model has.

    Args:
        out: The bundle.
        prepared: Output of the stage `prepare`.
        embedded: Output of the stage `embed`.
        tokenized: Output of the stage `tokenize`.
    """
    store = EventStore.open(prepared)
    copy_tree(tokenized, out / TOKENS)
    copy_tree(embedded, out / EMBED, EMBEDDINGS)
    describe_catalog(store).save(out)
    save_arrays(out, {FIELDS: store.item_fields.astype(np.int32)})


@arithmetic.one_thread()
def append_items(
    bundle: Path,
    table: pd.DataFrame,
    out: Path,
    *,
    where: Path,
    vectors: Array | None = None,
    model_path: str | None = None,
) -> ItemSpace:
    """Writes the model of a bundle with more items behind its own; every number of the older ones stays.

    Args:
        bundle: As the stage `register` writes it, or this.
        table: The new items: item, text, the bundle's fields and numbers (NaN where not known).
        out: An empty directory.
        where: The file that the table was read from, for messages.
        vectors: Of the new items, where the bundle's items came with vectors; (n, D) float32.
        model_path: Folder of the sentence-transformers model, where that embeds.

    Returns:
        What is known of all items now.

    Raises:
        UserError: An item is there already, a value of a field is new, the bundle holds no encoder of items, it cannot
            embed new ones, or the model is a control with shuffled IDs.
    """
    if not (bundle / TOKENS).is_dir() or not (bundle / EMBED).is_dir():
        hint = "run the graph and register the model again"
        raise UserError(bundle, "holds no encoder of items: an earlier version of hisac-lab made it", hint, TOKENS)
    before, config = load_model(bundle)
    if SHUFFLED in config.model_dump_json():
        raise UserError(bundle, "is a control whose semantic IDs are shuffled", "take another model", "model.ids")
    vocabulary, catalog = VocabularyFile.open(bundle), CatalogFile.open(bundle)
    names = table["item"].astype(str).tolist()
    _check_new(names, vocabulary.items, where)
    codes, numbers = _codes(table, catalog, where), _numbers(table, catalog)
    embedded = _embedded(bundle / EMBED, table, vectors, where, model_path)
    append_ids(bundle / TOKENS, names, embedded, out / TOKENS)
    copy_tree(bundle / EMBED, out / EMBED)
    facts = ModelFile.open(bundle)
    blank = ItemSpace.blank(**facts.items)
    old_fields = np.asarray(load_array(bundle, FIELDS)).reshape(len(vocabulary.items), len(catalog.fields))
    fields = np.concatenate([old_fields, codes]).astype(np.int32)
    held = before.state_dict()
    space = replace(
        blank,
        semantic=torch.cat([held.get(SEMANTIC, blank.semantic), torch.from_numpy(embedded)]),
        fields=torch.from_numpy(fields.astype(np.int64)),
        codebook=grow_from(out / TOKENS),
        numbers=None
        if blank.numbers is None
        else torch.cat([held.get("encoder.numbers", blank.numbers), torch.from_numpy(numbers)]),
    )
    model = _grown(before, build(config, before.backbone, space, seed=0), bundle)
    save_model(out, model, config, space, facts.instances)
    VocabularyFile(items=[*vocabulary.items, *names], history_limit=vocabulary.history_limit).save(out)
    catalog.save(out)
    save_arrays(out, {FIELDS: fields})
    return space


def same_model(before: Path, now: Path) -> bool:
    """Whether a bundle is another with more items: the same items first, as they were, every learned number the same.

    Raises:
        UserError: One of them is damaged.
    """
    there, here = VocabularyFile.open(before).items, VocabularyFile.open(now).items
    one, two = ModelFile.open(before), ModelFile.open(now)
    if here[: len(there)] != there or (one.model, one.backbone) != (two.model, two.backbone):
        return False
    was, here_is = (np.asarray(load_array(home / TOKENS, "codes"))[: len(there)] for home in (before, now))
    old, new = load_model(before)[0], load_model(now)[0]
    vectors = [model.state_dict().get(SEMANTIC, torch.zeros(0))[: len(there)] for model in (old, new)]
    if not np.array_equal(was, here_is) or not torch.equal(*vectors):
        return False
    held = {name: part.clone() for name, part in new.state_dict().items()}
    try:
        _carry(old, new)
    except ValueError:
        return False
    return all(torch.equal(part, held[name]) for name, part in new.state_dict().items())


def _grown(before: Ranker, now: Ranker, bundle: Path) -> Ranker:
    try:
        _carry(before, now)
    except ValueError as error:
        what = f"its model cannot take more items as it is ({error})"
        raise UserError(bundle, what, "run the graph anew with the items in the log's item table") from error
    return now.eval()


def _carry(before: Ranker, now: Ranker) -> None:
    """What was learned, and whatever else does not grow with the items."""
    carry_over(before, now, torch.arange(before.catalog))
    held: Mapping[str, Tensor] = before.state_dict()
    for name, part in now.named_buffers():
        if name in held and held[name].shape == part.shape:
            part.copy_(held[name])


def _check_new(names: list[str], known: list[str], where: Path) -> None:
    if not names:
        raise UserError(where, "holds no items", "give a row for each new item")
    there = set(known)
    first = next((name for name in names if name in there), None)
    if first is not None:
        raise UserError(where, f"item {first!r} is one of the model's already", "leave it out", "item")


def _codes(table: pd.DataFrame, catalog: CatalogFile, where: Path) -> Array:
    """Codes of the fields; (n, F) int64. A new value is told as unknown, where the log had such items."""
    columns = [np.zeros((len(table), 0), np.int64)]
    for field in catalog.fields:
        number = {value: code for code, value in enumerate(field.values)}
        found = [number.get(str(value), number.get(UNKNOWN, -1)) for value in table[field.name]]
        if -1 in found:
            row = found.index(-1)
            value, item = table[field.name].iloc[row], table["item"].iloc[row]
            some = ", ".join(repr(one) for one in field.values[:5])
            what = f"item {item!r} has the value {value!r}, which no item of the log has"
            hint = f"name a known one ({some}{', ...' if len(field.values) > 5 else ''}), or run the graph anew"
            raise UserError(where, what, hint, field.name)
        columns.append(np.array(found, np.int64)[:, None])
    return np.concatenate(columns, axis=1)


def _numbers(table: pd.DataFrame, catalog: CatalogFile) -> Array:
    """Numeric columns, standardized as those of the older items; (n, 2 N) float32."""
    values = table[[one.name for one in catalog.numbers]].to_numpy(np.float64)
    scale = np.array([[one.center, one.spread] for one in catalog.numbers]).reshape(-1, 2).T
    return standardized(values, (scale[0], scale[1]))


def _embedded(encoder: Path, table: pd.DataFrame, vectors: Array | None, where: Path, model_path: str | None) -> Array:
    with tempfile.TemporaryDirectory() as home:
        prepared, out = Path(home) / "prepared", Path(home) / "out"
        prepared.mkdir()
        out.mkdir()
        table.to_parquet(prepared / "items.parquet", index=False)
        if vectors is not None:
            save_arrays(prepared, {"vectors": vectors})
        try:
            return embed_more(encoder, prepared=prepared, out=out, model_path=model_path)
        except UserError as error:
            if not error.where.startswith(home):
                raise
            missing = error.where.endswith("vectors.npy") and vectors is None
            hint = "give the vectors of the new items with --vectors" if missing else error.hint
            raise UserError(where, error.what, hint, error.field) from error
