"""Trees as tensors give what walking each tree from its root gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hisac_lab.ops import forest as module
from hisac_lab.ops.forest import Forest

COLUMNS, LEAVES, DEPTH = 3, 6, 4


def _grow(draw: np.random.Generator, leaves: int, depth: int) -> dict[str, Any]:
    if leaves == 1 or depth == 0:
        return {"leaf_value": float(draw.normal())}
    left = int(draw.integers(1, leaves))
    return {
        "split_feature": int(draw.integers(COLUMNS)),
        "threshold": float(draw.integers(-2, 3)),
        "left_child": _grow(draw, left, depth - 1),
        "right_child": _grow(draw, leaves - left, depth - 1),
    }


def _walk(node: dict[str, Any], row: list[float]) -> float:
    while "split_feature" in node:
        node = node["left_child" if row[node["split_feature"]] <= node["threshold"] else "right_child"]
    return float(node["leaf_value"])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 5), rows=st.integers(0, 7))
def test_a_row_adds_up_the_leaves_that_it_reaches(seed: int, count: int, rows: int) -> None:
    """At a threshold it goes left; trees that were not planted add nothing."""
    draw = np.random.default_rng(seed)
    trees = [_grow(draw, int(draw.integers(1, LEAVES + 1)), DEPTH) for _ in range(count)]
    forest = Forest.empty(6, LEAVES)
    forest.plant(trees)
    table = torch.from_numpy(draw.integers(-3, 4, (rows, COLUMNS)).astype(np.float32))
    expected = [sum(_walk(tree, row) for tree in trees) for row in table.tolist()]
    np.testing.assert_allclose(forest.scores(table, DEPTH).numpy(), expected, atol=1e-12)


def test_many_rows_are_scored_in_parts(monkeypatch: Any) -> None:
    draw = np.random.default_rng(0)
    forest = Forest.empty(3, LEAVES)
    forest.plant(_grow(draw, LEAVES, DEPTH) for _ in range(3))
    table = torch.from_numpy(draw.normal(size=(50, COLUMNS)).astype(np.float32))
    whole = forest.scores(table, DEPTH)
    monkeypatch.setattr(module, "ROWS", 7)
    assert torch.equal(forest.scores(table, DEPTH), whole)
