"""What changes from step to step, and what is fixed before the first: learning rates, and standards of features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, MODELS, after

from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader
from hisac_lab.models import tables
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.path_votes import VotesBranch
from hisac_lab.training import loop
from hisac_lab.training.checkpoint import Progress
from hisac_lab.training.loop import train
from hisac_lab.training.optimizers import make_optimizers, set_rates

CONFIG = TrainConfig(epochs=2, batch_requests=128, checkpoint_every=3, checks_per_epoch=2)
LINEAR = CONFIG.model_copy(update={"schedule": "linear", "final_rate": 0.1})
Trained = tuple[Ranker, Progress]


@pytest.fixture
def fit(items: ItemSpace, rows: dict[str, Requests]) -> Callable[..., Trained]:
    """Trains a model by name; keywords are those of `train`."""

    def start(name: str, config: TrainConfig = CONFIG, **options: Any) -> Trained:
        model = build(MODELS[name], BACKBONE.model_copy(update={"dropout": 0.2}), items, 0)
        fitted, valid = (Loader(rows[split], CPU) for split in ("train", "valid"))
        return model, train(model, fitted, valid, config, 0, "test", **options)

    return start


def _same(one: Trained, other: Trained) -> bool:
    weights = zip(one[0].state_dict().values(), other[0].state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights) and one[1].curve == other[1].curve


@pytest.mark.parametrize("table_mb", [None, 0.004], ids=["own rows", "shared rows"])
def test_both_rates_fall_linearly_to_their_final_share(
    table_mb: float | None, items: ItemSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)
    model = build(MODELS["hisac"], BACKBONE.model_copy(update={"table_mb": table_mb}), items, 0)
    optimizers = make_optimizers(model, LINEAR)
    for step, share in enumerate((1.0, 0.7, 0.4, 0.1)):
        set_rates(optimizers, LINEAR, step, 4)
        for optimizer in optimizers:
            assert [group["lr"] for group in optimizer.param_groups] == [
                pytest.approx(share * optimizer.defaults["lr"]) for _ in optimizer.param_groups
            ]
    set_rates(optimizers, LINEAR, 0, 1)
    assert optimizers[0].param_groups[0]["lr"] == LINEAR.learning_rate
    set_rates(optimizers, CONFIG, 3, 4)
    assert optimizers[0].param_groups[0]["lr"] == CONFIG.learning_rate


def test_each_step_moves_by_the_rate_of_its_schedule(
    fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step_of = torch.optim.AdamW.step

    def watching(self: torch.optim.AdamW, *given: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step_of(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", watching)
    total = fit("din-short-only", LINEAR)[1].step
    shares = 1 - 0.9 * np.arange(total) / (total - 1)
    assert rates == pytest.approx(list(CONFIG.learning_rate * shares))


@pytest.mark.parametrize("stops", [[1], [4, 9], [3, 3, 3], [17]])
def test_a_killed_run_on_a_schedule_resumes_to_the_same_bytes(
    stops: list[int], fit: Callable[..., Trained], tmp_path: Path
) -> None:
    whole = fit("votes-straight-into-the-tower", LINEAR)
    assert not _same(whole, fit("votes-straight-into-the-tower"))
    for stop in stops:
        fit("votes-straight-into-the-tower", LINEAR, work=tmp_path, on_step=after(stop))
    assert _same(fit("votes-straight-into-the-tower", LINEAR, work=tmp_path), whole)


def test_features_are_standardized_on_the_training_set_once(
    fit: Callable[..., Trained], rows: dict[str, Requests]
) -> None:
    """Whatever the batches; the sample here is every training request."""
    one, other = (
        fit("votes-straight-into-the-tower", CONFIG.model_copy(update={"batch_requests": size}), on_step=after(2))[0]
        for size in (128, 50)
    )
    assert isinstance(one.long, VotesBranch)
    assert isinstance(other.long, VotesBranch)
    assert torch.equal(one.long.shift, other.long.shift)
    assert torch.equal(one.long.scale, other.long.scale)
    index = np.unique(np.linspace(0, len(rows["train"]) - 1, loop.SAMPLE).astype(int))
    batch = Loader(rows["train"], CPU).batch(index)
    features = one.long.path.features(one.long.path.encode(batch.history), batch.candidates)[batch.mask]
    torch.testing.assert_close(one.long.shift, features.mean(dim=0), atol=1e-4, rtol=1e-4)
