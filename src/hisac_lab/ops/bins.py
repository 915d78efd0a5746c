"""Bins of whole numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hisac_lab.base.artifacts import Array


def quantile_bins(values: Array, bins: int) -> dict[str, Array]:
    """Bins of about equal size by their ends, such as "16 to 40", and which whole numbers lie in each; (n,) bool."""
    edges: Sequence[int] = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)).astype(int)).tolist()
    if len(edges) < 2:
        edges = [edges[0], edges[0] + 1]
    masks = {}
    for low, high in itertools.pairwise(edges):
        last = high == edges[-1]
        inside = (values >= low) & ((values <= high) if last else (values < high))
        masks[f"{low} to {high if last else high - 1}"] = inside
    return masks
