"""The loop: it learns, it resumes to the same bytes, it says when it diverges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, MODELS, after, as_backbone, says

from hisac_lab.config.base import parse
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models import tables
from hisac_lab.models.backbone import Backbone, Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.tables import Embedding
from hisac_lab.training import loop
from hisac_lab.training.checkpoint import Progress
from hisac_lab.training.loop import train
from hisac_lab.training.optimizers import make_optimizers

NAMES = ["din-short-only", "din-whole", "hisac"]
DROPOUT = BACKBONE.model_copy(update={"dropout": 0.2})
CONFIG = TrainConfig(epochs=2, batch_requests=128, checkpoint_every=3, checks_per_epoch=2)
Trained = tuple[Ranker, Progress]


def loaders(rows: dict[str, Requests]) -> list[Loader]:
    """Requests for training and for validation."""
    return [Loader(rows[split], CPU) for split in ("train", "valid")]


@pytest.fixture
def fit(items: ItemSpace, rows: dict[str, Requests]) -> Callable[..., Trained]:
    """Trains a model by name; keywords are those of `train`."""

    def start(name: str, config: TrainConfig = CONFIG, seed: int = 0, **options: Any) -> Trained:
        model = build(MODELS[name], DROPOUT, items, seed)
        return model, train(
            model, Loader(rows["train"], CPU), Loader(rows["valid"], CPU), config, seed, "test", **options
        )

    return start


def _same(one: Trained, other: Trained) -> bool:
    weights = zip(one[0].state_dict().values(), other[0].state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights) and one[1].curve == other[1].curve


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_and_ranks_better_than_chance(name: str, fit: Callable[..., Trained]) -> None:
    progress = fit(name, TrainConfig(epochs=6, batch_requests=64, checks_per_epoch=1))[1]
    losses = [point["train_loss"] for point in progress.curve]
    assert losses[-1] < losses[0] - 0.05
    assert progress.best_auc > 0.65


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_of_one_seed_end_in_the_same_bytes(name: str, fit: Callable[..., Trained]) -> None:
    assert _same(fit(name), fit(name))
    assert not _same(fit(name), fit(name, seed=1))


@pytest.mark.parametrize(
    ("name", "stops"),
    [("din-short-only", [1]), ("din-whole", [7]), ("hisac", [4, 9]), ("hisac", [3, 3, 3]), ("hisac", [17])],
    ids=["before a checkpoint", "between", "twice", "on checkpoints", "near the end"],
)
def test_a_killed_run_resumes_to_the_same_bytes(
    name: str, stops: list[int], fit: Callable[..., Trained], tmp_path: Path
) -> None:
    whole = fit(name)
    assert whole[1].step > sum(stops)
    for stop in stops:
        stopped = fit(name, work=tmp_path, on_step=after(stop))[1]
        assert stopped.step < whole[1].step
    resumed = fit(name, work=tmp_path)
    assert _same(resumed, whole)


def test_a_resumed_run_goes_on_from_its_last_checkpoint(
    fit: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def stop_at_seven(step: int, loss: float) -> bool:
        done.append(step)
        return len(done) == 7

    fit("hisac", work=tmp_path, on_step=stop_at_seven)
    total = fit("hisac", work=tmp_path, on_step=lambda step, loss: done.append(step))[1].step
    assert done == [*range(7), *range(6, total)]


def test_a_finished_run_is_not_trained_again(fit: Callable[..., Trained], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"checkpoint_every": 1})
    whole = fit("hisac", config, work=tmp_path)
    assert _same(fit("hisac", config, work=tmp_path, on_step=after(0)), whole)


def test_the_best_weights_are_kept_not_the_last(fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.model_copy(update={"epochs": 4, "checks_per_epoch": 1})
    aucs = itertools.cycle([0.6, 0.9, 0.7, 0.8])
    monkeypatch.setattr(loop, "auc", lambda labels, scores: next(aucs))
    model, progress = fit("din-short-only", config)
    assert [point["valid_auc"] for point in progress.curve] == [0.6, 0.9, 0.7, 0.8]
    assert progress.best_auc == 0.9
    half, _ = fit("din-short-only", config, on_step=after(int(progress.curve[1]["step"])))
    for name, part in half.state_dict().items():
        assert torch.equal(part, model.state_dict()[name])


@pytest.mark.parametrize("parts", [2, 3, 1000], ids=["halves", "uneven", "more parts than rows"])
def test_a_step_in_parts_is_the_undivided_step(parts: int, items: ItemSpace, rows: dict[str, Requests]) -> None:
    """Losses are weighted by real candidates, not by parts; without dropout the weights agree."""
    assert not rows["train"].mask.all()
    found = []
    for accumulate in (1, parts):
        config = CONFIG.model_copy(update={"accumulate": accumulate, "learning_rate": 1e-4})
        model = build(MODELS["hisac"], BACKBONE, items, 0)
        progress = train(
            model, Loader(rows["train"], CPU), Loader(rows["valid"], CPU), config, 0, "test", on_step=after(6)
        )
        found.append((progress.loss_sum, *(part.detach() for part in model.parameters())))
    torch.testing.assert_close(found[0], found[1], atol=2e-4, rtol=1e-4)


def test_each_part_of_a_step_draws_its_own_dropout(
    fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, float]] = []
    backward = loop._backward

    def watching(*args: Any) -> float:
        state = torch.get_rng_state()
        drawn.append((len(args[2]), float(torch.rand(1))))
        torch.set_rng_state(state)
        return backward(*args)

    monkeypatch.setattr(loop, "_backward", watching)
    for accumulate in (1, 2):
        fit("din-short-only", CONFIG.model_copy(update={"accumulate": accumulate}), on_step=after(2))
    whole, halves = drawn[:2], drawn[2:]
    assert [size for size, _ in whole] == [first + second for (first, _), (second, _) in (halves[:2], halves[2:])]
    assert [draw for _, draw in whole] == [halves[0][1], halves[2][1]], "the first part has the undivided step's seed"
    assert len({draw for _, draw in halves}) == 4


def test_a_killed_run_in_parts_resumes_to_the_same_bytes(fit: Callable[..., Trained], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"accumulate": 3})
    whole = fit("hisac", config)
    fit("hisac", config, work=tmp_path, on_step=after(7))
    assert _same(fit("hisac", config, work=tmp_path), whole)


@pytest.mark.parametrize("table_mb", [None, 0.004], ids=["own rows", "shared rows"])
def test_a_killed_run_with_sparse_tables_resumes_to_the_same_bytes(
    table_mb: float | None, items: ItemSpace, rows: dict[str, Requests], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)
    backbone = DROPOUT.model_copy(update={"table_mb": table_mb})

    def start(**options: Any) -> Trained:
        model = as_backbone(build(MODELS["hisac"], backbone, items, 0))
        assert model.encoder.ids.sparse
        fitted, valid = loaders(rows)
        return model, train(model, fitted, valid, CONFIG, 0, "test", **options)

    whole = start()
    start(work=tmp_path, on_step=after(7))
    assert _same(start(work=tmp_path), whole)


def test_sparse_gradients_train_as_dense_ones_do(
    items: ItemSpace, rows: dict[str, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for least in (10**6, 16):
        monkeypatch.setattr(tables, "SPARSE_ROWS", least)
        model = as_backbone(build(MODELS["din-whole"], BACKBONE, items, 0))
        assert model.encoder.ids.sparse == (least == 16)
        progress = train(
            model, Loader(rows["train"], CPU), Loader(rows["valid"], CPU), CONFIG, 0, "test", on_step=after(6)
        )
        assert isinstance(model.encoder.ids, Embedding)
        found.append((progress.loss_sum, model.encoder.ids.weight.detach()))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_a_difference_in_the_fifth_decimal_neither_takes_the_weights_nor_restarts_the_patience(
    fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"epochs": 5, "checks_per_epoch": 1, "patience": 2})
    found = []
    for noise in (0.0, 4e-5, -4e-5):
        given = iter([0.6, 0.7, 0.7 + noise, 0.7 + noise])
        monkeypatch.setattr(loop, "auc", lambda labels, scores, given=given: next(given))
        found.append(fit("din-short-only", config))
    for model, progress in found:
        assert len(progress.curve) == 4
        assert progress.best_auc == 0.7
        for name, part in model.state_dict().items():
            assert torch.equal(part, found[0][0].state_dict()[name])
    monkeypatch.setattr(loop, "auc", lambda labels, scores: 0.7)
    first, _ = fit("din-short-only", config, on_step=after(int(found[0][1].curve[1]["step"])))
    assert all(torch.equal(part, found[0][0].state_dict()[name]) for name, part in first.state_dict().items())


AUCS = (0.6, 0.9, 0.7, 0.8, 0.95, 0.7, 0.6, 0.5)


@pytest.mark.parametrize(("patience", "checks"), [(1, 3), (2, 4), (3, 8)])
def test_training_ends_after_so_many_validations_without_a_better_auc(
    patience: int,
    checks: int,
    fit: Callable[..., Trained],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = CONFIG.model_copy(update={"epochs": 5, "checks_per_epoch": 2, "patience": patience})
    given = iter(AUCS)
    monkeypatch.setattr(loop, "auc", lambda labels, scores: next(given))
    progress = fit("din-short-only", config)[1]
    assert [point["valid_auc"] for point in progress.curve] == list(AUCS[:checks])
    assert [point.get("stopped_early") for point in progress.curve] == [None] * (checks - 1) + [1]
    assert progress.best_auc == max(AUCS[:checks])
    assert f"stopped after {progress.step} batches, {patience} validations without" in capsys.readouterr().err


def test_agents_with_few_votes_are_told_before_the_first_step(
    fit: Callable[..., Trained], capsys: pytest.CaptureFixture[str]
) -> None:
    fit("hisac", on_step=after(1))
    assert capsys.readouterr().err.count("test: the agents hold ") == 1
    fit("hisac-all-leaves", on_step=after(1))
    assert "the agents hold" not in capsys.readouterr().err


def test_a_run_that_lasts_its_epochs_has_not_stopped_early(fit: Callable[..., Trained]) -> None:
    progress = fit("din-short-only", CONFIG.model_copy(update={"patience": 100}))[1]
    assert not any("stopped_early" in point for point in progress.curve)
    assert _same(fit("din-short-only"), fit("din-short-only", CONFIG.model_copy(update={"patience": 100})))


@pytest.mark.parametrize("stop", [5, None], ids=["killed before it stopped", "killed after"])
def test_a_run_that_stopped_early_resumes_to_the_same_bytes(
    stop: int | None, fit: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation AUC falls from the second validation on, whoever asks."""
    monkeypatch.setattr(loop, "auc", lambda labels, scores: 1 - float(np.abs(scores).mean()))
    config = CONFIG.model_copy(update={"epochs": 8, "patience": 2, "checkpoint_every": 1})
    whole = fit("hisac", config)
    assert whole[1].curve[-1]["stopped_early"] == 1
    fit("hisac", config, work=tmp_path, on_step=after(stop))
    steps: list[int] = []
    assert _same(fit("hisac", config, work=tmp_path, on_step=lambda step, loss: steps.append(step)), whole)
    assert steps == ([] if stop is None else [*range(stop, whole[1].step)])


