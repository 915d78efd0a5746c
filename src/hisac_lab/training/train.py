"""One training run as a stage: settings and artifacts in, a model bundle out."""

from __future__ import annotations

import collections
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hisac_lab.base import plugins
from hisac_lab.base.artifacts import digest_of, write_file
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import say
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.context import given
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.records import CURVE, Trained
from hisac_lab.inference.runtime import Runtime
from hisac_lab.inference.weights import Streamed
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.training.exchange import rows_held, sharded
from hisac_lab.training.loop import OnStep, train
from hisac_lab.training.parallel import ProcessGroup, join
from hisac_lab.training.start import begin_from


def work_folder(home: Path, key: Any) -> Path:
    """A folder for what survives a kill: checkpoints, a study's journal.

    Its name holds a digest of `key`: settings, inputs and the code that runs, so that nothing stale is ever resumed.
    """
    return home / digest_of(key)


def requests_to_learn(
    store: EventStore, config: TrainConfig, seed: int, tasks: Sequence[str] = ()
) -> tuple[Requests, Requests]:
    """Requests of the training and of the validation period, with the labels that the section `train` asks for.

    Args:
        store: The events.
        config: The section `train`.
        seed: Of shuffled labels.
        tasks: Names of the answers to learn beside the label.

    Raises:
        UserError: The log was prepared without one of the answers.
    """
    train = Requests.to_learn(store, "train", config.max_candidates, tasks)
    valid = Requests.of(store, store.samples("valid"), config.max_candidates)
    return (train, valid) if config.labels == "own" else (train.shuffled(seed), valid.shuffled(seed))


def train_model(
    name: str,
    model_config: ModelConfig,
    backbone: BackboneConfig,
    config: TrainConfig,
    compute: ComputeConfig,
    seed: int,
    items: ItemSpace,
    *,
    prepared: Path,
    out: Path,
    work: Path,
    instances: Path | None = None,
    champion: Path | None = None,
    on_step: OnStep | None = None,
) -> None:
    """Trains one model with one seed and writes it as safetensors and JSON.

    Args:
        name: Its name in the section `models`.
        model_config: Its settings, after the sweep.
        backbone: The section `backbone`.
        config: The section `train`.
        compute: The section `compute`.
        seed: Seed of weights, order and dropout.
        items: Frozen knowledge of the items.
        prepared: Output of the stage `prepare`.
        out: An empty directory; of several processes (see `parallel`) only the main process writes.
        work: Where checkpoints live until the run has ended well.
        instances: Output of the stage `instances`, for models that read it.
        champion: The champion's folder, which `train.start_from` names.
        on_step: Called after every step (see `train`).

    Raises:
        UserError: The settings do not fit the data, or training diverges.
    """
    runtime, what = Runtime.start(compute), f"train {name} seed {seed}"
    store = EventStore.open(prepared)
    with join(runtime.device) as group:
        model = build(model_config, backbone, share_items(items, config, group), seed)
        learned = False
        if config.start_from is not None and champion is not None:
            why = begin_from(model, model_config, store.item_table["item"].tolist(), champion, config.start_from)
            learned = why is None
            say(f"{what}: begins with {'the champion' if learned else 'drawn weights, ' + str(why)}")
        requests = requests_to_learn(store, config, seed, model.tasks)
        train_loader, valid_loader = (Loader.of(model, part, runtime, instances) for part in requests)
        progress = train(
            model, train_loader, valid_loader, config, seed, what, work, group=group, on_step=on_step, learned=learned
        )
        write_model(out, model, model_config, items, group, train_loader.digests.get("instances"))
    if not group.is_main:
        return
    there = given(model.asked, items.context, model.levels)
    left_out = tuple(name for name in model.asked if name not in there)
    curve = "".join(json.dumps(point, sort_keys=True) + "\n" for point in progress.curve)
    write_file(out / CURVE, curve)
    Trained(
        name=name,
        seed=seed,
        settings=model_config.model_dump(mode="json"),
        parameters=sum(p.numel() for p in model.parameters()) + sum(part.elsewhere for part in sharded(model).values()),
        steps=progress.step,
        valid_auc=round(progress.best_auc, 6),
        **({"features_left_out": left_out} if left_out else {}),
        **({"labels": config.labels} if config.labels != "own" else {}),
        **({"started_from": config.start_from} if learned else {}),
        **plugins.origin(plugins.MODELS, model_config.kind),
    ).save(out)
    shutil.rmtree(work, ignore_errors=True)


def share_items(items: ItemSpace, config: TrainConfig, group: ProcessGroup) -> ItemSpace:
    """The items as one process knows them: with a part of their table, where processes hold different rows.

    Raises:
        UserError: The run begins with a champion's weights, whose table is whole.
    """
    if config.item_table == "whole" or group.world_size == 1:
        return items
    if config.start_from is not None:
        what = "is sharded, and train.start_from copies a champion's whole table"
        raise UserError(SETTINGS, what, "set whole, or train.start_from: null", "train.item_table")
    return dataclasses.replace(items, held=rows_held(len(items.semantic), group))


def write_model(
    out: Path,
    model: Ranker,
    config: ModelConfig,
    items: ItemSpace,
    group: ProcessGroup,
    instances: str | None = None,
) -> None:
    """`save_model` by the main process; the others send it the rows that they hold.

    Raises:
        UserError: Another process is gone.
    """
    tables = sorted(sharded(model).items())
    streamed = {name: Streamed((part.items, part.embedding_dim), group.gather(part.weight)) for name, part in tables}
    if group.is_main:
        save_model(out, model, config, items, instances, streamed)
        return
    for table in streamed.values():
        collections.deque(table.blocks, maxlen=0)
