"""Gradient boosted trees on counts and ages of the history, fitted by LightGBM and scored without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig
from hisac_lab.models.contract import CardLine, ItemSpace, Kind
from hisac_lab.models.fitted import Fitted, Labeled
from hisac_lab.models.tabular import TabularConfig, TabularRanker
from hisac_lab.ops.boosting import Growth, boosted
from hisac_lab.ops.forest import Forest

SOURCE = "docs/papers/baselines.md#boosted-trees"


class TreesConfig(TabularConfig):
    """Gradient boosted trees over columns of numbers."""

    kind: Literal["trees"] = Field("trees", description="gradient boosted trees on counts and ages; needs LightGBM")
    rounds: int = Field(150, ge=1, le=10_000, description="trees")
    leaves: int = Field(31, ge=2, le=4096, description="leaves of a tree at most")
    depth: int = Field(8, ge=1, le=64, description="splits from root to leaf at most")
    learning_rate: float = Field(0.1, gt=0, le=1, description="share of each tree's step")
    least: int = Field(20, ge=1, description="training samples in a leaf at least")
    column_share: float = Field(0.8, gt=0, le=1, description="share of the columns that each tree may ask, drawn")


class TreesRanker(TabularRanker, Fitted, Kind):
    """Boosted trees: fitted at once, kept as tensors.

    Args:
        config: Columns and trees.
        backbone: Whether feedback is told.
        items: Codebooks and fields.
    """

    Config = TreesConfig
    examples: ClassVar = {
        "trees": TreesConfig(rounds=5, leaves=4, depth=3, least=2),
        "trees-of-flat-books": TreesConfig(
            reads=("flat_6", "pace", "week"), half_lives=(), exposures=False, rounds=3, leaves=3, depth=2, least=1
        ),
    }
    card = (
        CardLine(
            "trees are fitted to the gradient of the log loss, one after the other, leaf by leaf",
            "stated",
            SOURCE,
            "test_trees_learn_what_counts_tell",
        ),
        CardLine(
            "columns are counts, faded counts and ages at the candidate's codes, fields and itself",
            "inferred",
            SOURCE,
            "test_columns_are_counts_of_the_history_at_what_the_candidate_is",
        ),
        CardLine(
            "known negatives are counted apart (switch `exposures`)",
            "inferred",
            SOURCE,
            "test_known_negatives_are_counted_apart",
        ),
        CardLine(
            "fitted trees are tensors, whose scores are LightGBM's own",
            "inferred",
            SOURCE,
            "test_scores_are_those_of_lightgbm",
        ),
        CardLine("categorical splits, missing values, early stopping, sampling of rows", "left out", SOURCE),
    )

    def __init__(self, config: TreesConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(config, backbone, items)
        self.config = config
        for name, part in Forest.empty(config.rounds, config.leaves)._asdict().items():
            self.register_buffer(name, part)

    @property
    def forest(self) -> Forest:
        """The trees, as the buffers have them."""
        return Forest(*(self.get_buffer(name) for name in Forest._fields))

    def logits(self, rows: Tensor) -> Tensor:
        """Sums over the trees; (..., F) to (...) float32."""
        return self.forest.scores(rows.flatten(0, -2), self.config.depth).float().view(rows.shape[:-1])

    @torch.no_grad()
    def fit(self, batches: Iterable[Labeled], seed: int) -> float:
        """Fits the trees (see `Fitted`).

        Raises:
            UserError: LightGBM is not installed.
        """
        config = self.config
        rows, clicked, weights = self.labeled(batches)
        weighted = None if (weights == 1).all() else weights.numpy()
        growth = Growth(
            config.rounds, config.leaves, config.depth, config.learning_rate, config.least, config.column_share
        )
        booster = boosted(rows.numpy(), clicked.numpy(), weighted, growth, seed)
        for name, part in Forest.empty(config.rounds, config.leaves)._asdict().items():
            self.get_buffer(name).copy_(part)
        self.forest.plant(tree["tree_structure"] for tree in booster.dump_model()["tree_info"])
        logits = self.logits(rows.to(self.forest.value.device)).cpu()
        return float(nn.functional.binary_cross_entropy_with_logits(logits, clicked))
