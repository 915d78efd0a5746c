"""The transformer stack: causal, candidates as next tokens, and the HSTU block by its formula."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, TypeAlias

import pytest
import torch
from kit import BACKBONE, ask, make_history, make_items, padded
from torch import Tensor

from hisac_lab.models.contract import History, UserState
from hisac_lab.models.stack import HSTUBlock, SoftmaxBlock, Stack
from hisac_lab.models.transformer import TransformerBranch, TransformerConfig
from hisac_lab.ops.attention import FLOOR

Block: TypeAlias = Literal["softmax", "hstu"]
BLOCKS: list[Block] = ["softmax", "hstu"]


def _branch(**changes: Any) -> TransformerBranch:
    torch.manual_seed(0)
    settings = {"window": 10, "heads": 2} | changes
    branch = TransformerBranch(TransformerConfig.model_validate(settings), BACKBONE, make_items())
    if branch.stack.gaps is not None:
        torch.nn.init.normal_(branch.stack.gaps)
    return branch


def _events(history: History) -> Tensor:
    return torch.randn(*history.items.shape, BACKBONE.dim, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("block", BLOCKS)
def test_an_event_sees_no_later_one(block: Block) -> None:
    branch, history = _branch(block=block, readout="last"), make_history([8])
    events = _events(history)
    outputs: list[Tensor] = []
    branch.stack.norm.register_forward_hook(lambda module, args, out: outputs.append(out))
    branch.encode(history, events)
    other = events.clone()
    other[:, 5] = other[:, 5].flip(1)
    branch.encode(history, other)
    torch.testing.assert_close(outputs[0][:, :5], outputs[1][:, :5])
    assert (outputs[0][:, 5:] - outputs[1][:, 5:]).abs().amax(dim=2).min() > 1e-5


@pytest.mark.parametrize("block", BLOCKS)
def test_a_candidate_reads_like_the_next_event(block: Block) -> None:
    """Tokens and candidates in one causal sequence give the candidate the same output."""
    torch.manual_seed(0)
    stack = Stack(8, 2, 2, 10, block)
    assert stack.gaps is not None
    torch.nn.init.normal_(stack.gaps)
    history, count = make_history([6, 3]), 6
    x, candidates = torch.randn(2, count, 8), torch.randn(2, 3, 8)
    ages = torch.cat([history.ages, torch.zeros(2, 1, dtype=torch.int64)], dim=1)
    mask = torch.cat([history.mask, torch.ones(2, 1, dtype=torch.bool)], dim=1)
    allowed = torch.ones(count + 1, count + 1, dtype=torch.bool).tril() & mask[:, None]
    allowed = allowed | torch.eye(count + 1, dtype=torch.bool)
    bias = stack.bias(ages[:, None] - ages[:, :, None], allowed)
    kept = stack.tokens(x, bias[:, :, :count, :count])[1]
    found = stack.queries(candidates, kept, stack.bias(history.ages[:, None], history.mask[:, None]))
    for column in range(3):
        together = stack.tokens(torch.cat([x, candidates[:, [column]]], dim=1), bias)[0]
        torch.testing.assert_close(found[:, column], together[:, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("readout", ["candidate", "last"])
def test_places_are_counted_from_the_newest_event(readout: str) -> None:
    branch, history = _branch(readout=readout), make_history([7])
    events, queries = _events(history), torch.randn(1, 2, BACKBONE.dim)
    answer = branch.attend(UserState(branch.encode(history, events)), ask(queries))
    wide = torch.nn.functional.pad(events, (0, 0, 2, 0))
    torch.testing.assert_close(
        branch.attend(UserState(branch.encode(padded(history, 2), wide)), ask(queries)), answer, atol=1e-5, rtol=1e-4
    )
    swapped = events[:, [0, 1, 3, 2, 4, 5, 6]]
    assert not torch.allclose(branch.attend(UserState(branch.encode(history, swapped)), ask(queries)), answer)


@pytest.mark.parametrize("block", BLOCKS)
def test_only_the_window_is_read(block: Block) -> None:
    branch, history = _branch(block=block, window=4), make_history([9])
    events, queries = _events(history), torch.randn(1, 2, BACKBONE.dim)
    answer = branch.attend(UserState(branch.encode(history, events)), ask(queries))
    near = dataclasses.replace(history.last(4), agents=None)
    again = branch.attend(UserState(branch.encode(near, events[:, -4:])), ask(queries))
    torch.testing.assert_close(answer, again)


def test_the_hstu_block_is_its_formula() -> None:
    """U, V, Q, K = SiLU(W x); A = SiLU(Q K + bias) / n, n a constant; y = x + W2 (norm(A V) * U). One head."""
    torch.manual_seed(0)
    block, x = HSTUBlock(8, 1, window=20), torch.randn(5, 8)
    stack = Stack(8, 1, 1, 20, "hstu")
    assert stack.gaps is not None
    torch.nn.init.normal_(stack.gaps)
    stack.blocks[0] = block
    gaps = torch.arange(25).view(1, 5, 5) * 1000
    bias = stack.bias(gaps, torch.ones(1, 5, 5, dtype=torch.bool).tril())
    with torch.no_grad():
        q, k, v, u = torch.nn.functional.silu(block.project(block.norm(x))).chunk(4, dim=1)
        y = []
        for row in range(5):
            mixed = torch.zeros(8)
            for column in range(row + 1):
                score = q[row] @ k[column] / math.sqrt(8) + bias[0, 0, row, column]
                mixed = mixed + score * torch.sigmoid(score) / 20 * v[column]
            y.append(x[row] + block.out(block.norm_mixed(mixed) * u[row]))
        found = stack.tokens(x[None], bias)[0]
        torch.testing.assert_close(found[0], stack.norm(torch.stack(y)), atol=1e-5, rtol=1e-4)


def test_the_softmax_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block, x = SoftmaxBlock(8, 1), torch.randn(4, 8)
    stack = Stack(8, 1, 1, 4, gaps=False)
    stack.blocks[0] = block
    bias = torch.zeros(1, 1, 4, 4).masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), FLOOR)
    with torch.no_grad():
        q, k, v = block.project(block.norm(x)).chunk(3, dim=1)
        rows = [torch.softmax(q[i] @ k[: i + 1].T / math.sqrt(8), dim=0) @ v[: i + 1] for i in range(4)]
        y = x + block.out(torch.stack(rows))
        y = y + block.forward_out(torch.relu(block.forward_in(block.norm_forward(y))))
        torch.testing.assert_close(stack.tokens(x[None], bias)[0][0], stack.norm(y), atol=1e-5, rtol=1e-4)
