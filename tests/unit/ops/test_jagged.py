"""Distinct values and sums per row: the fast forms equal the plain ones."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.jagged import distinct, plain_distinct, plain_segment_sum, segment_sum

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 6), st.integers(0, 10**6))


@given(SIZES, st.sampled_from([0, -3, 5, 10**12]))
def test_distinct_values_are_those_of_the_plain_form(sizes: tuple[int, int, int, int], least: int) -> None:
    """Few values, which a table finds, and negative or large ones, which are sorted."""
    rows, width, kinds, seed = sizes
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(least, least + kinds, (rows, width), generator=generator)
    mask = torch.rand(rows, width, generator=generator) < 0.7
    for fast, plain in zip(distinct(values, mask), plain_distinct(values, mask), strict=True):
        assert torch.equal(fast, plain)


def test_a_row_without_values_has_none() -> None:
    found = distinct(torch.tensor([[4, 4], [1, 2]]), torch.tensor([[False, False], [True, True]]))
    assert found.values.tolist() == [[-1, -1], [1, 2]]
    assert found.counts.tolist() == [[0, 0], [1, 1]]
    assert found.slots.tolist() == [[-1, -1], [0, 1]]
    nothing = distinct(torch.tensor([[4, 4]]), torch.zeros(1, 2, dtype=torch.bool))
    assert nothing.values.tolist() == [[-1]]


@given(SIZES)
def test_sums_by_slot_are_those_of_the_plain_form_and_so_are_their_gradients(sizes: tuple[int, int, int, int]) -> None:
    rows, width, slots, seed = sizes
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(-1, slots, (rows, width), generator=generator)
    weight = torch.randn(rows, slots, 3, generator=generator, dtype=torch.float64)
    answers = []
    for form in (segment_sum, plain_segment_sum):
        values = torch.randn(rows, width, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values.requires_grad_()
        sums = form(values, place, slots)
        (sums * weight).sum().backward()
        answers.append((sums.detach(), values.grad))
    torch.testing.assert_close(answers[0][0], answers[1][0])
    torch.testing.assert_close(answers[0][1], answers[1][1])
