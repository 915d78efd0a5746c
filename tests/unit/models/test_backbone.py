"""The backbone around every model: item encoder, age buckets, short branch, what a history's end is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, DAY, EVERY, ITEMS, MODELS, as_backbone, lively, make_history, make_items, says

from hisac_lab.events.batches import HistoryArrays, Requests
from hisac_lab.events.records import ContextFacts
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models import tables
from hisac_lab.models.backbone import Backbone, ItemEncoder
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import Candidates, History, ItemSpace, UserState
from hisac_lab.models.din import DINConfig
from hisac_lab.models.features import UserFeatures
from hisac_lab.models.pooling import MeanBranch, MeanConfig
from hisac_lab.models.tables import Embedding
from hisac_lab.models.tabular import TabularConfig
from hisac_lab.ops.buckets import age_bucket

SPACE = make_items()


def test_an_item_is_the_sum_of_its_id_fields_and_projected_embedding() -> None:
    encoder = ItemEncoder(SPACE, 8)
    item = 23
    assert isinstance(encoder.ids, Embedding)
    expected = encoder.ids.weight[item] + encoder.project(SPACE.semantic[item])
    for table, code in zip(encoder.tables, SPACE.fields[item], strict=True):
        assert isinstance(table, Embedding)
        expected = expected + table.weight[code]
    torch.testing.assert_close(encoder(torch.tensor([[item]]))[0, 0], expected)


def test_few_items_and_many_are_encoded_alike() -> None:
    """Up to a catalog's worth only distinct items are computed, above it the whole table."""
    encoder = ItemEncoder(SPACE, 8)
    some = torch.tensor([[5, 9, 5], [0, 59, 9]])
    many = some.repeat(20, 1)
    assert many.numel() >= ITEMS > some.numel()
    torch.testing.assert_close(encoder(many)[:2], encoder(some))


def test_a_large_table_keeps_its_gradient_sparse_however_many_items_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    some = torch.tensor([5, 9, 5, 0, 59])
    many = some.repeat(20)
    torch.manual_seed(0)
    plain = ItemEncoder(SPACE, 8)
    monkeypatch.setattr(tables, "SPARSE_ROWS", ITEMS)
    torch.manual_seed(0)
    large = ItemEncoder(SPACE, 8)
    for encoder in (plain, large):
        encoder(many).square().sum().backward()
    assert isinstance(large.ids, Embedding)
    assert isinstance(plain.ids, Embedding)
    assert large.ids.weight.grad is not None
    found = large.ids.weight.grad.coalesce()
    assert found.indices()[0].tolist() == [0, 5, 9, 59]
    torch.testing.assert_close(found.to_dense(), plain.ids.weight.grad)
    with torch.no_grad():
        torch.testing.assert_close(large(many), plain(many))


def test_the_last_events_of_a_history_drop_its_agents() -> None:
    history = make_history([6, 2])
    model = build(MODELS["hisac"], BACKBONE, SPACE, 0)
    full = dataclasses.replace(history, agents=model.agents(history))
    last = full.last(4)
    assert torch.equal(last.items, history.items[:, -4:])
    assert torch.equal(last.ages, history.ages[:, -4:])
    assert torch.equal(last.mask, history.mask[:, -4:])
    assert last.agents is None


def test_the_short_model_sees_the_window_and_the_length_of_what_lies_before_it() -> None:
    """How long a history is, is a feature of the user that every model has; its events are not."""
    model = lively("din-short-only", SPACE)
    history, candidates = make_history([12]), torch.arange(6)[None]
    items = history.items.clone()
    items[:, : -BACKBONE.short_window] = (items[:, : -BACKBONE.short_window] + 1) % ITEMS
    before = dataclasses.replace(history, items=items)
    torch.testing.assert_close(model(history, candidates), model(before, candidates))
    state, last = model.encode(history), model.encode(history.last(BACKBONE.short_window))
    assert state["context"].item() == pytest.approx(math.log(13))
    torch.testing.assert_close(state["short_events"], last["short_events"])
    items[:, -BACKBONE.short_window] = (items[:, -BACKBONE.short_window] + 1) % ITEMS
    assert not torch.allclose(model(history, candidates), model(before, candidates))


LONG = [name for name, config in MODELS.items() if name != "din-short-only" and not isinstance(config, TabularConfig)]
"""Those that know more than the window before any training."""


