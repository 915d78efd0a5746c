"""Context of a request's candidates: what is known of an item, and of this user with it, strictly before the request.

One formula for training, evaluation, A/B test, Python API and serving: they differ in who counts the item's events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.feedback import UNKNOWN, Levels
from hisac_lab.events.records import EXPOSURES, POSITIVES, ContextFacts
from hisac_lab.events.series import DAY, Counter

SERIES = {"item_recency": POSITIVES, "popularity": POSITIVES, "item_rate": EXPOSURES}
"""Features of an item, by the series without which a log cannot give them."""
PAIR, RATE = "pair", "rate"
USER, REQUEST = "user", "request"
"""Columns that the data set has of its users and of its requests."""
PRIOR = 10.0
"""Events at the log's own share of positives that every rate begins with."""


def given(names: Iterable[str], facts: ContextFacts, levels: Levels | None) -> tuple[str, ...]:
    """Those of the features that the data give: item series ask for times, rates for feedback, columns for themselves.

    Args:
        names: Features of section `backbone`.
        facts: What the log gives.
        levels: Of the feedback that the model reads; None: it reads none.
    """
    missing = {name for name, series in SERIES.items() if series not in facts.series}
    missing |= {name for name, columns in ((USER, facts.user), (REQUEST, facts.request)) if not columns.width}
    return tuple(name for name in names if name not in missing and (name != RATE or levels is not None))


def smoothed(positives: Array, shown: Array, share: float) -> Array:
    """Share of positives, drawn to the log's own where little was shown; arrays of one shape."""
    rate: Array = (positives + PRIOR * share) / (shown + PRIOR)
    return rate


@dataclass(frozen=True)
class ContextColumns:
    """The columns of a candidate's context: those of its item, in the order of the features, then those of the pair.

    Attributes:
        features: Those of a candidate, all given by the data.
        facts: What the log gives.
        positive: First positive level of the feedback; None: the model reads none.
    """

    features: tuple[str, ...]
    facts: ContextFacts
    positive: int | None

    @classmethod
    def of(cls, names: Iterable[str], facts: ContextFacts, levels: Levels | None) -> ContextColumns:
        """The columns of those features that are of a candidate and that the data give; see `given`."""
        features = tuple(name for name in given(names, facts, levels) if name in (*SERIES, PAIR))
        return cls(features, facts, None if levels is None else levels.positive)

    @cached_property
    def item_names(self) -> tuple[str, ...]:
        """Names of the columns of an item, I of them."""
        names: list[str] = []
        for feature in self.features:
            if feature == "item_recency":
                names += ["item_days", "item_never"]
            elif feature != PAIR:
                names += [feature, *(f"{feature}_{days:g}d" for days in self.facts.half_lives)]
        return tuple(names)

    @cached_property
    def pair_names(self) -> tuple[str, ...]:
        """Names of the columns of user and item, P of them."""
        if PAIR not in self.features:
            return ()
        kinds = [PAIR] if self.positive is None else [PAIR, "pair_positive", "pair_negative"]
        parts = ["", *(f"_{days:g}d" for days in self.facts.half_lives), "_days", "_never"]
        return tuple(f"{kind}{part}" for kind in kinds for part in parts)

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the item series that they are read of; none where no column is of an item."""
        return self.facts.series if self.item_names else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, F of them."""
        return self.item_names + self.pair_names

    def of_request(
        self, counters: Mapping[str, Counter], history: HistoryArrays, candidates: Array, times: Array
    ) -> Array:
        """All columns of the candidates of R requests; (R, C, F) float32.

        Args:
            counters: What counts the events of items, by series.
            history: R histories.
            candidates: Items; (R, C) int64.
            times: Of the requests, seconds; (R,) int64.
        """
        parts = [self.of_items(counters, candidates, times), self.of_pairs(history, candidates)]
        return np.concatenate(parts, axis=2).astype(np.float32)

    def of_items(self, counters: Mapping[str, Counter], candidates: Array, times: Array) -> Array:
        """Columns of the items, by what lies before the begin of the request's time unit; (R, C, I) float64.

        item_days, log(1 + days since the last positive), beside whether there is none; popularity, log(1 + positives);
        item_rate, positives per exposure, smoothed. The last two also for counts that fade.
        """
        columns = [np.zeros((*candidates.shape, 0))]
        if self.item_names:
            begin = (times // self.facts.unit * self.facts.unit)[:, None]
            liked = counters[POSITIVES].at(candidates, begin)
            positives = np.concatenate([liked.count[..., None], liked.faded], axis=2)
        for feature in self.features:
            if feature == "item_recency":
                columns += _since(liked.age)
            elif feature == "popularity":
                columns.append(np.log1p(positives))
            elif feature == "item_rate":
                shown = counters[EXPOSURES].at(candidates, begin)
                exposures = np.concatenate([shown.count[..., None], shown.faded], axis=2)
                columns.append(smoothed(positives, exposures, self.facts.share))
        return np.concatenate(columns, axis=2)

    def of_pairs(self, history: HistoryArrays, candidates: Array) -> Array:
        """Columns of the history's own events on the candidate: all, positive, negative; (R, C, P) float64.

        log(1 + events), plain and fading, log(1 + days since the newest), and whether there is none. Feedback that is
        unknown is in the first alone.
        """
        shape = candidates.shape
        if not self.pair_names:
            return np.zeros((*shape, 0))
        same = (history.items[:, None, :] == candidates[:, :, None]) & history.mask[:, None, :]
        row, column, event = np.nonzero(same)
        cell, ages = row * shape[1] + column, history.ages[row, event]
        level = np.zeros_like(cell) if history.feedback is None else history.feedback[row, event]
        kinds = [np.ones(len(cell), bool)]
        if self.positive is not None:
            kinds += [level >= self.positive, (level < self.positive) & (level != UNKNOWN)]
        weights = [np.ones(len(cell)), *(np.exp2(-ages / (days * DAY)) for days in self.facts.half_lives)]
        columns = []
        for chosen in kinds:
            sums = [np.bincount(cell[chosen], weight[chosen], candidates.size) for weight in weights]
            columns += [np.log1p(part.reshape(shape))[..., None] for part in sums]
            newest = np.full(candidates.size, -1)
            newest[cell[chosen]] = ages[chosen]  # of events in order of time the last one stays
            columns += _since(newest.reshape(shape))
        return np.concatenate(columns, axis=2)


def _since(age: Array) -> list[Array]:
    """log(1 + days) since something, 0 where it never was, and whether it never was; (R, C) to two (R, C, 1)."""
    never = age < 0
    return [np.log1p(np.where(never, 0, age) / DAY)[..., None], never.astype(np.float64)[..., None]]
