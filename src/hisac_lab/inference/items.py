"""What is known of the items, from the outputs of three stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import load_array
from hisac_lab.codebook.tree import Codebook
from hisac_lab.events.store import EventStore
from hisac_lab.models.contract import ItemSpace


def load_items(*, prepared: Path, embedded: Path, codebook: Path) -> ItemSpace:
    """Collects what is known of the items from the outputs of three stages."""
    store = EventStore.open(prepared)
    return ItemSpace(
        semantic=torch.from_numpy(np.array(load_array(embedded, "embeddings"))),
        fields=torch.from_numpy(store.item_fields.astype(np.int64)),
        field_sizes=tuple(field.size for field in store.manifest.fields),
        codebook=Codebook.open(codebook),
        feedback=store.manifest.feedback,
        context=store.manifest.context,
    )
