"""Embedding tables: the budget is kept, items stay apart, gradients reach the rows they should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit import BACKBONE, MODELS, as_backbone, make_history, make_items, says

from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.models.backbone import ItemEncoder
from hisac_lab.models.catalog import build
from hisac_lab.models.tables import MEGABYTE, SPARSE_ROWS, Embedding, SharedTable, draw, every, item_table, least_rows
from hisac_lab.training.optimizers import make_optimizers

SPACE = make_items()
MANY = 1_000_000


def _bytes_in_training(table: torch.nn.Module) -> int:
    """Weights and what Adagrad holds after a step."""
    optimizer = torch.optim.Adagrad(table.parameters())
    table(torch.tensor([0, 1])).sum().backward()
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    return sum(part.numel() * part.element_size() for part in (*table.parameters(), *held))


@given(items=st.integers(2, 5_000), dim=st.integers(1, 32), scale=st.floats(1.0, 40.0))
def test_the_budget_holds_with_the_optimizers_state(items: int, dim: int, scale: float) -> None:
    megabytes = scale * (least_rows(items) + 1) * dim * 8 / MEGABYTE
    table = item_table(items, dim, megabytes)
    used = _bytes_in_training(table)
    assert used <= megabytes * MEGABYTE
    plain = isinstance(table, torch.nn.Embedding)
    assert plain == (items * dim * 8 <= megabytes * MEGABYTE)
    if not plain:
        assert used > megabytes * MEGABYTE - 3 * dim * 8, "the budget is used up to a row or two"


@given(items=st.integers(2, 20_000), more=st.integers(0, 50))
def test_no_two_items_share_both_rows(items: int, more: int) -> None:
    table = SharedTable(items, least_rows(items) + more, 1)
    one, other = table.places(torch.arange(items))
    assert len(torch.unique(torch.stack([one, other]), dim=1).T) == items
    assert one.max() < other.min()
    assert other.max() < table.rows.num_embeddings <= least_rows(items) + more


def test_fewer_rows_could_not_tell_the_items_apart() -> None:
    for items in (3, 7, 60, 991, 10_000):
        table = SharedTable(items, least_rows(items) - 2, 1)
        if table.modulus > 1:
            pairs = torch.stack(table.places(torch.arange(items)))
            assert len(torch.unique(pairs, dim=1).T) < items


def test_a_million_items_fit_a_small_budget_and_are_shared_evenly() -> None:
    table = item_table(MANY, 32, 10)
    assert isinstance(table, SharedTable)
    assert _bytes_in_training(table) <= 10 * MEGABYTE < MANY * 32 * 4 / 10
    for places in table.places(torch.arange(MANY)):
        load = torch.bincount(places)
        load = load[load > 0]
        assert load.max() - load.min() <= 1


def test_a_budget_that_is_too_small_says_what_it_takes() -> None:
    with says(
        "settings", "backbone.table_mb", "0.1 MB hold 781 rows", "1,000,000 items", "give at least 0.257"
    ) as found:
        item_table(MANY, 16, 0.1)
    enough = float(str(found.value).split("at least ")[1].split(",")[0])
    assert isinstance(item_table(MANY, 16, enough), SharedTable)


def test_an_item_is_the_sum_of_its_two_rows_and_varies_like_a_plain_one() -> None:
    torch.manual_seed(0)
    table = SharedTable(50_000, 4_001, 8)
    draw(table)
    weight = table.rows.weight
    torch.testing.assert_close(table(torch.tensor([[4_500]]))[0, 0], weight[4_500 % 2_001] + weight[2_001 + 500])
    assert every(table).shape == (50_000, 8)
    assert every(table).std().item() == pytest.approx(0.02, rel=0.02)
    torch.testing.assert_close(every(table)[[3, 49_999]], table(torch.tensor([3, 49_999])))


def test_the_same_seed_draws_the_same_table_and_it_survives_saving(tmp_path_factory: pytest.TempPathFactory) -> None:
    backbone = BACKBONE.model_copy(update={"table_mb": 0.0014})
    one, two = (as_backbone(build(MODELS["hisac"], backbone, SPACE, 0)) for _ in range(2))
    assert isinstance(one.encoder.ids, SharedTable)
    assert isinstance(two.encoder.ids, SharedTable)
    assert torch.equal(one.encoder.ids.rows.weight, two.encoder.ids.rows.weight)
    out = tmp_path_factory.mktemp("bundle")
    save_model(out, one, MODELS["hisac"], SPACE)
    history, candidates = make_history([5, 9]), torch.arange(6).view(2, 3)
    assert torch.equal(load_model(out)[0](history, candidates), one.eval()(history, candidates))


@pytest.mark.parametrize("count", [4, 200], ids=["some items", "the whole catalog"])
def test_gradients_reach_both_rows_of_an_item_and_no_others(count: int) -> None:
    encoder = ItemEncoder(SPACE, 8, 0.0014)
    assert isinstance(encoder.ids, SharedTable)
    items = torch.full((count,), 23)
    encoder(items).sum().backward()
    assert encoder.ids.rows.weight.grad is not None
    touched = encoder.ids.rows.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == [int(place) for place in encoder.ids.places(torch.tensor(23))]


def test_the_table_is_trained_by_adagrad() -> None:
    model = as_backbone(build(MODELS["hisac"], BACKBONE.model_copy(update={"table_mb": 0.0014}), SPACE, 0))
    held = {id(part) for group in make_optimizers(model, TrainConfig())[1].param_groups for part in group["params"]}
    assert isinstance(model.encoder.ids, SharedTable)
    assert id(model.encoder.ids.rows.weight) in held


def test_a_large_table_has_sparse_gradients_for_what_a_batch_touches() -> None:
    table = item_table(SPARSE_ROWS, 4, None)
    table(torch.tensor([5, 9, 5])).sum().backward()
    assert isinstance(table, Embedding)
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    assert table.weight.grad.coalesce().indices().tolist() == [[5, 9]]
    assert not item_table(SPARSE_ROWS - 1, 4, None).sparse


def test_a_small_table_is_a_plain_one_drawn_as_ever() -> None:
    torch.manual_seed(3)
    table = item_table(60, 8, 1)
    draw(table)
    torch.manual_seed(3)
    plain = torch.nn.Embedding(60, 8)
    torch.nn.init.normal_(plain.weight, std=0.02)
    assert isinstance(table, torch.nn.Embedding)
    assert torch.equal(table.weight, plain.weight)
