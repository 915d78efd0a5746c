"""Spans of time in whole logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

AGE_BUCKETS = 32


def age_bucket(ages: Tensor) -> Tensor:
    """Whole logarithm to base 2 of 1 + an age in seconds, 0..31; below zero counts as zero."""
    buckets: Tensor = torch.log2(1.0 + ages.clamp(min=0).double()).long().clamp(max=AGE_BUCKETS - 1)
    return buckets
