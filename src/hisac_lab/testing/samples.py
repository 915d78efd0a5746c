"""Made-up items, histories and requests for the suites, and small helpers."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hisac_lab.base.artifacts import stage_output
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.build import grow
from hisac_lab.codebook.flat import FlatBook
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.events.batches import HistoryArrays, Requests
from hisac_lab.events.feedback import Levels
from hisac_lab.events.ingest import ingest
from hisac_lab.events.instances import UNKNOWN
from hisac_lab.events.prepare import prepare
from hisac_lab.events.records import Prepared
from hisac_lab.events.shard import shard
from hisac_lab.events.store import EventStore
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.backbone import Backbone, Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import Candidates, History, ItemSpace, UserState
from hisac_lab.models.instances import Instances
from hisac_lab.tokens.kmeans import kmeans, nearest
from hisac_lab.tokens.quantizer import fit

CPU = Runtime(torch.device("cpu"), mixed=False)
DAY = 86_400
BACKBONE = BackboneConfig(dim=8, short_window=5, attention_hidden=8, tower=(16,), dropout=0.0, features=("length",))
ITEMS, WITHOUT_ID = 60, (3, 17)
"""Items of the made-up space; those numbers have no embedding, hence no semantic ID."""
LEVELS = Levels(begins=[1.0, 2.0, 3.0], positive=3)
"""Levels of the feedback on them."""


def make_items(seed: int = 0) -> ItemSpace:
    """Sixty items with two fields, clustered embeddings, a tree of three levels and a flat codebook of six nodes.

    Two items have no semantic ID. Feedback on them has three levels.
    """
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(5, 6))[np.arange(ITEMS) % 5] + random.normal(0, 0.5, (ITEMS, 6))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    with_id = ~np.isin(np.arange(ITEMS), WITHOUT_ID)
    unit[~with_id] = 0
    quantizer = fit(unit[with_id], (5, 3, 3), 20, seed)
    codes = np.full((ITEMS, 3), -1, np.int32)
    codes[with_id] = quantizer.encode(unit[with_id])
    fields = np.stack([np.arange(ITEMS) % 4, np.arange(ITEMS) % 7], axis=1)
    centers = kmeans(unit[with_id], 6, 20, np.random.default_rng(seed))
    flat = FlatBook(centers, np.where(with_id, nearest(unit, centers)[0], -1).astype(np.int64))
    book = grow(codes, quantizer, flat={"flat_6": flat})
    return ItemSpace(torch.from_numpy(unit), torch.from_numpy(fields), (4, 7), book, LEVELS)


def lively(config: ModelConfig, items: ItemSpace, seed: int = 0) -> Ranker:
    """A model whose embedding tables are drawn wide, so that scores differ before any training."""
    model = build(config, BACKBONE, items, seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)
    return model.eval()


def as_backbone(model: Ranker) -> Backbone:
    """The same model, known to have an encoder, a short branch and a tower."""
    assert isinstance(model, Backbone)
    return model


def make_history(lengths: list[int], seed: int = 0, items: int = ITEMS) -> History:
    """Histories of these lengths, padded on the left; ages of up to a year, newest event last, any feedback."""
    random = np.random.default_rng(seed)
    width = max(1, *lengths)
    mask = np.arange(width) >= width - np.array(lengths)[:, None]
    numbers = np.where(mask, random.integers(0, items, mask.shape), 0)
    ages = np.where(mask, -np.sort(-random.integers(1, 365 * DAY, mask.shape), axis=1), 0)
    time = torch.from_numpy(random.integers(10**9, 2 * 10**9, len(lengths)))
    levels = np.random.default_rng([seed, 2]).integers(0, len(LEVELS) + 1, mask.shape)
    history = History.of(HistoryArrays(numbers, ages, mask, np.where(mask, levels, 0)))
    return dataclasses.replace(history, time=time, instances=make_instances(lengths, seed))


def make_instances(lengths: list[int], seed: int = 0, dim: int = 8, items: int = ITEMS) -> Instances:
    """Stored instances of users with histories of these lengths: about half as many."""
    random = np.random.default_rng([seed, 1])
    counts = (np.array(lengths) + 1) // 2
    width = max(1, *counts)
    mask = np.arange(width) >= width - counts[:, None]
    columns = (
        np.where(mask[..., None], np.tanh(random.normal(size=(*mask.shape, dim))), 0).astype(np.float32),
        np.where(mask, random.integers(0, items, mask.shape), 0),
        np.where(mask, -np.sort(-random.integers(1, 365 * DAY, mask.shape), axis=1), 0),
        np.where(mask, random.integers(0, 3, mask.shape), UNKNOWN),
        mask,
    )
    return Instances(*(torch.from_numpy(part) for part in columns))


def make_requests(users: int = 12, requests: int = 3, seed: int = 0) -> Requests:
    """Requests of users with histories of up to thirty events, each asked between two of them; four candidates."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, 30, users)
    offsets = np.r_[0, np.cumsum(lengths)]
    times = 10**9 + np.concatenate([np.sort(random.integers(0, 10**7, length)) for length in lengths])
    items, unread = random.integers(0, ITEMS, len(times)).astype(np.int32), dict[str, Any]()
    feedback = np.random.default_rng([seed, 2]).integers(0, len(LEVELS) + 1, len(times)).astype(np.uint8)
    store = EventStore(Path("nowhere"), Prepared.model_construct(**unread), items, times, offsets, feedback)
    user = np.repeat(np.arange(users), requests)
    end = offsets[user] + random.integers(1, lengths[user])
    time = np.maximum(times[end], times[end - 1] + 1)
    candidates = random.integers(0, ITEMS, (len(end), 4))
    labels = random.integers(0, 2, candidates.shape).astype(np.float32)
    return Requests(store, offsets[user], end, time, candidates, labels, candidates >= 0, candidates, user)