@pytest.mark.parametrize("name", LONG)
def test_a_long_model_sees_what_lies_before_the_window(name: str) -> None:
    model, candidates = lively(name, SPACE), torch.arange(6)[None]
    history = make_history([12])
    history = dataclasses.replace(history, ages=history.ages // 100)
    items = history.items.clone()
    items[:, :4] = (items[:, :4] + 1) % ITEMS
    other = dataclasses.replace(history, items=items)
    assert (model(history, candidates) - model(other, candidates)).abs().max() > 3e-5


@pytest.mark.parametrize("name", ["din-short-only", "mean", "eta"])
def test_the_short_window_and_its_mask_are_those_of_the_same_events(name: str) -> None:
    """Public code embeds the last 50 events and masks the 50 before the last: off by one."""
    model, history = as_backbone(lively(name, SPACE)), make_history([12, 3])
    for grad in (True, False):  # a lazy branch embeds the window by itself while training
        with torch.set_grad_enabled(grad):
            state = model.encode(history)
        width = BACKBONE.short_window
        assert torch.equal(state["short_mask"], history.mask[:, -width:])
        expected = model.embed(history.items[:, -width:], history.ages[:, -width:], history.feedback[:, -width:])
        torch.testing.assert_close(state["short_events"], expected)


def test_the_tower_sees_answers_and_their_products() -> None:
    """Candidate, short answer, gated long answer, both times the candidate, then what else is told."""
    model, history, candidates = as_backbone(lively("mean", SPACE)), make_history([12, 3]), torch.arange(6).view(2, 3)
    assert model.gate is not None
    assert torch.equal(model.gate, torch.full((BACKBONE.dim,), 0.1))
    state = model.encode(history)
    v = model.encoder(candidates)
    short = model.short(v, state["short_events"], state["short_mask"])
    long = 0.1 * state["mean"][:, None].expand_as(v)
    expected = torch.cat([v, short, long, v * short, v * long, state["context"][:, None].expand(2, 3, -1)], dim=-1)
    torch.testing.assert_close(model.features(state, candidates), expected)


def test_an_event_is_the_sum_of_item_age_and_feedback() -> None:
    """One row of the table of ages per log bucket, one of the feedback per level; an unknown level adds nothing."""
    model, history = as_backbone(lively("mean", SPACE)), make_history([12])
    assert model.feedback is not None
    found = model.embed(history.items, history.ages, history.feedback)[0]
    for place, (item, age, level) in enumerate(
        zip(history.items[0], history.ages[0], history.feedback[0].tolist(), strict=True)
    ):
        expected = model.encoder(item[None])[0] + model.age.weight[int(age_bucket(age))]
        if level:
            expected = expected + model.feedback.weight[level - 1]
        torch.testing.assert_close(found[place], expected)


def test_features_of_the_long_branch_reach_the_tower_past_the_gate() -> None:
    """Beside the gated answer, or alone: the last columns are the branch's own, as they are."""

    class Both(MeanBranch):
        extra_width = 2

        def extra(self, state: UserState, candidates: Candidates) -> torch.Tensor:
            return torch.stack([candidates.items.float(), state["mean"].sum(dim=1)[:, None].expand(-1, 3)], dim=2)

    class Alone(Both):
        answers = embeds = False

        def encode(self, history: History, events: torch.Tensor) -> dict[str, torch.Tensor]:
            return super().encode(history.last(events.shape[1]), events)

    history, candidates = make_history([12, 3]), torch.arange(6).view(2, 3)
    for kind, parts in ((Both, 5), (Alone, 3)):
        model = Backbone(BACKBONE, SPACE, kind(MeanConfig(), BACKBONE, SPACE))
        assert (model.gate is None) == (kind is Alone)
        state = model.encode(history)
        seen = model.features(state, candidates)
        assert seen.shape == (2, 3, parts * BACKBONE.dim + 1 + 2)
        assert torch.equal(seen[..., -2], candidates.float())
        assert torch.equal(seen[:, 0, -1], state["mean"].sum(dim=1))
        window = history if kind is Both else history.last(BACKBONE.short_window)
        events = model.embed(window.items, window.ages, window.feedback) * window.mask[..., None]
        mean = events.sum(dim=1) / window.mask.sum(dim=1, keepdim=True)
        torch.testing.assert_close(state["mean"], mean)


def test_the_state_counts_its_bytes() -> None:
    state = UserState({"a": torch.zeros(2, 3), "b": torch.zeros(2, dtype=torch.bool)})
    assert state.bytes == 2 * 3 * 4 + 2
    assert state["a"].shape == (2, 3)


def test_an_empty_space_has_the_shape_of_the_real_one() -> None:
    blank = ItemSpace.blank(**SPACE.shape())
    assert blank.shape() == SPACE.shape()
    assert blank.semantic.shape == SPACE.semantic.shape
    assert blank.fields.shape == SPACE.fields.shape
    assert not blank.semantic.any()


def test_arrays_become_a_history_on_a_device() -> None:
    history = make_history([3])
    arrays = HistoryArrays(*(part.numpy() for part in (history.items, history.ages, history.mask)))
    moved = History.of(arrays, "cpu")
    assert torch.equal(moved.items, history.items)
    assert moved.agents is None
    assert torch.equal(moved.feedback, torch.zeros_like(history.items))
    told = History.of(dataclasses.replace(arrays, feedback=history.feedback.numpy()), "cpu")
    assert torch.equal(told.feedback, history.feedback)


def test_the_newest_events_keep_their_feedback() -> None:
    history = make_history([7, 3])
    assert torch.equal(history.last(4).feedback, history.feedback[:, -4:])


def test_features_of_user_and_request_are_those_of_the_formulas() -> None:
    history = make_history([3, 0])
    ages = torch.tensor([[9 * DAY, 5 * DAY, 2 * DAY], [7, 7, 7]])  # what stands in the padding does not count
    time = torch.tensor([3 * DAY + DAY // 4, 0])
    history = dataclasses.replace(history, ages=ages, time=time)
    names = ("length", "recency", "pace", "day", "week")
    features = UserFeatures(names, ContextFacts(), None)
    found = features.of(history)
    assert found.shape == (2, features.width) == (2, 7)
    week = 2 * math.pi * 3.25 / 7
    expected = [math.log(4), math.log(3), math.log(1 + 3 / 10), 1.0, 0.0, math.sin(week), math.cos(week)]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[1].tolist() == pytest.approx([0, 0, 0, 0, 1, 0, 1], abs=1e-6)
    assert UserFeatures((), ContextFacts(), None).of(history).shape == (2, 0)


def test_a_feature_of_the_time_without_a_time_is_refused() -> None:
    history = dataclasses.replace(make_history([3]), time=None)
    with says("settings", "backbone.features", "'day' needs the time of the request"):
        UserFeatures(("length", "day"), ContextFacts(), None).of(history)


@pytest.mark.parametrize("name", ["din-short-only", "hisac", "iat"])
def test_every_feature_reaches_the_scores(name: str) -> None:
    backbone = BACKBONE.model_copy(update={"features": ("recency", "pace", "day", "week")})
    model, candidates = build(EVERY[name], backbone, SPACE, 0).eval(), torch.arange(4)[None]
    history = make_history([6])
    assert history.time is not None
    later = dataclasses.replace(history, time=history.time + 3 * 3600)
    assert not torch.equal(model(history, candidates), model(later, candidates))


def test_a_request_brings_its_time_where_a_feature_asks_for_it(items: ItemSpace, rows: dict[str, Requests]) -> None:
    index = np.array([2, 0])
    backbone = BACKBONE.model_copy(update={"features": ("length", "day")})
    model = build(MODELS["mean"], backbone, items, 0).eval()
    found = Loader.of(model, rows["test"], CPU).batch(index).history.time
    assert found is not None
    assert found.tolist() == rows["test"].time[index].tolist()
    assert np.isfinite(score(model, Loader.of(model, rows["valid"], CPU))).all()
    timeless = build(MODELS["mean"], BACKBONE, items, 0)
    assert Loader.of(timeless, rows["test"], CPU).batch(index).history.time is None


def test_shuffled_ids_belong_to_other_items() -> None:
    """Items with an ID trade it, embedding and path together; fields and items without one stay as they are."""
    other = SPACE.shuffled(1)
    known = SPACE.codebook.item_nodes[:, 0] >= 0
    assert (other.codebook.item_nodes[~known] == SPACE.codebook.item_nodes[~known]).all()
    assert torch.equal(other.semantic[~known], SPACE.semantic[~known])
    assert other.fields is SPACE.fields
    assert not torch.equal(other.semantic, SPACE.semantic)
    pairs = [
        {
            (row.numpy().tobytes(), nodes.tobytes())
            for row, nodes in zip(one.semantic, one.codebook.item_nodes, strict=True)
        }
        for one in (SPACE, other)
    ]
    assert pairs[0] == pairs[1]
    assert torch.equal(SPACE.shuffled(1).semantic, other.semantic)
    assert not torch.equal(SPACE.shuffled(2).semantic, other.semantic)


def test_the_spread_of_the_first_weights_on_the_frozen_vector_can_be_set() -> None:
    wide, usual = (
        as_backbone(
            build(DINConfig(), BACKBONE.model_copy(update={"semantic_std": std}), SPACE, 0)
        ).encoder.project.weight
        for std in (3.0, None)
    )
    assert wide.std().item() == pytest.approx(3.0, rel=0.3)
    assert usual.std().item() < 1
