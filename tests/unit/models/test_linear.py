"""Logistic regression on columns, and the controls that read one side of a request alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, make_history, make_items, says
from sklearn.linear_model import LogisticRegression

from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Batch, Loader, score
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.linear import LinearConfig, LinearRanker
from hisac_lab.models.trees import TreesConfig
from hisac_lab.ops.auc import auc
from hisac_lab.training.loop import train

SPACE = make_items()


def _linear(config: LinearConfig, items: ItemSpace = SPACE) -> LinearRanker:
    model = build(config, BACKBONE, items, 0)
    assert isinstance(model, LinearRanker)
    return model


def _batches() -> list[Batch]:
    """Labels that lean on whether the candidate was seen last."""
    batches = []
    for seed in range(8):
        history, draw = make_history([9, 0, 30], seed=seed), torch.Generator().manual_seed(seed)
        candidates = torch.randint(0, 60, (3, 5), generator=draw)
        candidates[:, 0] = history.items[:, -1]
        chance = torch.rand(3, 5, generator=draw) + 0.4 * (torch.arange(5) == 0)
        mask = torch.rand(3, 5, generator=draw) < 0.9
        batches.append(Batch(history, candidates, (chance > 0.7).float(), mask))
    return batches


def test_weights_are_those_of_logistic_regression_on_standardized_columns() -> None:
    config = LinearConfig(reads=("length", "rate", "fields", "item"), half_lives=(5.0,), ridge=2.0)
    model = _linear(config)
    loss = model.fit(_batches(), 0)
    rows, labels, _ = (part.numpy() for part in model.labeled(_batches()))
    standard = (rows - rows.mean(axis=0)) / np.where(rows.std(axis=0) > 1e-6, rows.std(axis=0), 1)
    known = LogisticRegression(C=1 / config.ridge, tol=1e-10, max_iter=10_000).fit(standard, labels)
    expected = known.decision_function(standard)
    np.testing.assert_allclose(model.logits(torch.from_numpy(rows)).detach().numpy(), expected, atol=1e-3)
    assert loss == pytest.approx(np.mean(np.logaddexp(0, expected) - labels * expected), abs=1e-5)


def test_the_scale_of_a_column_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    models, plain = list[LinearRanker](), LinearRanker.rows
    for factor in (1.0, 1000.0):

        def scaled(*given: Any, by: float = factor) -> torch.Tensor:
            return plain(*given) * by

        monkeypatch.setattr(LinearRanker, "rows", scaled)
        models.append(_linear(LinearConfig(reads=("item", "pace"))))
        models[-1].fit(_batches(), 0)
    torch.testing.assert_close(models[1].weight * 1000, models[0].weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("reads", "control"),
    [(("popularity",), "item"), (("item_recency",), "item"), (("item_rate",), "item"), (("rate",), "user")],
)
def test_a_control_reads_one_side_and_learns_from_it(
    reads: tuple[str, ...], control: str, items: ItemSpace, rows: dict[str, Requests]
) -> None:
    """On a prepared log: scores of an item-only control know no history, those of a user-only one no item."""
    config = LinearConfig(reads=reads)
    assert config.control == control
    model = _linear(config, items)
    loaders = {split: Loader.of(model, rows[split], CPU) for split in ("train", "valid")}
    progress = train(model, loaders["train"], loaders["valid"], TrainConfig(), 0, "control")
    assert progress.step == 1
    assert model.weight.any()
    batch = Loader.of(model, rows["test"], CPU).batch(np.arange(8))
    scores = model(batch.history, batch.candidates, batch.context)
    if control == "item":
        empty = dataclasses.replace(batch.history, mask=torch.zeros_like(batch.history.mask))
        assert torch.equal(model(empty, batch.candidates, batch.context), scores)
        assert scores.std(dim=1).max() > 0
    else:
        assert (scores == scores[:, :1]).all()
        assert scores.std(dim=0).max() > 0


def test_a_regression_on_all_context_is_ahead_of_chance(items: ItemSpace, rows: dict[str, Requests]) -> None:
    model = _linear(LinearConfig(), items)
    loaders = {split: Loader.of(model, rows[split], CPU) for split in ("train", "valid", "test")}
    train(model, loaders["train"], loaders["valid"], TrainConfig(), 0, "logistic")
    test = rows["test"]
    assert auc(test.labels[test.mask], score(model, loaders["test"])[test.mask]) > 0.52


def test_item_only_trees_read_nothing_of_the_user(items: ItemSpace, rows: dict[str, Requests]) -> None:
    config = TreesConfig(reads=("item_recency", "popularity", "item_rate"), rounds=10)
    assert config.control == "item"
    model = build(config, BACKBONE, items, 0)
    loaders = {split: Loader.of(model, rows[split], CPU) for split in ("train", "valid")}
    train(model, loaders["train"], loaders["valid"], TrainConfig(), 0, "item trees")
    assert model.encode(make_history([30])).bytes == 0


def test_columns_that_the_log_cannot_give_are_left_out_and_none_at_all_is_an_error() -> None:
    assert _linear(LinearConfig(reads=("length", "popularity"))).width == 1
    with says("settings: models.*.reads", "popularity, item_rate", "name others"):
        _linear(LinearConfig(reads=("popularity", "item_rate")))
