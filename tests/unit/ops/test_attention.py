"""Multi-head attention with absent keys: the plain form, one query and head at a time."""

from __future__ import annotations

import pytest
import torch

from hisac_lab.ops.attention import FLOOR, attend, join_heads, key_bias, plain_attend, soft_count, split_heads


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_that_of_the_plain_form(heads: int) -> None:
    generator = torch.Generator().manual_seed(heads)
    q, k, v = (torch.randn(3, size, 8, generator=generator) for size in (4, 6, 6))
    bias = torch.randn(3, 6, generator=generator)
    bias[0, :3], bias[2] = FLOOR, FLOOR
    found = attend(q, k, v, bias, heads)
    for row in range(3):
        torch.testing.assert_close(found[row], plain_attend(q[row], k[row], v[row], bias[row], heads))
    assert not found[2].any()


def test_heads_are_split_and_joined_again() -> None:
    x = torch.arange(2 * 3 * 8).view(2, 3, 8)
    split = split_heads(x, 4)
    assert split.shape == (2, 4, 3, 2)
    assert torch.equal(split[1, 2, 0], x[1, 0, 4:6])
    assert torch.equal(join_heads(split), x)


def test_the_bias_of_a_mask_shuts_out_what_is_not_there() -> None:
    assert key_bias(torch.tensor([[True, False]])).tolist() == [[0.0, FLOOR]]


def test_a_soft_count_is_the_log_of_one_and_the_sum_of_exponentials() -> None:
    scores = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0)) * 4
    expected = torch.log1p(scores.double().exp().sum(dim=-1)).float()
    torch.testing.assert_close(soft_count(scores), expected)
    there = torch.tensor([True, False, True, True, False, False])
    masked = soft_count(scores.masked_fill(~there, FLOOR))
    torch.testing.assert_close(masked, torch.log1p(scores[..., there].double().exp().sum(dim=-1)).float())
    assert not soft_count(torch.full((2, 4), FLOOR)).any()
    torch.testing.assert_close(soft_count(torch.full((1, 4), 300.0)), torch.tensor([300.0]) + torch.tensor(4.0).log())
