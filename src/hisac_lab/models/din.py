"""DIN: target attention over raw events (Zhou et al., KDD 2018, section 4.3)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hisac_lab.config.model import USUAL, Attention, AttentionConfig, BackboneConfig, ModelConfig
from hisac_lab.models.contract import (
    SOFT_COUNTS,
    Candidates,
    CardLine,
    Cost,
    History,
    ItemSpace,
    LongBranch,
    UserState,
)
from hisac_lab.ops.activation import unit_scores
from hisac_lab.ops.attention import soft_count


class TargetAttention(nn.Module):
    """DIN's activation unit: a small network on (query, key, query * key) weighs every event.

    Its first layer is linear in the three parts, so the part with the product is one matrix product of
    scaled queries with the keys: the (R, C, L, 3D) tensor is never built.

    Args:
        dim: D.
        hidden: Width H of the unit's hidden layer.
        attention: How events are weighed, and whether the unit tells how much it found.

    Attributes:
        soft_counts: Columns of soft counts behind an answer.
    """

    def __init__(self, dim: int, hidden: int, attention: Attention = USUAL) -> None:
        super().__init__()
        self.weights = attention.weights
        self.soft_counts = int(attention.soft_counts)
        self.query = nn.Linear(dim, hidden)
        self.key = nn.Linear(dim, hidden, bias=False)
        self.product = nn.Parameter(torch.randn(hidden, dim) * dim**-0.5)
        self.out = nn.Parameter(torch.randn(hidden) * hidden**-0.5)

    def forward(self, queries: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Weighted mean, or weighted sum, of the events for each query.

        Args:
            queries: (R, C, D).
            events: (R, L, D).
            mask: (R, L); rows without an event give zeros.

        Returns:
            (R, C, D + `soft_counts`).
        """
        # Both parts that know the event are linear in it: one product of (query * product + key) with the events.
        scaled = queries[:, :, None, :] * self.product + self.key.weight  # (R, C, H, D)
        scores = unit_scores(scaled, self.query(queries), events, self.out)
        scores = scores.masked_fill(~mask[:, None, :], torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) if self.weights == "softmax" else torch.sigmoid(scores)
        answer = torch.bmm((weights * mask[:, None, :]).to(events.dtype), events)
        return torch.cat([answer, soft_count(scores)[..., None]], dim=-1) if self.soft_counts else answer


class DINConfig(AttentionConfig):
    """Target attention over raw events."""

    kind: Literal["din"] = Field("din", description="DIN")
    whole_history: bool = Field(
        True, description="true: a long branch attends to the whole history; false: the short branch alone"
    )
    weights: Literal["softmax", "sigmoid"] = Field(
        "softmax",
        description="of events, in both branches; softmax: they sum to one; sigmoid: each has its own, and they are "
        "summed",
    )

    @model_validator(mode="after")
    def _read(self) -> DINConfig:
        if self.length is not None and not self.whole_history:
            raise ValueError("whole_history: false has no long branch to read so many events: leave one of the two out")
        return self

    @property
    def attention(self) -> Attention:
        """As set, for both branches."""
        return Attention(self.weights, self.soft_counts)


GOLDEN = DINConfig(length=None, whole_history=False, weights="softmax", soft_counts=False)


class DINBranch(LongBranch):
    """DIN on the whole history: its state is the history, its score attends to all of it."""

    Config = DINConfig
    examples: ClassVar = {
        "din-short-only": DINConfig(whole_history=False),
        "din-whole": DINConfig(),
        "din-sigmoid": DINConfig(weights="sigmoid"),
        "din-soft-counts": DINConfig(soft_counts=True),
    }
    golden: ClassVar = {
        "din_50": GOLDEN,
        "din_whole": GOLDEN.model_copy(update={"whole_history": True}),
        "din_sigmoid": GOLDEN.model_copy(update={"whole_history": True, "weights": "sigmoid"}),
        "din_soft_counts": GOLDEN.model_copy(update={"whole_history": True, "soft_counts": True}),
    }
    card = (
        CardLine(
            "activation unit on query, key and their product",
            "stated",
            "docs/papers/baselines.md#din",
            "test_attention_is_factorized",
        ),
        CardLine(
            "a softmax normalizes the weights; the paper sums raw activations",
            "inferred",
            "docs/papers/baselines.md#din",
            "test_attention_rows_sum_to_one",
        ),
        CardLine(
            "events are summed without normalization (switch `weights`)",
            "stated",
            "docs/papers/baselines.md#din",
            "test_sigmoid_weights_sum_the_events",
        ),
        CardLine(
            "a weight in that sum is the sigmoid of the unit's output, between 0 and 1",
            "inferred",
            "docs/papers/baselines.md#din",
            "test_sigmoid_weights_sum_the_events",
        ),
        SOFT_COUNTS,
        CardLine(
            "Dice activation, mini-batch aware regularization, the paper's depth of the activation unit",
            "left out",
            "docs/papers/baselines.md#din",
        ),
    )

    @classmethod
    def make(cls, config: ModelConfig, backbone: BackboneConfig, items: ItemSpace) -> DINBranch | None:
        """The branch, or None where the short branch shall stand alone."""
        assert isinstance(config, DINConfig)
        return cls(config, backbone, items) if config.whole_history else None

    def __init__(self, config: DINConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.attention = TargetAttention(backbone.dim, backbone.attention_hidden, config.attention)
        self.soft_counts = self.attention.soft_counts

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Keeps everything: (R, L, D) and its mask."""
        return {"long_events": events, "long_mask": history.mask}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Target attention over the whole history; (R, C, D + `soft_counts`)."""
        out: Tensor = self.attention(candidates.vectors, state["long_events"], state["long_mask"])
        return out

    def cost(self, history: History) -> Cost:
        """State and score grow with the history."""
        length = history.items.shape[1]
        hidden, dim = self.attention.product.shape
        candidate = hidden * dim * length + dim * hidden + hidden * length + length * dim
        return Cost(length * (4 * dim + 1), 0, 0, candidate)
