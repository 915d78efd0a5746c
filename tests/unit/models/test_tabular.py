"""Rankers over columns: what stands in a column, boosted trees and their tensors."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, DAY, make_history, make_items, make_requests, says
from torch import Tensor

from hisac_lab.config.train import TrainConfig
from hisac_lab.evaluation.cost import count
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.loader import Batch, Loader, score
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History
from hisac_lab.models.tabular import TabularRanker
from hisac_lab.models.trees import TreesConfig, TreesRanker
from hisac_lab.training.loop import train

SPACE = make_items()
SMALL = TreesConfig(rounds=12, leaves=5, depth=3, least=2)
CANDIDATES = torch.arange(8).expand(4, -1)


def _trees(config: TreesConfig = SMALL) -> TreesRanker:
    model = build(config, BACKBONE, SPACE, 0)
    assert isinstance(model, TreesRanker)
    return model.eval()


def _batches(count: int = 6) -> list[Batch]:
    """Users click what they have seen: requests of four candidates."""
    batches = []
    for seed in range(count):
        history = make_history([12, 0, 5, 30], seed=seed)
        candidates = torch.randint(0, 60, (4, 4), generator=torch.Generator().manual_seed(seed))
        candidates[:, 0] = history.items[:, -1]
        seen = (history.items[:, None, :] == candidates[:, :, None]) & history.mask[:, None, :]
        there = torch.ones_like(candidates, dtype=torch.bool)
        batches.append(Batch(history, candidates, seen.any(dim=2).float(), there))
    return batches


def _rows(model: TabularRanker, history: History, candidates: Tensor) -> Tensor:
    return model.rows(model.encode(history), candidates)


def test_columns_are_counts_of_the_history_at_what_the_candidate_is() -> None:
    """Context first; then of each level, field and the item: presence, log votes, log days, log faded votes."""
    model = _trees(TreesConfig(reads=("length", "residual", "fields", "item"), half_lives=(3.0,), exposures=False))
    history = make_history([9, 0, 4, 20], seed=2)
    history = dataclasses.replace(history, feedback=torch.full_like(history.feedback, 3))
    nodes = np.concatenate(
        [SPACE.codebook.item_nodes, SPACE.fields.numpy(), np.arange(len(SPACE.semantic))[:, None]], axis=1
    )
    rows = _rows(model, history, CANDIDATES)
    assert rows.shape == (4, 8, model.width) == (4, 8, 1 + 4 * nodes.shape[1])
    assert torch.equal(rows[..., 0], history.mask.sum(dim=1, keepdim=True).float().log1p().expand(-1, 8))
    for row in range(4):
        items, ages = (part[row][history.mask[row]].numpy() for part in (history.items, history.ages))
        for place, candidate in enumerate(CANDIDATES[row].tolist()):
            expected = []
            for kind in range(nodes.shape[1]):
                hits = ages[(nodes[items, kind] == nodes[candidate, kind]) & (nodes[items, kind] >= 0)] / DAY
                age = math.log1p(hits.min()) if len(hits) else 0.0
                expected += [len(hits) > 0, math.log1p(len(hits)), age, math.log1p((0.5 ** (hits / 3)).sum())]
            np.testing.assert_allclose(rows[row, place, 1:].numpy(), expected, atol=1e-5)


def test_known_negatives_are_counted_apart() -> None:
    """Feedback below the level that is positive; what is unknown counts as what is positive."""
    reads = TreesConfig(reads=("item",), half_lives=())
    together, apart = (_trees(reads.model_copy(update={"exposures": exposures})) for exposures in (False, True))
    history = make_history([7], seed=1)
    level = torch.tensor([[0, 1, 2, 3, 3, 1, 0]])
    negative = dataclasses.replace(history, mask=history.mask & (level > 0) & (level < 3))
    positive = dataclasses.replace(history, mask=history.mask & ~((level > 0) & (level < 3)))
    history = dataclasses.replace(history, feedback=level)
    candidates = history.items
    unknown = [dataclasses.replace(one, feedback=torch.zeros_like(level)) for one in (positive, negative)]
    expected = [_rows(together, one, candidates) for one in unknown]
    assert torch.equal(_rows(apart, history, candidates), torch.cat(expected, dim=-1))
    assert torch.equal(_rows(together, history, candidates), expected[0])


def test_a_log_without_feedback_has_no_negatives_apart() -> None:
    space = dataclasses.replace(SPACE, feedback=None)
    config = SMALL.model_copy(update={"reads": ("length", "item")})
    model = build(config, BACKBONE, space, 0)
    assert isinstance(model, TabularRanker)
    assert model.counts is not None
    assert not model.counts.exposures
    assert 2 * (model.width - 1) == _trees(config).width - 1


def test_scores_are_those_of_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    boosters, fit = list[lightgbm.Booster](), lightgbm.train

    def watched(*arguments: Any) -> lightgbm.Booster:
        boosters.append(fit(*arguments))
        return boosters[-1]

    monkeypatch.setattr(lightgbm, "train", watched)
    model = _trees()
    loss = model.fit(_batches(), 0)
    assert boosters[0].num_trees() == SMALL.rounds
    rows, labels = [], []
    for batch in _batches():
        rows.append(_rows(model, batch.history, batch.candidates).flatten(0, 1).numpy())
        labels.append(batch.labels.flatten().numpy())
        expected = boosters[0].predict(rows[-1], raw_score=True)
        scores = model(batch.history, batch.candidates).flatten().numpy()
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
    chance = np.asarray(boosters[0].predict(np.concatenate(rows)))
    right = np.where(np.concatenate(labels) > 0, chance, 1 - chance)
    assert loss == pytest.approx(-np.mean(np.log(right)), rel=1e-5)


def test_trees_learn_what_counts_tell() -> None:
    model = _trees()
    assert not model(_batches()[0].history, _batches()[0].candidates).any()
    model.fit(_batches(), 0)
    for batch in _batches(9)[6:]:
        scores = model(batch.history, batch.candidates)
        assert scores[batch.labels > 0].min() > scores[batch.labels == 0].max()


def test_the_same_seed_gives_the_same_trees_and_another_others() -> None:
    first, same, other = (_trees(SMALL.model_copy(update={"column_share": 0.5})) for _ in range(3))
    for model, seed in ((first, 0), (same, 0), (other, 1)):
        model.fit(_batches(), seed)
    assert all(torch.equal(one, two) for one, two in zip(first.forest, same.forest, strict=True))
    assert not torch.equal(first.forest.column, other.forest.column)


def test_padding_is_not_fitted() -> None:
    batches = _batches()
    first, masked = batches[0], batches[0].mask.clone()
    masked[:, 1:] = False
    narrow, wide = _trees(), _trees()
    cut = Batch(first.history, first.candidates[:, :1], first.labels[:, :1], first.mask[:, :1])
    narrow.fit([cut, *batches[1:]], 0)
    wide.fit([dataclasses.replace(first, mask=masked), *batches[1:]], 0)
    assert all(torch.equal(one, two) for one, two in zip(narrow.forest, wide.forest, strict=True))


def test_the_loop_fits_at_once_and_validates() -> None:
    requests, valid = make_requests(30), make_requests(8, seed=1)
    model = _trees()
    progress = train(model, Loader(requests, CPU), Loader(valid, CPU), TrainConfig(), 0, "trees")
    assert model.forest.value.any()
    assert progress.step == 1
    (point,) = progress.curve
    assert point["valid_auc"] == round(progress.best_auc, 6)
    assert 0 < point["train_loss"] < math.log(2)
    again = _trees()
    train(again, Loader(requests, CPU), Loader(valid, CPU), TrainConfig(epochs=5), 0, "trees")
    assert np.array_equal(score(again, Loader(valid, CPU)), score(model, Loader(valid, CPU)))


def test_a_bundle_needs_no_lightgbm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = _trees(), _batches()[0]
    model.fit(_batches(), 0)
    save_model(tmp_path, model, SMALL, SPACE)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    loaded = load_model(tmp_path)[0]
    assert torch.equal(loaded(batch.history, batch.candidates), model(batch.history, batch.candidates))


def test_without_lightgbm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with says("need LightGBM", "pip install 'hisac-lab[trees]'"):
        _trees().fit(_batches(), 0)


def test_the_state_is_counts_and_its_cost_knows_no_product() -> None:
    requests = make_requests()
    cost = count(_trees(), Loader(requests, CPU))
    assert cost.encode_macs == cost.candidate_macs == 0
    assert cost.state_bytes > 0
    repeated = make_history([4, 400], seed=0, items=3)
    state = _trees().encode(repeated)
    widest = max(part.shape[1] for name, part in state.tensors.items() if name != "context")
    assert widest <= 3, "no larger than what there is to count"


def test_a_codebook_that_is_not_there_is_named() -> None:
    with says("there is no codebook 'flat_9'", "residual, flat_6"):
        _trees(TreesConfig(reads=("flat_9",)))


@pytest.mark.parametrize(
    ("reads", "control"),
    [
        (("length", "rate"), "user"),
        (("popularity", "item_recency"), "item"),
        (("item",), None),
        (("pair", "item_rate"), None),
        (("rate", "item_rate"), None),
    ],
)
def test_a_control_is_told_by_what_is_read(reads: tuple[str, ...], control: str | None) -> None:
    assert TreesConfig(reads=reads).control == control
