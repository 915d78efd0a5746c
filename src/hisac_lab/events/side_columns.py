"""Columns that a data set has of its users and of its requests: categories and numbers, as every model reads them.

A category is the columns of its values, one of them 1, the first where the value is not known; a number is one column
on a logarithmic scale, standardized (a request's over what was seen before the validation period), and one that says
where it is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.base.records import Record

MOST = 255
"""Values of a category that are told apart, those seen most; the rest are as unknown ones."""
STEPS = 1 << 10
"""Steps of a logarithm in which moments are counted, in whole numbers, so that no order of summing matters."""
MOST_LOG = 64.0
LARGEST = float(np.finfo(np.float32).max)


class Category(Record):
    """A categorical column; `values` have the codes 1, 2, and so on, and 0 is unknown."""

    name: str
    values: tuple[str, ...]

    def codes(self, words: Iterable[str]) -> Array:
        """Codes of values; (n,) int32."""
        known = {value: code for code, value in enumerate(self.values, start=1)}
        return np.fromiter((known.get(word.strip(), 0) for word in words), np.int32)


class Number(Record):
    """A numeric column, and what standardizes its logarithms."""

    name: str
    shift: float
    scale: float

    @classmethod
    def measured(cls, name: str, blocks: Iterable[Array]) -> Number:
        """Moments of the known values of some blocks."""
        count, total, squares = 0, 0, 0
        for block in blocks:
            steps = np.rint(np.clip(_log(block[~np.isnan(block)]), -MOST_LOG, MOST_LOG) * STEPS).astype(np.int64)
            count, total, squares = count + len(steps), total + int(steps.sum()), squares + int((steps**2).sum())
        mean = total / max(count, 1)
        spread = math.sqrt(max(squares / max(count, 1) - mean**2, 0.0))
        return cls(name=name, shift=round(mean / STEPS, 6), scale=round(STEPS / spread, 6) if spread >= 1 else 0.0)


class SideColumns(Record):
    """The columns that a data set has of one side: of its users, or of its requests.

    Attributes:
        fields: Categorical columns.
        numbers: Numeric columns.
    """

    fields: tuple[Category, ...] = ()
    numbers: tuple[Number, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the data set calls them."""
        return (*(field.name for field in self.fields), *(number.name for number in self.numbers))

    @property
    def width(self) -> int:
        """W, columns as models read them."""
        return sum(1 + len(field.values) for field in self.fields) + 2 * len(self.numbers)

    @property
    def unknown(self) -> Array:
        """A row of values that are not known; (F,) float32."""
        return np.array([0.0] * len(self.fields) + [np.nan] * len(self.numbers), np.float32)

    def expand(self, values: Array) -> Array:
        """As models read them; (n, W) float32.

        Args:
            values: A column for each of `names`: codes, 0 where a value is not known, and numbers, NaN there; (n, F).
        """
        columns = stored(values).astype(np.float64).T
        parts = [np.zeros((len(values), 0))]
        for field, codes in zip(self.fields, columns, strict=False):
            parts.append(np.eye(1 + len(field.values))[codes.astype(np.int64)])
        for number, column in zip(self.numbers, columns[len(self.fields) :], strict=True):
            known = ~np.isnan(column)
            scaled = np.where(known, (_log(column) - number.shift) * number.scale, 0.0)
            parts.append(np.stack([scaled, ~known], axis=1))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def row(self, values: Mapping[str, Any]) -> Array:
        """One row from values by name, those absent or empty unknown; (1, W) float32.

        Raises:
            ValueError: A number is none; its name is the only argument.
        """
        codes = [int(field.codes(_spellings(values.get(field.name))).max(initial=0)) for field in self.fields]
        numbers = [_number(number.name, values.get(number.name)) for number in self.numbers]
        return self.expand(np.array([[*codes, *numbers]], np.float64))


@dataclass(frozen=True)
class SideTable:
    """The values of one side.

    Attributes:
        columns: What they are.
        values: A column for each of their names, codes of the fields before numbers; (n, F) float32.
    """

    columns: SideColumns
    values: Array

    def as_learned(self, learned: SideColumns) -> SideTable:
        """The same values as a model of another day learned them: its codes, 0 of what it never met, and its scales.

        Args:
            learned: Its columns; all are among these.
        """
        words = {field.name: field.values for field in self.columns.fields}
        place = {name: at for at, name in enumerate(self.columns.names)}
        columns = []
        for field in learned.fields:
            codes = np.concatenate([np.zeros(1, np.int32), field.codes(words[field.name])])
            columns.append(codes[self.values[:, place[field.name]].astype(np.int64)])
        columns += [self.values[:, place[number.name]] for number in learned.numbers]
        return SideTable(learned, np.stack(columns, axis=1).astype(np.float32))

    def rows(self, index: Array) -> Array:
        """Columns of the rows at `index`, -1 where nothing is known; (k,) int to (k, W) float32."""
        known = np.asarray(index) >= 0
        values = np.tile(self.columns.unknown, (len(index), 1))
        values[known] = self.values[index[known]]
        return self.columns.expand(values)


def stored(values: Array) -> Array:
    """Values as a store has them, those beyond its numbers as the largest; (...) float32."""
    kept: Array = np.clip(values, -LARGEST, LARGEST).astype(np.float32)
    return kept


def category(name: str, words: Sequence[str], counts: Array) -> Category:
    """The category of values that were seen so often; of those seen equally often the first in their order stay.

    Args:
        name: Of the column.
        words: Its values, some the same but for blanks around them.
        counts: How often each was seen; (n,) int64.
    """
    seen: dict[str, int] = {}
    for word, count in zip(words, counts.tolist(), strict=True):
        seen[word.strip()] = seen.get(word.strip(), 0) + count
    most = sorted((word for word, count in seen.items() if word and count), key=lambda word: (-seen[word], word))
    return Category(name=name, values=tuple(sorted(most[:MOST])))


def _log(values: Array) -> Array:
    logs: Array = np.copysign(np.log1p(np.abs(values)), values)
    return logs


def _spellings(value: Any) -> tuple[str, ...]:
    """A category as tables may have it; a whole number is 3 or 3.0, as it was read there. None of an unknown one."""
    if value is None or (isinstance(value, Real) and not math.isfinite(value)):
        return ()
    if isinstance(value, Real) and not isinstance(value, bool) and value == math.floor(value):
        return str(math.floor(value)), f"{math.floor(value)}.0"
    return (str(value),)


def _number(name: str, value: Any) -> float:
    if value is None or value == "":
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(name) from error
    if math.isinf(number):
        raise ValueError(name)
    return number
