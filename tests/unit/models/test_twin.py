"""TWIN: the search keeps what the attention scores highest, head by head."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from kit import BACKBONE, EVERY, ask, asked, lively, make_history, make_items
from torch import Tensor

from hisac_lab.models.contract import UserState
from hisac_lab.models.twin import TWINBranch, TWINConfig
from hisac_lab.ops.buckets import age_bucket
from hisac_lab.testing import samples

LENGTHS = [11, 2, 0]


def _scores(branch: TWINBranch, events: Tensor, ages: Tensor, queries: Tensor) -> Tensor:
    """Scores by definition; (R, H, C, L)."""
    heads = branch.heads.heads
    width = BACKBONE.dim // heads
    q, k = branch.heads.to_query(queries), branch.heads.to_key(events)
    parts = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        score = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width)
        if branch.cross is not None:
            score = score + branch.cross[head][age_bucket(ages)][:, None, :]
        parts.append(score)
    return torch.stack(parts, dim=1)


def _setting(top: int, cross: bool = True) -> tuple[TWINBranch, UserState, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    branch = TWINBranch(TWINConfig(top=top, heads=2, cross=cross), BACKBONE, make_items())
    if branch.cross is not None:
        torch.nn.init.normal_(branch.cross)
    history = make_history(LENGTHS)
    events, queries = torch.randn(3, 11, BACKBONE.dim), torch.randn(3, 4, BACKBONE.dim)
    with torch.no_grad():
        state = UserState(branch.encode(history, events))
        return branch, state, events, queries, _scores(branch, events, history.ages, queries)


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("top", [1, 3, 20])
def test_search_keeps_what_attention_scores_highest(top: int, cross: bool) -> None:
    branch, state, _, queries, scores = _setting(top, cross)
    mask = state["long_mask"]
    places, valid = branch.retrieve(state, ask(queries))
    for row, column in torch.cartesian_prod(torch.arange(3), torch.arange(8)).tolist():
        head, candidate = divmod(column, 4)
        own = scores[row, head, candidate].masked_fill(~mask[row], -torch.inf)
        keep = min(top, LENGTHS[row])
        expected = sorted(own.topk(keep).indices.tolist()) if keep else []
        assert places[row, column][valid[row, column]].tolist() == expected


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("top", [3, 20])
def test_with_room_for_all_it_is_full_attention(top: int, cross: bool) -> None:
    """With little room it is attention over each head's best, by the same scores."""
    branch, state, events, queries, scores = _setting(top, cross)
    mask = state["long_mask"][:, None, None, :]
    scores = scores.masked_fill(~mask, -torch.inf)
    kept = scores >= scores.topk(min(top, 11), dim=-1).values[..., -1:]
    weights = torch.nan_to_num(torch.softmax(scores.masked_fill(~(kept & mask), -torch.inf), dim=-1))
    with torch.no_grad():
        values = branch.heads.to_value(events)
        parts = [weights[:, head] @ values[..., head * 4 : head * 4 + 4] for head in range(2)]
        expected = branch.heads.merge(torch.cat(parts, dim=-1))
        torch.testing.assert_close(branch.attend(state, ask(queries)), expected, atol=1e-5, rtol=1e-4)


def test_the_age_is_a_bias_per_head() -> None:
    """A bias on one bucket in one head draws that head's choice there, and leaves the other head alone."""
    branch, state, _, queries, _ = _setting(top=1)
    assert branch.cross is not None
    branch.cross.data.zero_()
    before = branch.retrieve(state, ask(queries))[0][0]
    bucket = int(state["long_buckets"][0, -1])
    branch.cross.data[1, bucket] = 100.0
    after = branch.retrieve(state, ask(queries))[0][0]
    assert torch.equal(before[:4], after[:4])
    assert (state["long_buckets"][0][after[4:, 0]] == bucket).all()


@pytest.mark.parametrize("name", ["twin", "twin-keys-of-items"])
def test_a_key_of_an_item_is_the_same_at_any_age(name: str) -> None:
    """And at any feedback, where keys are of items; values and the bias still know the age."""
    model, history = lively(name, make_items()), make_history([9])
    later = dataclasses.replace(history, ages=history.ages * 30, feedback=(history.feedback + 1) % 3)
    with torch.no_grad():
        state, other = model.encode(history), model.encode(later)
        same = torch.allclose(state["long_keys"], other["long_keys"])
        assert same == (name == "twin-keys-of-items")
        assert not torch.allclose(state["long_events"], other["long_events"])
        if same:
            branch = model.long
            assert isinstance(branch, TWINBranch)
            expected = branch.heads.to_key(branch.item_vectors(history.items))
            torch.testing.assert_close(state["long_keys"], expected)


def test_keys_of_items_meet_values_of_events() -> None:
    """Full attention written out: scores from items and the bias of the age, sums over events; as in training."""
    torch.manual_seed(0)
    config = EVERY["twin-keys-of-items"].model_copy(update={"top": 12})
    model, history, candidates = samples.lively(config, make_items()), make_history([9, 2]), torch.arange(8).view(2, 4)
    branch = model.long
    assert isinstance(branch, TWINBranch)
    assert branch.cross is not None
    torch.nn.init.normal_(branch.cross)
    state = model.encode(history)
    wanted = asked(model, state, candidates)
    with torch.no_grad():
        kept = model.encode(history)
        answer = branch.attend(kept, asked(model, kept, candidates))
    q, k = branch.heads.to_query(wanted.vectors), branch.heads.to_key(branch.item_vectors(history.items))
    values, parts = branch.heads.to_value(state["long_events"]), []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / 2
        scores = scores + branch.cross[head][age_bucket(history.ages)][:, None, :]
        scores = scores.masked_fill(~history.mask[:, None, :], -torch.inf)
        parts.append(torch.softmax(scores, dim=-1) @ values[..., part])
    expected = branch.heads.merge(torch.cat(parts, dim=-1))
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(branch.attend(state, wanted), expected, atol=1e-5, rtol=1e-4)


def test_heads_choose_for_themselves() -> None:
    branch, state, _, queries, _ = _setting(top=2)
    places = branch.retrieve(state, ask(queries))[0][0]
    assert not torch.equal(places[:4], places[4:])
