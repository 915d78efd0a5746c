"""Logistic regression on columns: popularity, recency and rates by themselves, or with counts of the history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig
from hisac_lab.models.contract import CardLine, ItemSpace, Kind
from hisac_lab.models.features import moments
from hisac_lab.models.fitted import Fitted, Labeled
from hisac_lab.models.tabular import Read, TabularConfig, TabularRanker
from hisac_lab.ops.logistic import log_loss, logistic

SOURCE = "docs/papers/baselines.md#logistic-regression"


class LinearConfig(TabularConfig):
    """Logistic regression on columns of numbers."""

    kind: Literal["linear"] = Field("linear", description="logistic regression on context features and counts")
    reads: tuple[Read, ...] = Field(
        ("length", "recency", "pace", "rate", "user", "request", "item_recency", "popularity", "item_rate", "pair"),
        min_length=1,
        description="columns, as of kind trees; of the item alone (item_recency, popularity, item_rate) or of the user "
        "alone (length, recency, pace, rate, day, week, user, request) they make a control",
    )
    ridge: float = Field(1.0, gt=0, description="penalty on the squares of the weights of standardized columns")


class LinearRanker(TabularRanker, Fitted, Kind):
    """A weighted sum of columns; fitted at once.

    Args:
        config: Columns and penalty.
        backbone: Whether feedback is told.
        items: Codebooks, fields and what context the log gives.
    """

    Config = LinearConfig
    examples: ClassVar = {
        "linear": LinearConfig(reads=("length", "recency", "pace", "rate", "item")),
        "linear-on-counts": LinearConfig(reads=("residual", "fields", "item", "week"), half_lives=(5.0,)),
    }
    card = (
        CardLine(
            "the log loss of a weighted sum, with a penalty on the squares of the weights",
            "stated",
            SOURCE,
            "test_weights_are_those_of_logistic_regression",
        ),
        CardLine(
            "columns are context features and counts of the history, standardized",
            "inferred",
            SOURCE,
            "test_the_scale_of_a_column_does_not_matter",
        ),
        CardLine("products of columns, a weight for each item and user", "left out", SOURCE),
    )

    def __init__(self, config: LinearConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(config, backbone, items)
        self.ridge = config.ridge
        self.weight = nn.Parameter(torch.zeros(self.width))
        self.bias = nn.Parameter(torch.zeros(()))

    def logits(self, rows: Tensor) -> Tensor:
        """Weighted sums; (..., F) to (...) float32."""
        return (rows * self.weight).sum(dim=-1) + self.bias

    @torch.no_grad()
    def fit(self, batches: Iterable[Labeled], seed: int) -> float:
        """Finds the weights (see `Fitted`); nothing is drawn."""
        rows, labels, share = self.labeled(batches)
        shift, scale = moments([rows])
        weights, bias = logistic((rows.double() - shift) * scale, labels.double(), self.ridge, share.double())
        self.weight.copy_(weights * scale)
        self.bias.copy_(bias - (weights * scale * shift).sum())
        return log_loss(self.logits(rows.to(self.weight.device)).cpu().double(), labels.double())
