"""DIN's activation unit: the factorized form equals the plain one."""

from __future__ import annotations

import pytest
import torch
from kit import BACKBONE, ask, make_history, make_items
from torch import Tensor

from hisac_lab.models.contract import UserState
from hisac_lab.models.din import DINBranch, DINConfig, TargetAttention


def _unit(dim: int = 6, hidden: int = 5) -> TargetAttention:
    torch.manual_seed(0)
    return TargetAttention(dim, hidden).double()


def _plain(unit: TargetAttention, queries: Tensor, events: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's form: one linear layer on the (R, C, L, 3D) tensor of query, key and product; weights and answer."""
    r, c, d = queries.shape
    wide = events.shape[1]
    q, k = queries[:, :, None].expand(r, c, wide, d), events[:, None].expand(r, c, wide, d)
    layer = torch.cat([unit.query.weight, unit.key.weight, unit.product], dim=1)
    hidden = torch.relu(torch.cat([q, k, q * k], dim=-1) @ layer.T + unit.query.bias)
    scores = (hidden @ unit.out).masked_fill(~mask[:, None], -torch.inf)
    weights = torch.nan_to_num(torch.softmax(scores, dim=-1))
    return weights, weights @ events


@pytest.mark.parametrize("lengths", [[7], [7, 1, 4], [5, 0]], ids=["full", "padded", "one empty"])
def test_attention_is_factorized(lengths: list[int]) -> None:
    unit, mask = _unit(), make_history(lengths).mask
    queries = torch.randn(len(lengths), 3, 6, dtype=torch.float64)
    events = torch.randn(*mask.shape, 6, dtype=torch.float64)
    expected = _plain(unit, queries, events, mask)[1]
    torch.testing.assert_close(unit(queries, events, mask), expected, atol=1e-6, rtol=1e-5)


def test_attention_rows_sum_to_one() -> None:
    """On events that are all one, the answer is one where there is an event and zero where there is none."""
    unit, mask = _unit(), make_history([7, 1, 0]).mask
    answers = unit(torch.randn(3, 2, 6, dtype=torch.float64), torch.ones(*mask.shape, 6, dtype=torch.float64), mask)
    expected = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)[:, None, None].expand(3, 2, 6)
    torch.testing.assert_close(answers, expected, atol=1e-6, rtol=0)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    unit, mask = _unit(), make_history([3, 5]).mask
    queries, events = torch.randn(2, 2, 6, dtype=torch.float64), torch.randn(2, 5, 6, dtype=torch.float64)
    other = torch.where(mask[..., None], events, 1e6)
    torch.testing.assert_close(unit(queries, events, mask), unit(queries, other, mask))


def test_the_unit_prefers_some_events_and_depends_on_the_candidate() -> None:
    unit, mask = _unit(), make_history([6]).mask
    events = torch.randn(1, 6, 6, dtype=torch.float64)
    weights = _plain(unit, torch.randn(1, 2, 6, dtype=torch.float64), events, mask)[0]
    assert bool((weights.max() - weights.min()) > 0.01)
    assert not torch.allclose(weights[0, 0], weights[0, 1])


def test_the_state_of_the_branch_is_the_whole_history() -> None:
    branch = DINBranch(DINConfig(), BACKBONE, make_items())
    history = make_history([9, 4])
    events = torch.randn(2, 9, BACKBONE.dim)
    state = branch.encode(history, events)
    assert state["long_events"] is events
    assert torch.equal(state["long_mask"], history.mask)
    assert branch.agents(history) is None
    queries = torch.randn(2, 3, BACKBONE.dim)
    expected = _plain(branch.attention, queries, events, history.mask)[1]
    torch.testing.assert_close(branch.attend(UserState(state), ask(queries)), expected, atol=1e-5, rtol=1e-4)
