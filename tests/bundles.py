"""Bundles of untrained models whose scores differ, for the server to answer with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from kit import BACKBONE, CPU, EVERY, ITEMS, MODELS, Stages, as_backbone, lively, make_items

from hisac_lab.config.model import BackboneConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.append import keep_encoder
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.backbone import Backbone, Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.registry.context import save_snapshots
from hisac_lab.serving.service import Reply, Service
from hisac_lab.training.loop import standardize

SPACE = make_items()


def bundle(home: Path, name: str, space: ItemSpace = SPACE, seed: int = 0) -> Path:
    """A bundle; its items are i0, i1, and so on, and it reads the last 50 events of a history."""
    home.mkdir()
    digest = "0123456789abcdef" if EVERY[name].needs_instances else None
    save_model(home, lively(name, space, seed), EVERY[name], space, digest)
    VocabularyFile(items=[f"i{item}" for item in range(ITEMS)], history_limit=50).save(home)
    return home


def bundle_with_tasks(home: Path) -> tuple[Path, Backbone]:
    """A bundle of a model with two further answers, bought and liked, and the model."""
    told = BACKBONE.model_copy(update={"tasks": {"bought": 0.5, "liked": 1.0}})
    model = as_backbone(build(MODELS["hisac"], told, SPACE, 0)).eval()
    home.mkdir()
    save_model(home, model, MODELS["hisac"], SPACE)
    VocabularyFile(items=[f"i{item}" for item in range(ITEMS)], history_limit=50).save(home)
    return home, model


def bundle_of(home: Path, name: str, stages: Stages, items: ItemSpace) -> Path:
    """A bundle of an untrained model on a finished run, with what later items are embedded and told apart by."""
    home.mkdir(parents=True)
    save_model(home, lively(name, items), EVERY[name], items)
    names = EventStore.open(stages.prepare).item_table["item"].tolist()
    VocabularyFile(items=names, history_limit=50).save(home)
    keep_encoder(home, prepared=stages.prepare, embedded=stages.embed, tokenized=stages.tokenize)
    return home


def bundle_of_log(home: Path, model: Ranker, name: str, items: ItemSpace, store: EventStore) -> Path:
    """A bundle of a model on a prepared log, as the stage `register` makes it; its settings are those of `name`."""
    home.mkdir()
    save_model(home, model, EVERY[name], items)
    VocabularyFile(items=store.item_table["item"].tolist(), history_limit=store.limit).save(home)
    save_snapshots(home, model, store)
    return home


def new_rows(stages: Stages, titles: list[str]) -> pd.DataFrame:
    """A table of new items n0, n1, and so on; their fields are those of the first item of the run."""
    table = EventStore.open(stages.prepare).item_table
    fields = {name: table[name].iloc[0] for name in table.columns if name not in ("item", "text")}
    return pd.DataFrame({"item": [f"n{at}" for at in range(len(titles))], "text": titles, **fields})


def reader_of_all(items: ItemSpace, training: Requests) -> Ranker:
    """HiSAC told all features, of items, pairs, users and feedback, standardized on training requests."""
    full = BACKBONE.model_copy(update={"features": BackboneConfig().features})
    made = as_backbone(build(MODELS["hisac"], full, items, 0))
    standardize(made, Loader.of(made, training, CPU), 64)
    torch.nn.init.normal_(made.tower[0].weight)  # type: ignore[arg-type]
    return made.eval()


def reply_of(service: Service, **request: Any) -> Reply:
    """The answer to one request that is right."""
    (reply,) = service.replies([request])
    assert isinstance(reply, Reply), reply
    return reply
