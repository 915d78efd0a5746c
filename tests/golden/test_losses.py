"""Golden losses: twenty steps of each model on the processor, compared with `NAME.json` beside this file.

They guard against numbers that move without anyone meaning it. Everything that could move them is written out below,
so that a change of defaults does not. When a change is meant to move them, say so in reports/LOG.md and run

    HISAC_LAB_REGENERATE=1 pytest tests/golden

which writes the files anew; the difference then stands in the commit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from kit import CPU

from hisac_lab.base.artifacts import write_json
from hisac_lab.config.model import AnyModel, DINConfig, FrameConfig, HiSACConfig
from hisac_lab.config.run import TrainConfig
from hisac_lab.events.batches import Rows
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.training import loop

STEPS = 20
FRAME = FrameConfig(dim=16, short_window=10, attention_hidden=16, tower=(32, 16), dropout=0.1)
TRAIN = TrainConfig(
    epochs=2,
    batch_requests=64,
    max_candidates=4,
    learning_rate=0.002,
    embedding_learning_rate=0.05,
    weight_decay=0.0001,
    checks_per_epoch=2,
    checkpoint_every=100,
)
MODELS: dict[str, AnyModel] = {
    "din_50": DINConfig(whole_history=False),
    "din_whole": DINConfig(whole_history=True),
    "hisac": HiSACConfig(
        depth=3,
        agents=16,
        breadth=0.7,
        budgets=None,
        temperature=0.07,
        vote="tree",
        routing="soft",
        softmax_over="behaviours",
        weight="bias",
        weight_temperature=1.0,
        heads=4,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_losses_of_twenty_steps_are_the_golden_ones(
    name: str, items: ItemSpace, rows: dict[str, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    step = loop._step

    def recording(*args: Any) -> float:
        losses.append(step(*args))
        return losses[-1]

    monkeypatch.setattr(loop, "_step", recording)
    model = build(MODELS[name], FRAME, items, seed=0)
    loop.train(model, rows["train"], rows["valid"], TRAIN, CPU, 0, "golden", stop_after=STEPS)
    assert len(losses) == STEPS
    path = Path(__file__).with_name(f"{name}.json")
    if os.environ.get("HISAC_LAB_REGENERATE"):
        write_json(path, losses)
        pytest.skip(f"{path.name} is written anew")
    golden = json.loads(path.read_text())
    assert losses == pytest.approx(golden, rel=1e-6), "see this file's docstring if the change is meant"
