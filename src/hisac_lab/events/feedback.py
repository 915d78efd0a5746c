"""The feedback of an event as the number of a level: 1 is the lowest, 0 is unknown (none, or not yet arrived)."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.base.records import Record

UNKNOWN = 0
MOST = 16
"""Different values up to which each is a level of its own."""
VotesFrom = Literal["positives", "all"]
"""Which events vote: all but those known to be negative, or all."""


class Levels(Record):
    """The levels of a log's feedback.

    Attributes:
        begins: Least feedback of each level, rising; the first level has what is below it, too.
        positive: The first level that is positive.
        words: What the words of the log's feedback stand for; None: it is numbers.
    """

    begins: list[float]
    positive: int
    words: dict[str, float] | None = None

    @classmethod
    def cut(cls, values: Array, threshold: float, words: dict[str, float] | None = None) -> Levels:
        """Each value is a level where they are few, else levels hold equal shares; the threshold begins one.

        A value that comes later belongs to the level below it, and to a positive one where it is positive.

        Args:
            values: Feedback of the training period; (n,) float64.
            threshold: The least feedback that is positive.
            words: What the words of the feedback stand for.
        """
        begins = np.unique(values)
        if len(begins) > MOST:
            begins = np.unique(np.sort(values)[np.arange(MOST) * len(values) // MOST])
        negative = begins[begins < threshold]
        begins = np.r_[negative, threshold, begins[len(negative) + 1 :]]
        return cls(begins=begins.tolist(), positive=len(negative) + 1, words=words)

    def __len__(self) -> int:
        return len(self.begins)

    def number(self, value: Any) -> float:
        """The feedback that a value of the log stands for, NaN for None.

        Raises:
            KeyError, TypeError, ValueError: It stands for none.
        """
        if value is None:
            return math.nan
        if self.words is None or not isinstance(value, str):
            return float(value)
        return {word.strip().lower(): number for word, number in self.words.items()}[value.strip().lower()]

    def codes(self, values: Array) -> Array:
        """The level of each feedback, `UNKNOWN` where it is NaN; (...) float64 to (...) uint8."""
        levels = np.searchsorted(self.begins, values, side="right").clip(1)
        codes: Array = np.where(np.isnan(values), UNKNOWN, levels).astype(np.uint8)
        return codes


def first_voting(levels: Levels | None, votes_from: VotesFrom) -> int:
    """The lowest level of feedback whose events vote, beside unknown feedback; 0: all do."""
    return 0 if levels is None or votes_from == "all" else levels.positive
