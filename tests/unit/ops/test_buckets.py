"""Ages in whole logarithms."""

from __future__ import annotations

import pytest
import torch

from hisac_lab.ops.buckets import AGE_BUCKETS, age_bucket


@pytest.mark.parametrize(
    ("age", "bucket"),
    [(-5, 0), (0, 0), (1, 1), (2, 1), (3, 2), (7, 3), (86_400, 16), ((1 << 31) - 1, 31), (1 << 40, AGE_BUCKETS - 1)],
)
def test_ages_fall_into_whole_logarithms(age: int, bucket: int) -> None:
    assert int(age_bucket(torch.tensor([age]))) == bucket