def test_validation_comes_as_often_as_asked_and_at_the_end(fit: Callable[..., Trained]) -> None:
    progress = fit("din-short-only", CONFIG.model_copy(update={"checks_per_epoch": 1}))[1]
    assert [point["step"] for point in progress.curve] == [progress.step // 2, progress.step]


def test_the_validation_auc_is_that_of_the_final_model(fit: Callable[..., Trained], rows: dict[str, Requests]) -> None:
    model, progress = fit("din-whole")
    valid = rows["valid"]
    scores, labels = score(model, Loader(valid, CPU))[valid.mask], valid.labels[valid.mask]
    above = scores[labels == 1][:, None] - scores[labels == 0]
    assert progress.best_auc == pytest.approx(float((above > 0).mean() + (above == 0).mean() / 2), abs=1e-9)


@pytest.mark.parametrize("checks", [1, 1000], ids=["seen in the loss", "seen in the scores"])
def test_a_diverging_run_names_the_learning_rate(checks: int, fit: Callable[..., Trained]) -> None:
    config = TrainConfig(learning_rate=1e20, batch_requests=64, checks_per_epoch=checks)
    with says("settings", "train.learning_rate", "step", "lower it"):
        fit("hisac", config)


@pytest.mark.parametrize("name", ["learning_rate", "embedding_learning_rate"])
def test_a_learning_rate_beyond_single_precision_is_named(name: str, tmp_path: Path) -> None:
    with says("params.yaml", name, "1e+300"):
        parse(TrainConfig, {name: 1e300}, tmp_path / "params.yaml")


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to ..."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800000000000 bytes."),
    MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000)"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["GPU", "processor", "processor, mmap", "arrays"])
