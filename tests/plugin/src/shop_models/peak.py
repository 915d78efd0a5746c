"""Max pooling over the latest events."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState


class PeakConfig(ModelConfig):
    """Max pooling over the latest events."""

    kind: Literal["peak"] = Field("peak", description="max pooling")
    window: int = Field(100, ge=1, description="events it looks at")


class PeakBranch(LongBranch):
    """Keeps the largest value of each feature; every candidate sees the same."""

    Config = PeakConfig
    examples: ClassVar = {"peak": PeakConfig(window=5)}
    card = (CardLine("maximum over the latest events", "inferred", "https://example.org/peak", "test_laws"),)
    ordered = True

    def __init__(self, config: PeakConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.window, self.dim = config.window, backbone.dim

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """(R, L, D) to (R, D); no event gives zeros."""
        mask = history.mask[:, -self.window :]
        peak = events[:, -self.window :].masked_fill(~mask[..., None], -1e9).amax(dim=1)
        return {"peak": peak * mask.any(dim=1, keepdim=True)}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """The same vector for each of C candidates; (R, C, D)."""
        return state["peak"][:, None, :].expand_as(candidates.vectors)

    def cost(self, history: History) -> Cost:
        """One vector of D floats, no matrix product."""
        return Cost(4 * self.dim, 0, 0, 0)
