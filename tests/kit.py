"""Small parts that many tests need: model settings, a made-up item space, histories."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hisac_lab.base.artifacts import sha256_file, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.build import grow
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.model import DINConfig, FrameConfig, HiSACConfig
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History, ItemSpace
from hisac_lab.models.frame import Ranker
from hisac_lab.models.runtime import Runtime
from hisac_lab.tokens.quantizer import ResidualQuantizer, fit

CPU = Runtime(torch.device("cpu"), mixed=False)
DAY = 86_400
FRAME = FrameConfig(dim=8, short_window=5, attention_hidden=8, tower=(16,), dropout=0.0)
MODELS: dict[str, DINConfig | HiSACConfig] = {
    "din-short-only": DINConfig(whole_history=False),
    "din-whole": DINConfig(),
    "hisac": HiSACConfig(agents=8),
    "hisac-flat-vote": HiSACConfig(agents=8, vote="flat"),
    "hisac-hard-routing": HiSACConfig(agents=8, routing="hard"),
    "hisac-softmax-over-agents": HiSACConfig(agents=8, softmax_over="agents"),
    "hisac-weight-factor": HiSACConfig(agents=8, weight="factor", weight_temperature=2.0),
    "hisac-no-weight": HiSACConfig(agents=8, weight="none"),
    "hisac-one-level-one-head": HiSACConfig(agents=4, depth=1, heads=1),
    "hisac-own-budgets": HiSACConfig(budgets=(2, 1, 2), temperature=0.5),
}
ITEMS, WITHOUT_ID = 60, (3, 17)
"""Items of the made-up space; those numbers have no embedding, hence no semantic ID."""


@dataclass(frozen=True)
class Stages:
    """Folders of a finished run: outputs of the stages, and the raw files they come from."""

    raw: Path
    acquire: Path
    prepare: Path
    embed: Path
    tokenize: Path
    codebook: Path


def make_items(seed: int = 0) -> ItemSpace:
    """Sixty items with two fields, clustered embeddings and a tree of three levels; two items have no semantic ID."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(5, 6))[np.arange(ITEMS) % 5] + random.normal(0, 0.5, (ITEMS, 6))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    known = ~np.isin(np.arange(ITEMS), WITHOUT_ID)
    unit[~known] = 0
    quantizer = fit(unit[known], (5, 3, 3), 20, seed)
    codes = np.full((ITEMS, 3), -1, np.int32)
    codes[known] = quantizer.encode(unit[known])
    fields = np.stack([np.arange(ITEMS) % 4, np.arange(ITEMS) % 7], axis=1)
    return ItemSpace(torch.from_numpy(unit), torch.from_numpy(fields), (4, 7), grow(codes, quantizer))


def lively(name: str, items: ItemSpace, seed: int = 0) -> Ranker:
    """A model of `MODELS` whose embedding tables are drawn wide, so that scores differ before any training."""
    model = build(MODELS[name], FRAME, items, seed)
    for part in model.modules():
        if isinstance(part, torch.nn.Embedding):
            torch.nn.init.normal_(part.weight)
    return model.eval()


def make_history(lengths: list[int], seed: int = 0, items: int = ITEMS) -> History:
    """Histories of these lengths, padded on the left; ages of up to a year, newest event last."""
    random = np.random.default_rng(seed)
    width = max(1, *lengths)
    mask = np.arange(width) >= width - np.array(lengths)[:, None]
    numbers = np.where(mask, random.integers(0, items, mask.shape), 0)
    ages = np.where(mask, -np.sort(-random.integers(1, 365 * DAY, mask.shape), axis=1), 0)
    return History(torch.from_numpy(numbers), torch.from_numpy(ages), torch.from_numpy(mask))


def padded(history: History, more: int) -> History:
    """The same histories with `more` columns of padding on the left."""
    parts = (torch.nn.functional.pad(part, (more, 0)) for part in (history.items, history.ages, history.mask))
    return History(*parts)


def make_book(codes: np.ndarray) -> Codebook:
    """The tree over given semantic IDs; codewords are drawn."""
    random = np.random.default_rng(0)
    widths = codes.max(axis=0).clip(min=0) + 1
    return grow(codes, ResidualQuantizer(tuple(random.normal(size=(w, 4)).astype(np.float32) for w in widths)))


def says(*parts: str) -> pytest.RaisesExc[UserError]:
    """Expects a `UserError` of one line that holds `parts` in this order, and a mend after a semicolon."""
    pattern = ".*".join(re.escape(part) for part in parts)
    return pytest.raises(UserError, match=rf"\A(?=[^\n]*; [^\n]+\Z)[^\n]*{pattern}")


HEADER = "user_id,item_id,rating,timestamp\n"


def raw_log(folder: Path, events: pd.DataFrame | str, items: str | None = None) -> Path:
    """Puts an own log where the stage `acquire` would; a frame's columns are user, item, rating (or none), time."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(events, str):
        names = {"user": "user_id", "item": "item_id", "time": "timestamp"}
        events = events.rename(columns=names).to_csv(index=False, lineterminator="\n")
    (folder / "events.csv").write_text(events)
    if items is not None:
        (folder / "items.csv").write_text(items)
    write_manifest(folder, layout="csv", files={"events.csv": sha256_file(folder / "events.csv")})
    return folder
