"""Made-up requests for the benchmarks of models: a catalog with semantic IDs, histories that repeat items, slates.

A user's events are drawn from a ranking of the catalog of their own by Zipf's law, so 1,000 events hold about 560
distinct items and 10,000 about 3,500. Semantic IDs are three levels of a tree of 64 x 16 x 8 codes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from hisac_lab.base.artifacts import Array
from hisac_lab.codebook.build import grow
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.instances import UNKNOWN, InstanceArrays, InstanceQuery
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import AnyModel, build
from hisac_lab.models.contract import History, ItemSpace
from hisac_lab.models.instances import Instances
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.training.optimizers import make_optimizers

ITEMS, SEMANTIC = 100_000, 64
CODES, SPREAD = (64, 16, 8), (1.0, 0.5, 0.25)
STEP = 7_919  # coprime to the number of items: rankings of two users are shifted against each other
DAY, YEAR = 86_400, 365 * 86_400
NOW = 1_700_000_000


@dataclass(frozen=True)
class Workload:
    """Requests of R users, every history full.

    Attributes:
        items: Item of each event, 1 to `ITEMS`, newest last; (R, L) int64.
        ages: Seconds from event to request; (R, L) int64.
        candidates: (R, C) int64, 1 to `ITEMS`.
        labels: 1 clicked, 0 not; (R, C) float32.
        semantic: Frozen vectors of the items, unit rows, row 0 zeros; (`ITEMS` + 1, `SEMANTIC`) float32.
        codes: Semantic IDs, -1 in row 0; (`ITEMS` + 1, 3) int64.
        words: Codewords of the three levels, one below the other; (88, `SEMANTIC`) float32.
    """

    items: Array
    ages: Array
    candidates: Array
    labels: Array
    semantic: Array
    codes: Array
    words: Array

    @classmethod
    def make(cls, requests: int, length: int, candidates: int, seed: int) -> Workload:
        """Draws it all from `seed`."""
        random = np.random.default_rng(seed)
        words = [
            spread * random.normal(size=(width, SEMANTIC)) / SEMANTIC**0.5
            for width, spread in zip(CODES, SPREAD, strict=True)
        ]
        codes = np.stack([random.integers(0, width, ITEMS + 1) for width in CODES], axis=1)
        vectors = sum(words[level][codes[:, level]] for level in range(len(CODES)))
        vectors += 0.25 * random.normal(size=vectors.shape) / SEMANTIC**0.5
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[0], codes[0] = 0, -1
        weights = np.cumsum(1 / np.arange(1, ITEMS + 1))
        rank = np.searchsorted(weights, random.random((requests, length)) * weights[-1])
        items = (rank * STEP + random.integers(0, ITEMS, (requests, 1))) % ITEMS + 1
        ages = -np.sort(-random.integers(60, YEAR, (requests, length)), axis=1)
        slate = random.integers(1, ITEMS + 1, (requests, candidates))
        labels = (random.random(slate.shape) < 0.2).astype(np.float32)
        return cls(items, ages, slate, labels, vectors.astype(np.float32), codes,
                   np.concatenate(words).astype(np.float32))  # fmt: skip

    def save(self, path: Path) -> None:
        """Writes it for another process."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Workload:
        """Reads what `save` has written."""
        with np.load(path) as parts:
            return cls(**parts)

    def space(self) -> ItemSpace:
        """The items as models get them: one field of 20 values, the codebook grown over all of them."""
        cuts = np.cumsum(CODES)[:-1]
        book = grow(self.codes, ResidualQuantizer(tuple(np.split(self.words, cuts))))
        fields = torch.from_numpy(np.arange(ITEMS + 1)[:, None] % 20)
        return ItemSpace(torch.from_numpy(self.semantic), fields, (20,), book)

    def history(self, model: Ranker, device: torch.device | str = "cpu") -> History:
        """All histories as this model gets them."""
        arrays = HistoryArrays(self.items, self.ages, np.ones(self.items.shape, bool))
        history = History.of(arrays, device)
        if "time" in model.sides:
            history = replace(history, time=torch.full((len(self.items),), NOW, device=device))
        if model.reads is None:
            return history
        return replace(history, instances=Instances.of(self.instances(model.reads), device))

    def instances(self, query: InstanceQuery) -> InstanceArrays:
        """An instance of each of the newest events, as if fetched: any vectors and labels, those of a day unknown."""
        items, ages = (part[:, -query.count :] for part in (self.items, self.ages))
        random = np.random.default_rng(0)
        vectors = np.tanh(random.standard_normal((*items.shape, query.dim), np.float32))
        labels = np.where(ages > DAY, random.integers(0, UNKNOWN, items.shape), UNKNOWN)
        return InstanceArrays(vectors, items, ages, labels, np.ones(items.shape, bool))

    @property
    def distinct(self) -> float:
        """Distinct items per history, mean."""
        return float(np.mean([len(np.unique(row)) for row in self.items]))


def ranker(load: Workload, settings: dict[str, Any], space: ItemSpace | None = None) -> Ranker:
    """A model of these settings over the items of the workload, the backbone as it comes, but for features.

    Raises:
        UserError: The settings do not fit.
    """
    config = TypeAdapter(AnyModel).validate_json(json.dumps(settings))
    return build(config, BackboneConfig(features=("length",)), space or load.space(), 0)


def trainer(
    load: Workload,
    settings: dict[str, Any],
    device: str = "cpu",
    space: ItemSpace | None = None,
    mixed: bool = False,
) -> Callable[[], float]:
    """One training step of a model on the whole workload as one batch: forward, backward, optimizers; the loss.

    Votes are counted beforehand, as the stage `train` does. Mixed: bf16 for matrix products, fp32 for weights.

    Raises:
        UserError: The settings do not fit.
    """
    model = ranker(load, settings, space).to(device).train()
    optimizers = make_optimizers(model, TrainConfig())
    history = load.history(model, device)
    history = replace(history, agents=model.agents(history))
    candidates, labels = (torch.from_numpy(part).to(device) for part in (load.candidates, load.labels))

    def step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            logits = model(history, candidates)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses.backward()
        for optimizer in optimizers:
            optimizer.step()
        return float(losses.detach())

    return step
