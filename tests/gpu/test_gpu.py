"""On a GPU: bf16 training stays near single precision on the processor, and votes are the same votes."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, MODELS, says

from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime
from hisac_lab.inference.sides import CountedAgents
from hisac_lab.models import tables
from hisac_lab.models.backbone import Backbone, Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.training import loop

STAND_IN = os.environ.get("HISAC_LAB_TESTS_WITHOUT_GPU") == "run"
"""Whether the tests run on a processor where there is no card, as `make gpu ARGS=--rehearse` asks."""
CARD = torch.device("cpu" if STAND_IN and not torch.cuda.is_available() else "cuda")
cuda_only = pytest.mark.skipif(CARD.type == "cpu", reason="torch sees no CUDA device on this machine")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() and not STAND_IN, reason="torch sees no CUDA device on this machine"
    ),
]
STEPS = 8
WHOLE = [name for name, one in MODELS.items() if one.kind in ("linear", "trees")]
"""They learn all requests at once, on the processor wherever their tensors are."""
TRAIN = TrainConfig(epochs=1, batch_requests=64)


@pytest.fixture
def gpu() -> Runtime:
    """The GPU with the precision that `auto` chooses there."""
    return Runtime.start(ComputeConfig()) if CARD.type == "cuda" else Runtime(CARD, mixed=True)


def _loader(model: Ranker, rows: Requests, runtime: Runtime) -> Loader:
    """Requests as the model reads them in training, but for instances, which are not at hand here."""
    return Loader.of(model, rows, runtime, names=[name for name in model.sides if name != "instances"])


def _losses(
    name: str,
    items: ItemSpace,
    rows: dict[str, Requests],
    runtime: Runtime,
    config: TrainConfig = TRAIN,
) -> list[float]:
    losses: list[float] = []

    def record(step: int, loss: float) -> bool:
        losses.append(loss)
        return len(losses) == STEPS

    model = build(MODELS[name], BACKBONE, items, seed=0)
    train_loader, valid_loader = (_loader(model, rows[split], runtime) for split in ("train", "valid"))
    loop.train(model, train_loader, valid_loader, config, 0, "gpu", on_step=record)
    return losses


@cuda_only
def test_auto_takes_the_gpu_and_mixed_precision(gpu: Runtime) -> None:
    assert gpu == Runtime(torch.device("cuda"), mixed=True)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in WHOLE])
def test_mixed_precision_trains_near_single_precision(
    name: str, items: ItemSpace, rows: dict[str, Requests], gpu: Runtime
) -> None:
    found = _losses(name, items, rows, gpu)
    assert len(found) == STEPS
    assert np.isfinite(found).all()
    assert found == pytest.approx(_losses(name, items, rows, CPU), rel=0.02)


@pytest.mark.parametrize("name", WHOLE)
def test_a_ranker_over_columns_learns_nearly_the_same_on_both_devices(
    name: str, items: ItemSpace, rows: dict[str, Requests], gpu: Runtime
) -> None:
    """Trees split where a column's last bit says: two splits of nearly one gain can change places."""
    found = []
    for runtime in (CPU, gpu):
        model = build(MODELS[name], BACKBONE, items, seed=0)
        train_loader, valid_loader = (_loader(model, rows[split], runtime) for split in ("train", "valid"))
        loop.train(model, train_loader, valid_loader, TRAIN, 0, "gpu")
        found.append(score(model.to(CPU.device), _loader(model, rows["test"], CPU)))
    assert np.ptp(found[0]) > 0.1
    if MODELS[name].kind == "linear":
        np.testing.assert_allclose(found[1], found[0], atol=1e-3)
    assert np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] > 0.99
    assert np.median(np.abs(found[1] - found[0])) < 0.02


@pytest.mark.parametrize("name", ["din-whole", "hisac"])
def test_steps_in_parts_and_sparse_tables_train_like_plain_ones(
    name: str, items: ItemSpace, rows: dict[str, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    single = Runtime(CARD, mixed=False)
    plain = _losses(name, items, rows, single)
    parts = _losses(name, items, rows, single, TRAIN.model_copy(update={"accumulate": 3}))
    assert parts == pytest.approx(plain, rel=1e-3)
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)
    assert _losses(name, items, rows, single) == pytest.approx(plain, rel=1e-3)


@cuda_only
def test_a_gpu_without_memory_names_what_to_lower(
    items: ItemSpace, rows: dict[str, Requests], gpu: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "score", lambda *args: torch.empty(1 << 50, device=CARD))
    with says("settings", "train.batch_requests", "out of memory in a step of 64 requests", "lower it"):
        _losses("din-whole", items, rows, gpu)


@pytest.mark.parametrize("name", MODELS)
def test_single_precision_scores_are_those_of_the_processor(
    name: str, items: ItemSpace, rows: dict[str, Requests]
) -> None:
    model = build(MODELS[name], BACKBONE, items, seed=0)
    expected = score(model, _loader(model, rows["test"], CPU))
    single = Runtime(CARD, mixed=False)
    found = score(model.to(single.device), _loader(model, rows["test"], single))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("vote", ["tree", "flat"])
def test_votes_are_equal_on_both_devices(vote: str, items: ItemSpace, rows: dict[str, Requests], gpu: Runtime) -> None:
    model = build(MODELS["hisac"].model_copy(update={"vote": vote}), BACKBONE, items, seed=0)
    index = np.arange(len(rows["train"]))
    here = model.agents(Loader(rows["train"], CPU).batch(index).history)
    cached = CountedAgents.count(model, rows["train"], CPU)
    model.to(gpu.device)
    there = model.agents(Loader(rows["train"], gpu).batch(index).history)
    again = CountedAgents.count(model, rows["train"], gpu)
    for part in ("nodes", "votes"):
        assert torch.equal(getattr(here, part), getattr(there, part).cpu())
        np.testing.assert_array_equal(getattr(cached, part), getattr(again, part))


def test_a_model_saved_from_the_gpu_opens_on_the_processor(
    items: ItemSpace, rows: dict[str, Requests], gpu: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = build(MODELS["hisac"], BACKBONE, items, seed=0)
    expected = score(model, _loader(model, rows["test"], CPU))
    out = tmp_path_factory.mktemp("bundle")
    save_model(out, model.to(gpu.device), MODELS["hisac"], items)
    np.testing.assert_array_equal(score(load_model(out)[0], _loader(model, rows["test"], CPU)), expected)
