"""Features of user and request that every model is told before any candidate, and how features are standardized."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.events.context import PAIR, PRIOR, RATE, REQUEST, SERIES, USER, given
from hisac_lab.events.feedback import UNKNOWN, Levels
from hisac_lab.events.records import ContextFacts
from hisac_lab.events.side_columns import SideColumns
from hisac_lab.models.contract import History

DAY = 86_400
PERIODS = {"day": DAY, "week": 7 * DAY}
CONSTANT = 1e-6
"""Spread below which a feature of the training set is taken for constant."""


class UserFeatures:
    """What is known of user and request, U columns.

    length, log(1 + events); recency, log(1 + days since the newest event); pace, log(1 + events per day since the
    oldest); rate, the smoothed share of positives among the events whose feedback is known, plain and fading; day and
    week, the phase of the request's time as sine and cosine; user and request, the data set's columns of them (see
    `SideColumns`).

    Args:
        names: Features of section `backbone`, those of candidates among them.
        facts: What the log gives.
        levels: Of the feedback that the model reads; None: it reads none.
    """

    def __init__(self, names: Iterable[str], facts: ContextFacts, levels: Levels | None) -> None:
        self.names = tuple(name for name in given(names, facts, levels) if name not in (*SERIES, PAIR))
        self.facts, self.levels = facts, levels

    @property
    def width(self) -> int:
        """U."""
        widths = {RATE: 1 + len(self.facts.half_lives), **dict.fromkeys(PERIODS, 2)}
        widths |= {USER: self.facts.user.width, REQUEST: self.facts.request.width}
        return sum(widths.get(name, 1) for name in self.names)

    def of(self, history: History) -> Tensor:
        """The columns of R requests; (R, U) float32.

        Raises:
            UserError: A feature needs the time or the columns of the request, which are not there.
        """
        count = history.mask.sum(dim=1, keepdim=True).float()
        columns = [count[:, :0]]
        for name in self.names:
            if name in PERIODS:
                if history.time is None:
                    raise UserError(SETTINGS, f"{name!r} needs the time of the request", "leave it out",
                                    "backbone.features")  # fmt: skip
                phase = (history.time % PERIODS[name])[:, None].float() * (2 * math.pi / PERIODS[name])
                columns += [torch.sin(phase), torch.cos(phase)]
            elif name in (USER, REQUEST):
                columns.append(self._told(history, name))
            elif name == "length":
                columns.append(torch.log1p(count))
            elif name == RATE:
                columns += self._rates(history)
            else:
                ages = history.ages * history.mask
                end = ages[:, -1:] if name == "recency" else ages.amax(dim=1, keepdim=True)
                days = end.float() / DAY
                columns.append(torch.log1p(days if name == "recency" else count / (1 + days)))
        return torch.cat(columns, dim=1)

    @property
    def own(self) -> dict[str, SideColumns]:
        """Those of the data set's own columns, by the attribute of `History` that holds them."""
        there = {USER: self.facts.user, REQUEST: self.facts.request}
        return {name: columns for name, columns in there.items() if name in self.names}

    def _told(self, history: History, name: str) -> Tensor:
        columns: Tensor | None = getattr(history, name)
        if columns is None:
            hint = "leave it out, or bring the side input"
            raise UserError(SETTINGS, f"{name!r} needs the columns of the {name}", hint, "backbone.features")
        return columns

    def _rates(self, history: History) -> Iterator[Tensor]:
        """Smoothed share of positives, plain and at each half-life; (R, 1) each."""
        assert self.levels is not None
        known = (history.mask & (history.feedback != UNKNOWN)).float()
        positive, days = known * (history.feedback >= self.levels.positive), history.ages.float() / DAY
        for weight in (torch.ones_like(days), *(torch.exp2(-days / half) for half in self.facts.half_lives)):
            share = (weight * positive).sum(dim=1, keepdim=True) + PRIOR * self.facts.share
            yield share / ((weight * known).sum(dim=1, keepdim=True) + PRIOR)


def moments(rows: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean of each column, and one over its spread: 0 for a constant column, of which nothing can be learned.

    Where such a column varies later, it says nothing, in place of what untrained weights make of it.

    Args:
        rows: (n, F) each.
    """
    table = torch.cat(list(rows)).double().cpu().numpy()
    spread = table.std(axis=0)
    varies = spread > CONSTANT
    scale = varies / np.where(varies, spread, 1.0)
    return torch.from_numpy(table.mean(axis=0)), torch.from_numpy(scale)
