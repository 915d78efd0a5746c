"""What is known of the items, from the outputs of three stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.codebook.tree import Codebook
from hisac_lab.events.store import EventStore
from hisac_lab.inference.records import CatalogFile, FieldLevels, NumberScale
from hisac_lab.models.contract import ItemSpace


def load_items(*, prepared: Path, embedded: Path, codebook: Path) -> ItemSpace:
    """Collects what is known of the items from the outputs of three stages."""
    store = EventStore.open(prepared)
    numbers = None if store.item_numbers is None else torch.from_numpy(standardized(store.item_numbers))
    return ItemSpace(
        semantic=torch.from_numpy(np.array(load_array(embedded, "embeddings"))),
        fields=torch.from_numpy(store.item_fields.astype(np.int64)),
        field_sizes=tuple(field.size for field in store.manifest.fields),
        codebook=Codebook.open(codebook),
        feedback=store.manifest.feedback,
        context=store.manifest.context,
        numbers=numbers,
    )


def standardized(numbers: Array, scale: tuple[Array, Array] | None = None) -> Array:
    """Each column on a logarithmic scale, mean zero and spread one, 0 where it is not known; then whether it is not.

    Args:
        numbers: (items, N), NaN where one is not known.
        scale: Center and spread of each column; None: its own.

    Returns:
        (items, 2 N) float32.
    """
    center, spread = scale_of(numbers) if scale is None else scale
    known = ~np.isnan(numbers)
    centered = np.where(known, _logarithm(numbers) - center, 0.0)
    columns: Array = np.concatenate([centered / np.where(spread > 0, spread, 1.0), ~known], axis=1)
    return columns.astype(np.float32)


def scale_of(numbers: Array) -> tuple[Array, Array]:
    """Center and spread of the known logarithms of each column; (items, N) to two (N,) float64."""
    known = ~np.isnan(numbers)
    scaled = np.where(known, _logarithm(numbers), 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    center = scaled.sum(axis=0) / count
    centered = np.where(known, scaled - center, 0.0)
    return center, np.sqrt((centered**2).sum(axis=0) / count)


def _logarithm(numbers: Array) -> Array:
    logarithm: Array = np.copysign(np.log1p(np.abs(numbers)), numbers)
    return logarithm


def describe_catalog(store: EventStore) -> CatalogFile:
    """How the items' columns were read: values by code, scales of numbers."""
    fields, codes = [], store.item_fields
    for column, field in enumerate(store.manifest.fields):
        seen, first = np.unique(codes[:, column], return_index=True)
        values = [""] * field.size
        for code, value in zip(seen.tolist(), store.item_table[field.name].iloc[first].tolist(), strict=True):
            values[code] = str(value)
        fields.append(FieldLevels(name=field.name, values=values))
    numbers = []
    if store.item_numbers is not None:
        scales = zip(store.manifest.numbers, *(part.tolist() for part in scale_of(store.item_numbers)), strict=True)
        numbers = [NumberScale(name=name, center=center, spread=spread) for name, center, spread in scales]
    return CatalogFile(fields=fields, numbers=numbers)
