"""The frame around every model: item encoder, age buckets, short branch, what a history's end is."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from kit import FRAME, ITEMS, MODELS, lively, make_history, make_items

from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History, ItemSpace, UserState
from hisac_lab.models.frame import AGE_BUCKETS, ItemEncoder, age_bucket

SPACE = make_items()


def test_an_item_is_the_sum_of_its_id_fields_and_projected_embedding() -> None:
    encoder = ItemEncoder(SPACE, 8)
    item = 23
    expected = encoder.ids.weight[item] + encoder.project(SPACE.semantic[item])
    for table, code in zip(encoder.tables, SPACE.fields[item], strict=True):
        expected = expected + table.weight[code]
    torch.testing.assert_close(encoder(torch.tensor([[item]]))[0, 0], expected)


def test_few_items_and_many_are_encoded_alike() -> None:
    """Up to a catalogue's worth only distinct items are computed, above it the whole table."""
    encoder = ItemEncoder(SPACE, 8)
    some = torch.tensor([[5, 9, 5], [0, 59, 9]])
    many = some.repeat(20, 1)
    assert many.numel() >= ITEMS > some.numel()
    torch.testing.assert_close(encoder(many)[:2], encoder(some))


@pytest.mark.parametrize(
    ("age", "bucket"),
    [(-5, 0), (0, 0), (1, 1), (2, 1), (3, 2), (7, 3), (86_400, 16), ((1 << 31) - 1, 31), (1 << 40, AGE_BUCKETS - 1)],
)
def test_ages_fall_into_whole_logarithms(age: int, bucket: int) -> None:
    assert int(age_bucket(torch.tensor([age]))) == bucket


def test_the_last_events_of_a_history_drop_its_agents() -> None:
    history = make_history([6, 2])
    model = build(MODELS["hisac"], FRAME, SPACE, 0)
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
    items[:, : -FRAME.short_window] = (items[:, : -FRAME.short_window] + 1) % ITEMS
    before = dataclasses.replace(history, items=items)
    torch.testing.assert_close(model(history, candidates), model(before, candidates))
    state, last = model.encode(history), model.encode(history.last(FRAME.short_window))
    assert state["length"].item() == pytest.approx(math.log(13))
    torch.testing.assert_close(state["short_events"], last["short_events"])
    items[:, -FRAME.short_window] = (items[:, -FRAME.short_window] + 1) % ITEMS
    assert not torch.allclose(model(history, candidates), model(before, candidates))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "din-short-only"])
def test_a_long_model_sees_what_lies_before_the_window(name: str) -> None:
    model, candidates = lively(name, SPACE), torch.arange(6)[None]
    history = make_history([12])
    history = dataclasses.replace(history, ages=history.ages // 100)
    items = history.items.clone()
    items[:, :4] = (items[:, :4] + 1) % ITEMS
    other = dataclasses.replace(history, items=items)
    assert (model(history, candidates) - model(other, candidates)).abs().max() > 3e-5


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
    arrays = History(history.items.numpy(), history.ages.numpy(), history.mask.numpy())  # type: ignore[arg-type]
    moved = History.of(arrays, "cpu")  # type: ignore[arg-type]
    assert torch.equal(moved.items, history.items)
    assert moved.agents is None
