"""One side of the models' benchmark, in a process of its own: SIDE FILE STEPS; prints one JSON line.

SIDE is deepctr or rechub, whose DIN runs in the environment of `deepctr.txt` or `rechub.txt`, or the settings of one of
our models as JSON. FILE holds the requests. A step is forward, backward and optimizer on one batch that lies ready as
tensors; CPU seconds of each step are printed, two warm-up steps left out, one thread.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

DIM, ATTENTION, TOWER, DROPOUT = 16, (32,), (64, 32), 0.1
WARM = 2
Step = Callable[[], Any]


def joined(data: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One row per sample, the history repeated for every candidate: (R * C, L), (R * C,), (R * C,)."""
    width = data["candidates"].shape[1]
    parts = (np.repeat(data["items"], width, axis=0), data["candidates"].ravel(), data["labels"].ravel())
    history, item, label = (torch.from_numpy(part) for part in parts)
    return history, item, label


def deepctr_side(data: Any) -> Step:
    """deepctr_torch.models.DIN; its one input is a float matrix, and its step is that of its `fit`."""
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DIN

    history, item, label = joined(data)
    vocabulary, length = len(data["semantic"]), history.shape[1]
    target = SparseFeat("item", vocabulary, embedding_dim=DIM)
    events = SparseFeat("hist_item", vocabulary, embedding_dim=DIM, embedding_name="item")
    columns = [target, VarLenSparseFeat(events, maxlen=length, length_name="length")]
    model = DIN(
        columns,
        ["item"],
        dnn_hidden_units=TOWER,
        dnn_dropout=DROPOUT,
        att_hidden_size=ATTENTION,
        att_activation="relu",
        att_weight_normalization=True,
        l2_reg_embedding=0.0,
    )
    model.compile("adam", "binary_crossentropy")
    parts = {"item": item[:, None], "hist_item": history, "length": torch.full((len(item), 1), length)}
    ready = torch.cat([parts[name] for name in model.feature_index], dim=1).float()
    model.train()

    def step() -> None:
        predicted = model(ready).squeeze(-1)
        model.optim.zero_grad()
        loss = model.loss_func(predicted, label, reduction="sum")
        loss = loss + model.get_regularization_loss() + model.aux_loss
        loss.sum().backward()
        model.optim.step()

    return step


def rechub_side(data: Any) -> Step:
    """torch_rechub.models.ranking.DIN; its step is that of its `CTRTrainer`."""
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.ranking import DIN
    from torch_rechub.trainers import CTRTrainer

    history, item, label = joined(data)
    vocabulary = len(data["semantic"])
    target = SparseFeature("item", vocab_size=vocabulary, embed_dim=DIM)
    events = SequenceFeature("hist_item", vocab_size=vocabulary, embed_dim=DIM, pooling="concat", shared_with="item")
    model = DIN(
        features=[target],
        history_features=[events],
        target_features=[target],
        mlp_params={"dims": list(TOWER), "dropout": DROPOUT},
        attention_mlp_params={"dims": list(ATTENTION), "activation": "relu", "use_softmax": True},
    )
    trainer = CTRTrainer(model, optimizer_params={"lr": 1e-3, "weight_decay": 0.0})
    ready = {"item": item, "hist_item": history}
    model.train()

    def step() -> None:
        loss = trainer.criterion(model(ready), label)
        loss = loss + trainer.reg_loss_fn(model)
        model.zero_grad()
        loss.backward()
        trainer.optimizer.step()

    return step


def our_side(data: Any, settings: dict[str, Any]) -> Step:
    """A model of this project; its step is that of the stage `train`, votes counted beforehand as there."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from workload import Workload, trainer

    return trainer(Workload(**data), settings)


def main() -> None:
    """Warms up, steps, prints."""
    side, file, steps = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(file) as parts:
        data = dict(parts)
    peers = {"deepctr": deepctr_side, "rechub": rechub_side}
    step = peers[side](data) if side in peers else our_side(data, json.loads(side))
    seconds = []
    for at in range(WARM + int(steps)):
        begin = time.process_time()
        step()
        if at >= WARM:
            seconds.append(time.process_time() - begin)
    print(json.dumps({"steps": seconds}))


if __name__ == "__main__":
    main()
