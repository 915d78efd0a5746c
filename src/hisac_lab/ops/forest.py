"""Boosted trees as tensors: what was fitted elsewhere is scored here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

ROWS = 4096  # scored at once: what is looked up stays small


class Forest(NamedTuple):
    """T binary trees of up to N nodes each, the root first.

    Attributes:
        column: Column that a node asks about, 0 at a leaf; (T, N) int64.
        threshold: A row goes left where its number is at most that; (T, N) float64.
        left: Next node on that side, the leaf itself at a leaf; (T, N) int64.
        right: Next node on the other; (T, N) int64.
        value: What a leaf adds, 0 elsewhere; (T, N) float64.
    """

    column: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor

    @classmethod
    def empty(cls, trees: int, leaves: int) -> Forest:
        """Trees of up to so many leaves that add nothing yet."""
        shape = (trees, 2 * leaves - 1)
        still = torch.arange(shape[1]).expand(shape).contiguous()
        zeros = torch.zeros(shape, dtype=torch.float64)
        return cls(torch.zeros(shape, dtype=torch.int64), zeros, still, still.clone(), zeros.clone())

    def plant(self, trees: Iterable[Mapping[str, Any]]) -> None:
        """Writes trees in nested form into this one's rows.

        Args:
            trees: A node has `split_feature`, `threshold`, `left_child` and `right_child`, a leaf `leaf_value`.
        """
        for tree, root in enumerate(trees):
            nodes = [root]
            for place, node in enumerate(nodes):  # which grows as it is read
                if "split_feature" not in node:
                    self.value[tree, place] = node["leaf_value"]
                    continue
                self.column[tree, place] = node["split_feature"]
                self.threshold[tree, place] = node["threshold"]
                self.left[tree, place], self.right[tree, place] = len(nodes), len(nodes) + 1
                nodes += [node["left_child"], node["right_child"]]

    def scores(self, rows: Tensor, depth: int) -> Tensor:
        """Sum over the trees of the leaf that each row reaches; (B, F) to (B,) float64.

        Args:
            rows: Numbers of each row.
            depth: Splits from a root to a leaf, at most.
        """
        if not len(rows):
            return rows.new_zeros(0, dtype=torch.float64)
        return torch.cat([self._scores(part, depth) for part in torch.split(rows.double(), ROWS)])

    def _scores(self, rows: Tensor, depth: int) -> Tensor:
        trees, nodes = self.column.shape
        root = torch.arange(trees, device=rows.device) * nodes
        left, right = self.left + root[:, None], self.right + root[:, None]
        place = root.expand(len(rows), trees)
        for _ in range(depth):
            goes_left = rows.gather(1, self.column.take(place)) <= self.threshold.take(place)
            place = torch.where(goes_left, left.take(place), right.take(place))
        return self.value.take(place).sum(dim=1)
