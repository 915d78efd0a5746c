"""Tables of events read block by block: text or Parquet, compressed or not, in bounded memory.

A block's values are checked as they come. What is wrong is named by its place in the file: the line of a text file,
the row group of a Parquet file. Finding that place may read the file again; it happens once, before the run stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.tables import jsonlines
from hisac_lab.tables.columns import Column as Column  # noqa: PLC0414 - layouts import it from here
from hisac_lab.tables.columns import Fault
from hisac_lab.tables.convert import Ticks, convert
from hisac_lab.tables.files import COMPRESSION as COMPRESSION  # noqa: PLC0414
from hisac_lab.tables.files import (
    JSON_LINES,
    WORDS,
    broken,
    lines,
    open_parquet,
    open_text,
    place,
    single,
)
from hisac_lab.tables.files import Layout as Layout  # noqa: PLC0414
from hisac_lab.tables.files import layout_of as layout_of  # noqa: PLC0414

BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 1 << 18
SKIPPED_AT_MOST = 10_000  # rows of another number of values that a reader with a `report` puts up with

Report = Callable[[Fault], None]


@dataclass(frozen=True)
class Block:
    """Rows of one file that stand together.

    Attributes:
        path: The file.
        layout: How it is written; None: Parquet.
        row: Position of the first row among the file's rows.
        columns: By role: `id` a dictionary array of text, `text` an array of text, others NumPy arrays.
        names: The file's names of these columns.
        skipped: Rows that a reader with a `report` left out, rising; `row` does not count them.
    """

    path: Path
    layout: Layout | None
    row: int
    columns: dict[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    skipped: Sequence[int] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def positions(self, indices: Array) -> Array:
        """Positions among the file's rows of the rows at `indices` in this block; (n,) int64."""
        kept: Array = self.row + np.asarray(indices)
        before = np.asarray(self.skipped, np.int64) - np.arange(len(self.skipped))  # rows kept before each skipped one
        return kept + np.searchsorted(before, kept, side="right")

    def refuse(self, index: int, field: str, what: str, hint: str) -> UserError:
        """The error for the value of the role or column `field` at `index` in this block."""
        name = self.names.get(field, field)
        return UserError(
            self.path, what, hint, f"{place(self.path, self.layout, int(self.positions(np.asarray(index))))}: {name}"
        )


def read(
    path: Path,
    columns: Mapping[str, Column],
    layout: Layout | None,
    report: Report | None = None,
    *,
    drop: bool = False,
    advice: str = "",
) -> Iterator[Block]:
    """Reads the wanted columns of a file, block by block.

    Args:
        path: The file; `.gz`, `.zst` and `.bz2` are unpacked on the way.
        columns: The wanted columns by role.
        layout: How the text is written; None: Parquet.
        report: Takes what is wrong with single rows instead of an error, rows counted from the file's first; rows of
            another number of values are then left out, other bad values are arbitrary in the blocks.
        drop: With a report: rows with a bad value are left out as well. A column without a good one is an error.
        advice: What else an error about single rows may hint at.

    Raises:
        UserError: One line that names the file, the line or row group, the field, the value and a hint.
    """
    rows = 0
    names = {role: column.name for role, column in columns.items()}
    skipped: list[int] = []
    if layout is None:
        tables = _parquet(path, columns)
    elif layout == JSON_LINES:
        wanted = _present(path, header(path, layout), columns, None)
        tables = jsonlines.tables(path, wanted, report, skipped, advice)
    else:
        tables = _text(path, columns, layout, report, skipped, advice)
    for table in tables:
        if not table.num_rows:
            continue
        values: dict[str, Any] = {}
        block = Block(path, layout, rows, values, names, skipped)
        faults: list[Fault] = []
        ticks: Ticks = {}
        for role, column in columns.items():
            values[role], found = convert(table.column(column.name), column, ticks)
            faults += found
        stopping = [fault for fault in faults if fault.stops]
        if stopping and (report is None or (drop and any(fault.whole for fault in stopping))):
            first = min(stopping, key=lambda fault: (drop and not fault.whole, int(fault.rows[0])))
            hint = first.hint if first.whole else first.hint + advice
            raise block.refuse(int(first.rows[0]), first.field, first.say(0), hint)
        if report is not None:
            for fault in _each_row_once(faults, len(block)) if drop else faults:
                report(replace(fault, rows=block.positions(fault.rows)))
        if drop and stopping:
            block = _without(block, np.concatenate([fault.rows for fault in stopping]), skipped)
        rows += len(block)
        if len(block):
            yield block
    if not rows and not skipped:
        raise UserError(path, "has no rows", "give a file with a header and rows")


def _each_row_once(faults: Sequence[Fault], rows: int) -> Iterator[Fault]:
    """The faults, each row with its first that stops alone."""
    new = np.ones(rows, bool)
    for fault in faults:
        if fault.stops:
            first = fault.rows[new[fault.rows]]
            new[fault.rows] = False
            yield replace(fault, rows=first)
        else:
            yield fault


