"""Features that all models are told: rates of the user, and the context of candidates straight into the tower."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, DAY, EVERY, MODELS, Stages, as_backbone, make_history, make_items, says

from hisac_lab.config.model import BackboneConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.context import PRIOR
from hisac_lab.events.records import EXPOSURES, POSITIVES, ContextFacts
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.sides import CandidateContext
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.features import UserFeatures, moments
from hisac_lab.models.tabular import TabularConfig
from hisac_lab.testing.samples import LEVELS
from hisac_lab.training.loop import standardize

FACTS = ContextFacts(half_lives=(1.0, 7.0), series=(POSITIVES, EXPOSURES), share=0.3)
SPACE = dataclasses.replace(make_items(), context=FACTS)
FULL = BACKBONE.model_copy(update={"features": BackboneConfig().features})


def test_the_rate_is_the_smoothed_share_of_positives_among_known_feedback() -> None:
    history = make_history([4, 0])
    ages, feedback = torch.tensor([[3, 2, 1, 0]] * 2) * DAY + 1, torch.tensor([[3, 0, 1, 3], [3, 3, 3, 3]])
    history = dataclasses.replace(history, ages=ages, feedback=feedback)
    features = UserFeatures(("rate",), FACTS, LEVELS)
    found = features.of(history)
    assert found.shape == (2, features.width) == (2, 3)
    wanted = [(2 + PRIOR * 0.3) / (3 + PRIOR)]
    for days in FACTS.half_lives:
        fade = [2 ** (-age / days) for age in (3, 1, 0)]
        wanted.append((fade[0] + fade[2] + PRIOR * 0.3) / (sum(fade) + PRIOR))
    assert found[0].tolist() == pytest.approx(wanted, abs=1e-5)
    assert found[1].tolist() == pytest.approx([0.3] * 3)
    assert UserFeatures(("rate",), FACTS, None).width == 0


TOWERS = sorted(name for name, config in EVERY.items() if not isinstance(config, TabularConfig))
"""Models with a tower; those that read columns have tests of their own."""


@pytest.mark.parametrize("name", TOWERS)
def test_context_reaches_the_scores_and_the_gradients_of_every_model(name: str) -> None:
    model, history = as_backbone(build(EVERY[name], FULL, SPACE, 0)).eval(), make_history([6, 0])
    candidates = torch.arange(6).view(2, 3)
    context = torch.rand(2, 3, len(model.context_columns.names))
    state = model.encode(history)
    found = model.score(state, candidates, context)
    assert torch.equal(found, model(history, candidates, context))
    for row, column in ((0, 1), (1, 2)):
        fresh = context.clone()
        fresh[row, column] += 1
        moved = (model.score(state, candidates, fresh) - found).abs() > 1e-6
        assert moved.nonzero().tolist() == [[row, column]]
    found.sum().backward()
    first = next(model.tower.parameters()).grad
    assert first is not None
    assert (first[:, -context.shape[2] :].abs().sum(dim=0) > 0).all()
    with pytest.raises(ValueError, match="reads the context of candidates: item_days"):
        model.score(state, candidates)


@pytest.mark.parametrize("name", ["din-short-only", "hisac", "iat", "iat-source-user"])
def test_all_other_first_weights_are_those_of_a_model_without_context(name: str) -> None:
    plain = BACKBONE.model_copy(update={"features": ("length", "recency", "pace", "rate")})
    with_context, without = (build(EVERY[name], backbone, SPACE, 0).state_dict() for backbone in (FULL, plain))
    assert set(with_context) - set(without) == {"shift", "scale"}
    first = without["tower.0.weight"]
    assert torch.equal(with_context["tower.0.weight"][:, : first.shape[1]], first)
    assert all(torch.equal(with_context[key], without[key]) for key in without if key != "tower.0.weight")


def test_moments_take_each_column_to_mean_zero_and_spread_one() -> None:
    parts = [torch.randn(size, 3, generator=torch.Generator().manual_seed(size)) * 5 + 2 for size in (30, 7)]
    for part in parts:
        part[:, 2] = 4.0
    shift, scale = moments(parts)
    rows = (torch.cat(parts).double() - shift) * scale
    assert rows.mean(dim=0).tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert rows.std(dim=0, correction=0).tolist() == pytest.approx([1, 1, 0], abs=1e-9)
    assert scale[2] == 0


def test_context_of_requests_counted_once_is_that_of_each_batch(items: ItemSpace, rows: dict[str, Requests]) -> None:
    model = as_backbone(build(MODELS["din-short-only"], FULL, items, 0))
    loader = Loader.of(model, rows["train"], CPU)
    counted, index = loader.counted(model), np.array([3, 0, len(rows["train"]) - 1])
    assert counted.context is not None
    assert counted.context.kept is not None
    one, other = loader.batch(index).context, counted.batch(index).context
    assert one is not None
    assert other is not None
    assert one.shape == (3, rows["train"].candidates.shape[1], len(model.context_columns.names))
    assert torch.equal(one, other)
    standardize(model, counted, 64)
    seen = np.unique(np.linspace(0, len(loader) - 1, 512).astype(int))
    batch = loader.batch(seen)
    assert batch.context is not None
    table = (batch.context[batch.mask] - model.shift) * model.scale
    assert table.mean(dim=0).abs().max() < 1e-4
    spread = table.std(dim=0, correction=0)
    assert ((spread - 1).abs() < 1e-3).logical_or(spread < 1e-3).all()


def test_more_context_than_fits_is_counted_batch_by_batch(
    items: ItemSpace, rows: dict[str, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(MODELS["din-short-only"], FULL, items, 0)
    monkeypatch.setattr("hisac_lab.inference.sides.MOST_KEPT", 1000)
    counted = Loader.of(model, rows["test"], CPU).counted(model)
    assert counted.context is not None
    assert counted.context.kept is None
    assert np.isfinite(score(model, counted)).all()


def test_a_saved_model_scores_the_same_with_its_context(
    items: ItemSpace, rows: dict[str, Requests], tmp_path: Path
) -> None:
    model = build(MODELS["hisac"], FULL, items, 0)
    loader = Loader.of(model, rows["test"], CPU)
    standardize(model, loader, 64)
    save_model(tmp_path, model, MODELS["hisac"], items)
    again, _ = load_model(tmp_path)
    assert again.context_columns == model.context_columns
    assert np.array_equal(score(again, Loader.of(again, rows["test"], CPU)), score(model, loader))


def test_series_of_other_half_lives_are_refused(items: ItemSpace, store: EventStore, stages: Stages) -> None:
    facts = items.context.model_copy(update={"half_lives": (2.0,)})
    model = build(MODELS["din-short-only"], FULL, dataclasses.replace(items, context=facts), 0)
    with says(str(stages.prepare), "context", "half-lives [1.0, 7.0, 30.0]", "[2.0]", "train it again"):
        CandidateContext.open(model, store)
