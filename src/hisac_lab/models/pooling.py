"""Mean pooling over the whole history: the simplest long branch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from hisac_lab.config.model import BackboneConfig, SequenceConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState


class MeanConfig(SequenceConfig):
    """Mean pooling."""

    kind: Literal["mean"] = Field("mean", description="mean pooling of the whole history")


class MeanBranch(LongBranch):
    """Keeps one vector of the history; every candidate sees the same."""

    Config = MeanConfig
    examples: ClassVar = {
        "mean": MeanConfig(),
    }
    golden: ClassVar = {
        "mean": MeanConfig(length=None),
    }
    card = (
        CardLine(
            "mean of the event representations, without padding",
            "stated",
            "docs/papers/baselines.md#mean-pooling",
            "test_the_mean_is_that_of_real_events",
        ),
        CardLine(
            "every candidate gets the same answer",
            "inferred",
            "docs/papers/baselines.md#mean-pooling",
            "test_pooling_answers_every_candidate_alike",
        ),
        CardLine(
            "the softmax over all items that YouTube DNN trains with",
            "left out",
            "docs/papers/baselines.md#mean-pooling",
        ),
    )

    def __init__(self, config: MeanConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.dim = backbone.dim

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """(R, L, D) to (R, D)."""
        mask = history.mask[..., None]
        return {"mean": (events * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """The same vector for each of C candidates; (R, C, D)."""
        return state["mean"][:, None, :].expand_as(candidates.vectors)

    def cost(self, history: History) -> Cost:
        """One vector, no matrix product."""
        return Cost(4 * self.dim, 0, 0, 0)