def _without(block: Block, bad: Array, skipped: list[int]) -> Block:
    """The block without the rows at `bad`, which join those that are `skipped`."""
    good = np.ones(len(block), bool)
    good[bad] = False
    skipped += block.positions(np.flatnonzero(~good)).tolist()
    skipped.sort()
    mask = pa.array(good)
    columns = {
        role: values.filter(mask) if isinstance(values, pa.Array) else values[good]
        for role, values in block.columns.items()
    }
    return replace(block, columns=columns)


def header(path: Path, layout: Layout | None) -> list[str]:
    """Names of a file's columns.

    Raises:
        UserError: The file cannot be read, is empty, or names a column twice.
    """
    if layout is None:
        names = [str(name) for name in open_parquet(path).schema_arrow.names]
    elif layout == JSON_LINES:
        names = jsonlines.names(path)
    elif layout.names is not None:
        names = list(layout.names)
    else:
        names = next((row for _, row in lines(path, layout)), [])
        if not names:
            raise UserError(path, "is empty", "give a file with a header and rows")
    for name in names:
        if names.count(name) > 1:
            raise UserError(path, f"the column {name!r} occurs twice", "rename one of them", "header")
    return names


class _Quotes:
    """A stream that counts the double quotes passing through."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self.stream, self.count, self.closed = stream, 0, False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        self.count += data.count(b'"')
        return data

    def close(self) -> None:
        self.closed = True


def _text(
    path: Path,
    columns: Mapping[str, Column],
    layout: Layout,
    report: Report | None,
    skipped: list[int],
    advice: str,
) -> Iterator[pa.Table]:
    names = header(path, layout)
    wanted = _present(path, names, columns, layout)
    if next(islice(lines(path, layout), layout.names is None, None), None) is None:
        return  # Arrow takes a header without a line end for no header

    found = 0

    def ragged(row: Any) -> str:
        nonlocal found
        if report is None or found == SKIPPED_AT_MOST:
            return "error"
        number, found = row.number - 1 - (layout.names is None), found + 1
        skipped.append(number)
        report(Fault("", np.asarray([number]), (row.text,), *_count_differs(row.actual_columns, len(names))))
        return "skip"

    try:
        with open_text(path, layout) as stream:
            counted = _Quotes(stream)
            reader = pyarrow.csv.open_csv(
                counted,
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=BLOCK_BYTES,
                    column_names=layout.names,
                    encoding=layout.encoding,
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=single(layout),
                    quote_char='"' if layout.quoting else False,
                    newlines_in_values=layout.quoting,
                    invalid_row_handler=ragged,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])
        if layout.quoting and counted.count % 2:  # one of them may be open to the end of the file
            for _ in lines(path, layout):
                pass
    except OSError as error:
        raise broken(path, error) from error
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _explain(path, layout, names, wanted, error, "" if found else advice) from error


def _count_differs(actual: int, expected: int) -> tuple[str, str]:
    what = f"has {actual} values, the header names {expected} columns"
    return what, "fix that line, its quotes or the delimiter"


def _explain(
    path: Path, layout: Layout, names: list[str], wanted: list[str], error: Exception, advice: str
) -> UserError:
    """Finds the first row that is no row of this table."""
    first = None
    for position, (line, row) in enumerate(lines(path, layout)):  # to the end: an open quote explains more
        if first is not None or (position == 0 and layout.names is None):
            continue
        if len(row) != len(names):
            what, hint = _count_differs(len(row), len(names))
            first = UserError(path, f"{single(layout).join(row)[:40]!r} {what}", hint + advice, f"line {line}")
            continue
        for name, value in zip(names, row, strict=True):
            if name in wanted and any("\udc80" <= sign <= "\udcff" for sign in value):
                what = f"value {value[:20].encode(layout.encoding, 'surrogateescape')!r} is not {layout.encoding}"
                first = UserError(path, what, "convert it to UTF-8", f"line {line}: {name}")
    if "straddling" in str(error):
        return UserError(path, f"a row is longer than {BLOCK_BYTES} bytes", "split it, or fix its quotes")
    return first or UserError(path, " ".join(str(error).split()), "fix that line or the delimiter")


def _present(path: Path, names: list[str], columns: Mapping[str, Column], layout: Layout | None) -> list[str]:
    wanted = list(dict.fromkeys(column.name for column in columns.values()))
    for name in wanted:
        if name in names:
            continue
        known = ", ".join(names)
        if layout is not None and len(names) == 1:
            for separator, word in WORDS.items():
                if separator in names[0]:
                    what = f"column is missing: the header {names[0][:60]!r} looks separated by {word}"
                    raise UserError(path, what, "set prepare.columns.separator", name)
        if layout is not None and any(entry.lstrip("-").replace(".", "", 1).isdigit() for entry in names):
            raise UserError(path, f"column is missing: the first line ({known}) is no header", "add one", name)
        raise UserError(path, f"column is missing (there are: {known})", "set it in prepare.columns", name)
    return wanted


def _parquet(path: Path, columns: Mapping[str, Column]) -> Iterator[pa.Table]:
    file = open_parquet(path)
    wanted = _present(path, header(path, None), columns, None)
    group = 0
    try:
        for group in range(file.metadata.num_row_groups):
            for batch in file.iter_batches(BLOCK_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        what = f"cannot be read ({' '.join(str(error).split())[:100]})"
        raise UserError(path, what, "write or fetch it again", f"row group {group}") from error
