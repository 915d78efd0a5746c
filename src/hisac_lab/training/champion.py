"""The champion as a training run of today: nothing is learned, its items are found among today's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import Array, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.feedback import Levels
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model, save_model, weights_of
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.records import CURVE, ModelFile, Point, Trained, VocabularyFile
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.models.champion import OF_ITS_DAY, Champion, ChampionConfig
from hisac_lab.models.contract import ItemSpace
from hisac_lab.ops.auc import auc
from hisac_lab.training.start import check_champion, places

ROW_CANDIDATES = 16
LEAST = 1e-6
"""Share of positives at least, and at most 1 less it: the logit of none is none."""


def enter_champion(
    name: str,
    config: ChampionConfig,
    compute: ComputeConfig,
    seed: int,
    items: ItemSpace,
    *,
    prepared: Path,
    bundle: Path,
    out: Path,
) -> None:
    """Writes the champion as a run of today's board.

    Args:
        name: Its name in the section `models`.
        config: Which champion it is.
        compute: The section `compute`.
        seed: Names the run; nothing is drawn.
        items: What is known of today's items.
        prepared: Output of the stage `prepare`.
        bundle: The champion's folder.
        out: An empty directory.

    Raises:
        UserError: The folder is another bundle or was changed, or its model is one that reads stored instances.
    """
    weights = weights_of(bundle)
    check_champion(bundle, config.digest)
    facts = ModelFile.open(bundle)
    if facts.instances is not None:
        raise UserError(bundle, f"reads stored instances: {OF_ITS_DAY}", "leave it off the board", "instances")
    runtime, store = Runtime.start(compute), EventStore.open(prepared)
    champion, _ = load_model(bundle)
    own = {"weights": weights, "model": facts.model, "backbone": facts.backbone, "items": facts.items}
    config = config.model_copy(update=own)
    model = build(config, champion.backbone, items, seed)
    assert isinstance(model, Champion)
    model.inner.load_state_dict(champion.state_dict())
    model.place.copy_(torch.from_numpy(places(VocabularyFile.open(bundle).items, store.item_table["item"].tolist())))
    if model.levels is not None and champion.levels is not None:
        model.level[1:] = torch.from_numpy(_levels(model.levels, champion.levels))
    clicked = np.clip(store.samples("train")["label"].mean(dtype=np.float64), LEAST, 1 - LEAST)
    model.unknown.fill_(round(math.log(clicked / (1 - clicked)), 6))
    valid = Requests.of(store, store.samples("valid"), ROW_CANDIDATES)
    model.to(runtime.device)
    logits = score(model, Loader.of(model, valid, runtime))[valid.mask].astype(np.float64)
    labels = valid.labels[valid.mask]
    quality = round(auc(labels, logits), 6)
    save_model(out, model, config, items)
    loss = round(float((np.logaddexp(0, logits) - labels * logits).mean()), 6)
    point = Point(step=0, train_loss=loss, valid_auc=quality, valid_log_loss=loss)
    write_file(out / CURVE, json.dumps(point.facts(), sort_keys=True) + "\n")
    parameters = sum(part.numel() for part in model.parameters())
    settings = config.model_dump(mode="json")
    Trained(name=name, seed=seed, settings=settings, parameters=parameters, steps=0, valid_auc=quality).save(out)


def _levels(ours: Levels, theirs: Levels) -> Array:
    """The champion's level of each of today's, by the least feedback of each; (levels,) int64."""
    return theirs.codes(np.array(ours.begins, np.float64)).astype(np.int64)
