"""Small parts that many tests need: model settings, a made-up item space, histories."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hisac_lab.base.artifacts import sha256_file, write_manifest
from hisac_lab.codebook.build import grow
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.model import ModelConfig
from hisac_lab.models import catalog
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import Candidates, ItemSpace
from hisac_lab.testing import samples
from hisac_lab.testing.samples import (
    BACKBONE,
    CPU,
    DAY,
    ITEMS,
    WITHOUT_ID,
    as_backbone,
    asked,
    make_history,
    make_instances,
    make_items,
    make_requests,
    padded,
    pick,
    prepare_log,
    says,
)
from hisac_lab.tokens.quantizer import ResidualQuantizer

__all__ = [
    "BACKBONE", "CPU", "DAY", "EVERY", "HEADER", "ITEMS", "MODELS", "WITHOUT_ID", "Stages", "after", "as_backbone",
    "ask", "asked",
    "lively", "make_book", "make_history", "make_instances", "make_items", "make_requests", "padded", "pick",
    "prepare_log", "raw_log", "says",
]  # fmt: skip
EVERY: dict[str, ModelConfig] = {
    name: config for kind in catalog.BUILT_IN.values() for name, config in kind.examples.items()
}
"""Small settings of every kind of model."""
MODELS = {name: config for name, config in EVERY.items() if not config.needs_instances}
"""Those that need histories alone."""


@dataclass(frozen=True)
class Stages:
    """Folders of a finished run: outputs of the stages, and the raw files they come from."""

    raw: Path
    acquire: Path
    prepare: Path
    embed: Path
    tokenize: Path
    codebook: Path


def lively(name: str, items: ItemSpace, seed: int = 0) -> Ranker:
    """A model of `EVERY` whose embedding tables are drawn wide, so that scores differ before any training."""
    return samples.lively(EVERY[name], items, seed)


def make_book(codes: np.ndarray) -> Codebook:
    """The tree over given semantic IDs; codewords are drawn."""
    random = np.random.default_rng(0)
    widths = codes.max(axis=0).clip(min=0) + 1
    return grow(codes, ResidualQuantizer(tuple(random.normal(size=(w, 4)).astype(np.float32) for w in widths)))


def ask(vectors: torch.Tensor, items: torch.Tensor | None = None) -> Candidates:
    """Candidates as a long branch gets them, from their vectors (R, C, D); item 0 unless told."""
    numbers = torch.zeros(vectors.shape[:2], dtype=torch.int64) if items is None else items

    def embed(items: torch.Tensor, ages: torch.Tensor, feedback: torch.Tensor) -> torch.Tensor:
        raise AssertionError("this branch embeds nothing")

    return Candidates(numbers, vectors, vectors, embed)


HEADER = "user_id,item_id,rating,timestamp\n"


def raw_log(folder: Path, events: pd.DataFrame | str, items: str | None = None) -> Path:
    """Puts an own log where the stage `acquire` would; a frame's columns are user, item, rating (or none), time."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(events, str):
        names = {"user": "user_id", "item": "item_id", "time": "timestamp"}
        events = events.rename(columns=names).to_csv(index=False, lineterminator="\n")
    (folder / "events").mkdir(exist_ok=True)
    path = folder / "events" / "events.csv"
    path.write_text(events)
    if items is not None:
        (folder / "items.csv").write_text(items)
    write_manifest(folder, dataset="own", layout="own", files={"events/events.csv": sha256_file(path)})
    return folder


def after(steps: int | None) -> Callable[[int, float], bool]:
    """For `train(on_step=...)`: ends the run after so many steps of this call; None: never."""
    taken = itertools.count(1)
    return lambda step, loss: steps is not None and next(taken) >= steps