def test_a_step_without_memory_names_its_size_and_what_to_lower(
    error: Exception, fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(Backbone, "score", fail)
    parts = ("settings: train.batch_requests", "out of memory in a step of", "requests, 4 candidates each, up to")
    with says(
        *parts, "events in 2 parts", "lower it, or raise train.accumulate", "prepare.history_limit", "backbone.dim"
    ):
        fit("din-whole", CONFIG.model_copy(update={"accumulate": 2}))


def test_an_allocation_that_is_really_too_large_is_explained(
    fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "score", lambda *args: torch.empty(1 << 60))
    with says("settings", "out of memory in a step of"):
        fit("din-whole")


def test_scoring_without_memory_names_what_to_lower(
    fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(loop, "score", fail)
    with says("settings", "prepare.history_limit", "out of memory in scoring", "backbone.dim"):
        fit("din-whole")


def test_other_errors_keep_their_names(fit: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Backbone, "score", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit("din-whole")


def test_padded_candidates_do_not_enter_the_loss(items: ItemSpace, rows: dict[str, Requests]) -> None:
    train_rows = rows["train"]
    assert not train_rows.mask.all()
    dirty = dataclasses.replace(
        train_rows,
        candidates=np.where(train_rows.mask, train_rows.candidates, 7),
        labels=np.where(train_rows.mask, train_rows.labels, 1).astype(np.float32),
    )
    weights = []
    for given in (train_rows, dirty):
        model = as_backbone(build(MODELS["din-whole"], BACKBONE, items, 0))
        train(model, Loader(given, CPU), Loader(rows["valid"], CPU), CONFIG, 0, "test", on_step=after(3))
        assert isinstance(model.encoder.ids, Embedding)
        weights.append(model.encoder.ids.weight.detach().clone())
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_tables_go_to_adagrad_and_all_else_to_adam_each_once(name: str, items: ItemSpace) -> None:
    model = build(MODELS[name], BACKBONE, items, 0)
    dense, tables = make_optimizers(model, TrainConfig(learning_rate=0.5, embedding_learning_rate=0.25))
    assert (type(dense).__name__, type(tables).__name__) == ("AdamW", "Adagrad")
    assert (dense.defaults["lr"], tables.defaults["lr"]) == (0.5, 0.25)
    held = [part for optimizer in (dense, tables) for group in optimizer.param_groups for part in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    embeddings = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    assert {id(part) for part in tables.param_groups[0]["params"]} == {id(part) for part in embeddings}


def test_dropout_is_seeded_by_seed_and_step_not_by_what_ran_before(fit: Callable[..., Trained]) -> None:
    torch.manual_seed(99)
    one = fit("din-short-only", on_step=after(2))
    torch.rand(17)
    assert _same(one, fit("din-short-only", on_step=after(2)))
