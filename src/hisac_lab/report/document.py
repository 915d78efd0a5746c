"""What a report is made of, whatever it is written as: sections of points, notes, tables and figures.

Both templates walk the same blocks, so the HTML page and its Markdown twin cannot differ in a number. Texts are plain;
`backticks` mark code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Whisker:
    """A dot with its interval, on a scale that a whole column shares.

    Attributes:
        value: The dot.
        ends: Of the interval.
        scale: Left and right end of the strip; zero lies within.
        color: Of dot and line.
    """

    value: float
    ends: tuple[float, float]
    scale: tuple[float, float]
    color: str


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it says.
        muted: Said more quietly after it: an interval.
        badge: Color class of a badge around the text: good, bad, mid or plain.
        color: Color of the swatch before the text: a model's.
        strong: Whether the text stands out.
        whisker: Drawn before the text, of numbers that it says.
    """

    text: str
    muted: str = ""
    badge: str = ""
    color: str = ""
    strong: bool = False
    whisker: Whisker | None = None


@dataclass(frozen=True)
class Table:
    """A table; columns named in `words` are set flush left, all others are numbers.

    Attributes:
        look: "board" can be filtered and sorted; "cards" has a card for each row on a phone; else plain.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[str] = frozenset()
    look: Literal["plain", "board", "cards"] = "plain"


@dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
        name: Unique in a report and free of a run's own names; that of its file, without the suffix.
        svg: An <svg> element.
        title: What it shows.
        seen: A sentence on what is to be seen in it, made from the numbers.
        caption: One line on how to read it.
    """

    name: str
    svg: str
    title: str
    seen: str
    caption: str

    def __post_init__(self) -> None:
        if not self.seen.strip():
            raise ValueError(f"the figure {self.name} says nothing of what is to be seen")


@dataclass(frozen=True)
class Figures:
    """Figures side by side.

    Attributes:
        numbers: The tables behind them, where no other table of the report has them.
        wide: Whether a figure takes the whole column.
    """

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]
    numbers: tuple[Table, ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Fold:
    """Tables that only some readers open."""

    kind: ClassVar[str] = "fold"
    title: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Note:
    """A paragraph; a `callout` must not be missed, a `verdict` is the answer."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Points:
    """Short labeled sentences."""

    kind: ClassVar[str] = "points"
    points: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Counts:
    """Single numbers with what they count."""

    kind: ClassVar[str] = "counts"
    counts: tuple[tuple[str, str], ...]


Block = Table | Figures | Fold | Note | Points | Counts
Row = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Section:
    """A section; `key` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...] = field(default=())


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    words: Sequence[str],
    look: Literal["plain", "board", "cards"] = "plain",
) -> Table:
    """A table from cells or plain strings."""
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows)
    return Table(caption, tuple(columns), cells, frozenset(words), look)
