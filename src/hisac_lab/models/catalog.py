"""The registry of models: one line per kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import load_array
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.model import AnyModel, DINConfig, FrameConfig, HiSACConfig
from hisac_lab.events.store import EventStore
from hisac_lab.models.contract import CardLine, ItemSpace, LongBranch
from hisac_lab.models.din import DINBranch
from hisac_lab.models.frame import Ranker
from hisac_lab.models.hisac import HiSACBranch

BRANCHES: dict[type, type[LongBranch]] = {
    DINConfig: DINBranch,
    HiSACConfig: HiSACBranch,
}


def build(config: AnyModel, frame: FrameConfig, items: ItemSpace, seed: int) -> Ranker:
    """Builds a model with weights drawn from `seed`.

    Raises:
        UserError: The configuration asks for more than the codebook can give.
    """
    torch.manual_seed(seed)
    if isinstance(config, DINConfig) and not config.whole_history:
        return Ranker(frame, items, None)
    return Ranker(frame, items, BRANCHES[type(config)](config, frame, items))


def fidelity_card(config: AnyModel) -> tuple[CardLine, ...]:
    """What is stated, inferred and left out in the reconstruction."""
    return BRANCHES[type(config)].card


def load_items(prepared: Path, embedded: Path, codebook: Path) -> ItemSpace:
    """Collects what is known of the items from the outputs of three stages."""
    store = EventStore.open(prepared)
    return ItemSpace(
        semantic=torch.from_numpy(np.array(load_array(embedded, "embeddings"))),
        fields=torch.from_numpy(store.item_fields.astype(np.int64)),
        field_sizes=tuple(field["size"] for field in store.manifest["fields"]),
        codebook=Codebook.open(codebook),
    )
