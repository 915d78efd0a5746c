"""What is known of the items, from the outputs of three stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.codebook.tree import Codebook
from hisac_lab.events.store import EventStore
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


def standardized(numbers: Array) -> Array:
    """Each column on a logarithmic scale, mean zero and spread one, 0 where it is not known; then whether it is not.

    Args:
        numbers: (items, N), NaN where one is not known.

    Returns:
        (items, 2 N) float32.
    """
    known = ~np.isnan(numbers)
    scaled = np.where(known, np.copysign(np.log1p(np.abs(numbers)), numbers), 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    centered = np.where(known, scaled - scaled.sum(axis=0) / count, 0.0)
    spread = np.sqrt((centered**2).sum(axis=0) / count)
    columns: Array = np.concatenate([centered / np.where(spread > 0, spread, 1.0), ~known], axis=1)
    return columns.astype(np.float32)
