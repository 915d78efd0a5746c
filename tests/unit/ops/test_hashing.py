"""SimHash: bits of a projection, packed and compared like unpacked ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.hashing import bucket, hamming, pack, plain_hamming, planes, sign_bits


@given(st.integers(1, 100), st.integers(0, 10**6))
def test_packed_signatures_differ_in_as_many_bits_as_unpacked_ones(bits: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.rand(2, 3, bits, generator=generator) < 0.5
    keys = torch.rand(2, 4, bits, generator=generator) < 0.5
    assert pack(keys).shape == (2, 4, math.ceil(bits / 31))
    assert torch.equal(hamming(pack(queries), pack(keys)), plain_hamming(queries, keys))


def test_all_bits_of_a_word_count() -> None:
    none, every = torch.zeros(1, 1, 62, dtype=torch.bool), torch.ones(1, 1, 62, dtype=torch.bool)
    assert hamming(pack(none), pack(every)).item() == 62
    assert (pack(every) >= 0).all()


def test_signatures_are_signs_of_projections() -> None:
    wall = planes(5, 7, seed=3)
    assert torch.equal(wall, planes(5, 7, seed=3))
    assert not torch.equal(wall, planes(5, 7, seed=4))
    vector = torch.randn(5, generator=torch.Generator().manual_seed(0))
    expected = [bool((vector * wall[:, bit]).sum() > 0) for bit in range(7)]
    assert sign_bits(vector, wall).tolist() == expected
    assert sign_bits(-vector, wall).tolist() == [not bit for bit in expected]


@pytest.mark.parametrize("angle", [0.3, 1.2])
def test_the_share_of_differing_bits_is_the_angle(angle: float) -> None:
    """Goemans and Williamson: each plane parts two vectors with probability angle / pi."""
    wall = planes(2, 20_000, seed=0)
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)])
    differing = (sign_bits(one, wall) != sign_bits(other, wall)).float().mean()
    assert float(differing) == pytest.approx(angle / math.pi, abs=0.01)


def test_a_bucket_is_the_number_its_bits_write() -> None:
    bits = torch.tensor([[False, False, False], [True, False, False], [False, True, True]])
    assert bucket(bits).tolist() == [0, 1, 6]
