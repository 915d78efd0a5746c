"""Choosing events: the plain form's choice, never a pad before an event, ties to the newest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.select import best_events, gather_events, plain_best_events, take_rows


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 11), st.integers(0, 10**6))
def test_the_choice_is_that_of_the_plain_form(r: int, c: int, length: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 2, (r, c, length), generator=generator).float()  # many ties
    mask = torch.rand(r, length, generator=generator) < 0.7
    for fast, plain in zip(best_events(scores, mask, count), plain_best_events(scores, mask, count), strict=True):
        assert torch.equal(fast, plain)
    each = torch.rand(r, c, length, generator=generator) < 0.5
    for fast, plain in zip(best_events(scores, each, count), plain_best_events(scores, each, count), strict=True):
        assert torch.equal(fast, plain)


@pytest.mark.parametrize("pad_score", [0.0, 5.0])
def test_a_pad_never_outranks_an_event(pad_score: float) -> None:
    """Public code multiplies scores by the mask, so that a pad's zero beats every event of negative score."""
    scores = torch.tensor([[[pad_score, pad_score, -3.0, -1.0, -2.0]]])
    mask = torch.tensor([[False, False, True, True, True]])
    places, valid = best_events(scores, mask, 2)
    assert places.tolist() == [[[3, 4]]]
    assert valid.all()
    places, valid = best_events(scores, mask, 4)
    assert places[valid].tolist() == [2, 3, 4]
    assert valid.tolist() == [[[False, True, True, True]]]


def test_equal_scores_go_to_the_newest_and_stand_in_time_order() -> None:
    places, _ = best_events(torch.tensor([[[1.0, 0.0, 1.0, 1.0, 0.0]]]), torch.ones(1, 5, dtype=torch.bool), 2)
    assert places.tolist() == [[[2, 3]]]


def test_the_width_is_always_the_count_whatever_the_padding() -> None:
    places, valid = best_events(torch.zeros(2, 1, 3), torch.tensor([[False, False, True], [False] * 3]), 5)
    assert places.shape == valid.shape == (2, 1, 5)
    assert valid.sum(dim=2).tolist() == [[1], [0]]


def test_values_are_gathered_at_places() -> None:
    values = torch.arange(2 * 4 * 3).view(2, 4, 3)
    places = torch.tensor([[[1, 3]], [[0, 2]]])
    assert gather_events(values, places).tolist() == [[values[0, [1, 3]].tolist()], [values[1, [0, 2]].tolist()]]
    assert gather_events(values[..., 0], places).tolist() == [[[3, 9]], [[12, 18]]]


def test_rows_and_their_gradient_are_those_of_an_embedding() -> None:
    torch.manual_seed(0)
    places = torch.randint(7, (3, 4, 5))
    found = []
    for rows in (take_rows, lambda table, at: torch.nn.functional.embedding(at, table)):
        table = torch.randn(7, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
        taken = rows(table, places)
        taken.square().sum().backward()
        found.append((taken, table.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