def padded(history: History, more: int) -> History:
    """The same histories and instances with `more` columns of padding on the left."""
    parts = (history.items, history.ages, history.mask, history.feedback)
    items, ages, mask, feedback = (torch.nn.functional.pad(part, (more, 0)) for part in parts)
    past = history.instances
    if past is not None:
        wide = torch.nn.functional.pad(past.vectors, (0, 0, more, 0))
        rest = (torch.nn.functional.pad(part, (more, 0)) for part in (past.items, past.ages, past.labels, past.mask))
        past = Instances(wide, *rest)
    longer: dict[str, Any] = {"items": items, "ages": ages, "mask": mask, "feedback": feedback}
    return dataclasses.replace(history, **longer, instances=past, agents=None)


def pick(history: History, rows: list[int]) -> History:
    """Some rows of a batch."""
    past = history.instances
    if past is not None:
        past = Instances(*(part[rows] for part in (past.vectors, past.items, past.ages, past.labels, past.mask)))
    alike = ("items", "ages", "mask", "feedback", "time", "user", "request")
    parts: dict[str, Any] = {name: part[rows] for name in alike if (part := getattr(history, name)) is not None}
    return dataclasses.replace(history, **parts, instances=past, agents=None)


def asked(model: Ranker, state: UserState, candidates: torch.Tensor) -> Candidates:
    """What the backbone hands to a long branch."""
    backbone = as_backbone(model)
    vectors = backbone.encoder(candidates)
    short = backbone.short(vectors, state["short_events"], state["short_mask"])
    return Candidates(candidates, vectors, short, backbone.embed)


def prepare_log(config: PrepareConfig, raw: Path, out: Path) -> None:
    """The stages `ingest`, `shard` and `prepare` in one go; `out` is made."""
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        ingested = Path(work) / "ingest"
        shards = [Path(work) / f"shard-{index}" for index in config.shards]
        with stage_output(ingested) as draft:
            ingest(config, raw=raw, out=draft)
        for index, path in enumerate(shards):
            with stage_output(path) as draft:
                shard(config, ingested=ingested, index=index, out=draft)
        with stage_output(out) as draft:
            prepare(config, ingested=ingested, shards=shards, out=draft)


def says(*pieces: str) -> pytest.RaisesExc[UserError]:
    """Expects a `UserError` of one line that holds `pieces` in this order, and a hint after a semicolon."""
    pattern = ".*".join(re.escape(part) for part in pieces)
    return pytest.raises(UserError, match=rf"\A(?=[^\n]*; [^\n]+\Z)[^\n]*{pattern}")
