"""Multi-head attention with absent keys: the plain form, one query and head at a time."""

from __future__ import annotations

import pytest
import torch

from hisac_lab.ops.attention import FLOOR, attend, join_heads, key_bias, plain_attend, split_heads


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
