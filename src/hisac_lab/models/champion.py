"""The champion of an earlier day, asked about today's items: the same weights behind a change of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.codebook.votes import Agents
from hisac_lab.config.base import parse
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import CardLine, History, ItemSpace, Kind, UserState

SOURCE = "docs/papers/baselines.md#a-champion-of-an-earlier-day"
OF_ITS_DAY = "a later day has others"
"""Why a model that reads stored instances cannot be asked about another day's items."""


class ChampionConfig(ModelConfig):
    """The champion, as it was promoted; `hisac-lab promote` writes this entry."""

    learns: ClassVar[bool] = False

    kind: Literal["champion"] = Field("champion", description="The champion, as it was promoted")
    digest: str = Field("", description="of the folder champion, its bundle, which `hisac-lab promote` writes too")
    weights: str = Field("", description="digest of its weights and settings, which training reads in that folder")
    model: dict[str, Any] = Field({}, description="its settings, likewise")
    backbone: dict[str, Any] = Field({}, description="its backbone, likewise")
    items: dict[str, Any] = Field({}, description="shapes of what it knows of its items, likewise")


class Champion(Kind, Ranker):
    """A trained ranker that is told today's items by its own numbers.

    It leaves out events on items that it does not know; a candidate that it does not know gets the logit `unknown`,
    whoever asks. Context features of a candidate are today's.

    Args:
        config: What it was built from.
        backbone: Its own.
        items: Today's items, of which only their number and the levels of feedback are read.

    Attributes:
        inner: The champion.
        place: Its number of each of today's items, -1 where it does not know one; (items,) int64.
        level: Its level of each of today's levels of feedback, unknown first; (levels + 1,) int64.
        unknown: Logit of a candidate that it does not know.

    Raises:
        UserError: The settings name no champion.
    """

    Config = ChampionConfig
    card = (
        CardLine(
            "a model is judged on later days as it was learned, without a step",
            "stated",
            SOURCE,
            "test_the_champion_scores_today_as_its_own_weights_would_on_what_they_know",
        ),
        CardLine(
            "it is told items and feedback by its own numbers, and leaves out events on items that it does not know",
            "inferred",
            SOURCE,
            "test_a_champion_scores_as_the_model_that_it_is_whatever_numbers_today_gives_the_items",
        ),
        CardLine(
            "a candidate that it does not know gets one logit, whoever asks: the positive share of the training period",
            "inferred",
            SOURCE,
            "test_the_champion_scores_today_as_its_own_weights_would_on_what_they_know",
        ),
        CardLine("stored instances, whose items are those of another day", "left out", SOURCE),
    )
    place: Tensor
    level: Tensor
    unknown: Tensor

    def __init__(self, config: ChampionConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        from hisac_lab.models.catalog import build, config_of

        if not config.model:
            hint = "leave the entry to `hisac-lab promote`, and train it in the graph"
            raise UserError(SETTINGS, "is the champion's, and there is none", hint, "models.*.kind")
        nn.Module.__init__(self)
        own = parse(BackboneConfig, config.backbone, SETTINGS, "backbone")
        self.inner = build(config_of(config.model), own, ItemSpace.blank(**config.items), seed=0)
        self.backbone, self.long, self.gate, self.feedback = backbone, None, None, None
        self.levels, self.asked = items.feedback, self.inner.asked
        self.user_features = self.inner.user_features
        self.catalog, self.context_columns = len(items.semantic), self.inner.context_columns
        levels = 0 if items.feedback is None else len(items.feedback)
        self.register_buffer("place", torch.full((self.catalog,), -1, dtype=torch.int64))
        self.register_buffer("level", torch.zeros(levels + 1, dtype=torch.int64))
        self.register_buffer("unknown", torch.zeros(()))

    @property
    def sides(self) -> frozenset[str]:
        """Those of the champion, but for agents, which are counted in its own items."""
        return self.inner.sides - {"agents"}

    def table_macs(self, slate: int) -> int:
        """Those of the champion."""
        return self.inner.table_macs(slate)

    def agents(self, history: History) -> Agents | None:
        """Counted in `encode`."""
        return None

    def translated(self, history: History) -> History:
        """Today's history as the champion knows it: what it does not know is left out, what is left stands together."""
        items = self.place[history.items]
        known = history.mask & (items >= 0)
        order = torch.argsort(known.to(torch.int8), dim=1, stable=True)
        mask = known.gather(1, order)
        feedback = self.level[history.feedback] if self.levels is not None else torch.zeros_like(items)
        items, ages, feedback = (
            part.gather(1, order).where(mask, torch.zeros_like(part)) for part in (items, history.ages, feedback)
        )
        return replace(history, items=items, ages=ages, mask=mask, feedback=feedback, agents=None)

    def encode(self, history: History) -> UserState:
        """The champion's state of the events that it knows."""
        return self.inner.encode(self.translated(history))

    def score(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """Its logits of the candidates that it knows, `unknown` of the others; (R, C)."""
        place = self.place[candidates]
        logits = self.inner.score(state, place.clamp_min(0), context)
        return logits.where(place >= 0, self.unknown.to(logits.dtype))
