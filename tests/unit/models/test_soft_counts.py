"""Soft counts of attention heads: how much was found, for the tower, past the gate."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from kit import BACKBONE, EVERY, as_backbone, asked, lively, make_history, make_items
from torch import Tensor

from hisac_lab.config.model import Attention, AttentionConfig
from hisac_lab.models.catalog import build
from hisac_lab.models.compressors import CompressConfig
from hisac_lab.models.contract import History
from hisac_lab.models.din import DINConfig, TargetAttention
from hisac_lab.models.heads import TargetHeads
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.retrieval import SIMConfig
from hisac_lab.models.twin import TWINConfig
from hisac_lab.ops.attention import FLOOR
from hisac_lab.testing import samples

SPACE = make_items()
COUNTING = {name: config for name, config in EVERY.items() if getattr(config, "soft_counts", False)}
ROOMY = (
    DINConfig(soft_counts=True),
    SIMConfig(search="embedding", top=60, soft_counts=True),
    TWINConfig(top=60, soft_counts=True),
    CompressConfig(size=4, soft_counts=True),
    HiSACConfig(agents=8, facts=False, soft_counts=True),
)
"""Models that leave out no event of a short history."""


def _twice(history: History) -> History:
    """Each event of the histories twice, at the same time."""
    columns = ("items", "ages", "mask", "feedback")
    return dataclasses.replace(
        history, **{name: getattr(history, name).repeat_interleave(2, dim=1) for name in columns}
    )


def _heads(soft_counts: bool = True) -> tuple[TargetHeads, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    heads = TargetHeads(8, 2, soft_counts=soft_counts)
    return heads, torch.randn(3, 4, 8), torch.randn(3, 5, 8), torch.tensor([[0.0, 0.5, FLOOR, -1.0, 0.0]]).expand(3, -1)


def test_each_head_counts_by_its_own_scores() -> None:
    heads, queries, events, bias = _heads()
    parts = heads.project(events)
    answer = heads.read(queries, parts["keys"], parts["values"], bias)
    assert answer.shape == (3, 4, 8 + 2)
    for head in range(2):
        columns = slice(4 * head, 4 * head + 4)
        scores = heads.to_query(queries)[..., columns] @ parts["keys"][..., columns].transpose(1, 2) / 2
        there = bias[0] > FLOOR
        expected = (1 + (scores + bias[:, None])[..., there].exp().sum(dim=-1)).log()
        torch.testing.assert_close(answer[..., 8 + head], expected)
    silent = _heads(soft_counts=False)[0]
    assert torch.equal(answer[..., :8], silent.read(queries, parts["keys"], parts["values"], bias))


def test_the_activation_unit_counts_by_its_scores() -> None:
    torch.manual_seed(0)
    plain, telling = TargetAttention(6, 5), TargetAttention(6, 5, Attention(soft_counts=True))
    telling.load_state_dict(plain.state_dict())
    queries, events, mask = torch.randn(2, 3, 6), torch.randn(2, 7, 6), torch.ones(2, 7, dtype=torch.bool)
    mask[1, :5] = False
    answer = telling(queries, events, mask)
    assert torch.equal(answer[..., :6], plain(queries, events, mask))
    for row in range(2):
        for column, query in enumerate(queries[row]):
            hidden = [torch.relu(plain.query(query) + plain.key(e) + plain.product @ (query * e)) for e in events[row]]
            scores = torch.stack([plain.out @ one for one in hidden])[mask[row]]
            torch.testing.assert_close(answer[row, column, 6], torch.log1p(scores.exp().sum()))


def test_sigmoid_weights_sum_the_events() -> None:
    """Each weight is the sigmoid of the unit's output; an empty history gives zeros."""
    torch.manual_seed(0)
    unit = TargetAttention(6, 5, Attention(weights="sigmoid"))
    queries, events, mask = torch.randn(2, 3, 6), torch.randn(2, 7, 6), torch.ones(2, 7, dtype=torch.bool)
    mask[0, :4], mask[1] = False, False
    answer = unit(queries, events, mask)
    assert not answer[1].any()
    for column, query in enumerate(queries[0]):
        expected = torch.zeros(6)
        for e in events[0, 4:]:
            hidden = torch.relu(unit.query(query) + unit.key(e) + unit.product @ (query * e))
            expected = expected + torch.sigmoid(unit.out @ hidden) * e
        torch.testing.assert_close(answer[0, column], expected)


def test_sigmoid_weights_are_those_of_the_short_branch_too() -> None:
    model = as_backbone(build(DINConfig(whole_history=False, weights="sigmoid"), BACKBONE, SPACE, 0))
    assert model.short.weights == "sigmoid"
    assert model.long is None


@pytest.mark.parametrize("config", ROOMY, ids=lambda config: config.kind)
def test_a_history_with_every_event_twice_differs_by_its_soft_counts_alone(config: AttentionConfig) -> None:
    """What a softmax answers stays, and each head counts twice as much: log(1 + 2 x) for log(1 + x)."""
    model, history = samples.lively(config, SPACE), make_history([2, 0, 5], seed=3)
    candidates = torch.arange(9).expand(3, -1)
    assert model.long is not None
    once, twice = (
        model.long.attend(state, asked(model, state, candidates))
        for state in (model.encode(history), model.encode(_twice(history)))
    )
    dim = BACKBONE.dim
    assert once.shape[-1] == dim + model.long.soft_counts > dim
    torch.testing.assert_close(once[..., :dim], twice[..., :dim], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.expm1(twice[..., dim:]), 2 * torch.expm1(once[..., dim:]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", COUNTING)
def test_the_tower_sees_soft_counts_as_they_are(name: str) -> None:
    model = as_backbone(lively(name, SPACE))
    history, candidates = make_history([6, 0]), torch.arange(4).expand(2, -1)
    state = model.encode(history)
    seen = model.features(state, candidates)
    short = model.short(model.encoder(candidates), state["short_events"], state["short_mask"])
    columns = [short[..., BACKBONE.dim :]]
    assert columns[0].shape[-1] == 1
    if model.long is not None:
        columns.append(model.long.attend(state, asked(model, state, candidates))[..., BACKBONE.dim :])
    told = torch.cat(columns, dim=-1)
    assert torch.equal(seen[..., -told.shape[-1] :], told)
    first = model.tower[0]
    assert isinstance(first, torch.nn.Linear)
    assert first.in_features == seen.shape[-1]


def test_off_is_the_default_and_changes_nothing() -> None:
    for config in EVERY.values():
        if isinstance(config, AttentionConfig) and not config.soft_counts:
            branch = build(config, BACKBONE, SPACE, 0).long
            assert branch is None or branch.soft_counts == 0
