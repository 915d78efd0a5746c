"""Files of tables: what their names promise, how they are opened, and their rows with their lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.base.errors import UserError, explain_os_error

COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"PK\x03\x04": "zip", b"PAR1": "parquet"}
WORDS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", "::": "double colons"}
JSON_SUFFIXES = (".jsonl", ".ndjson")
ATOMIC_SUFFIXES = (".inter", ".item")  # of RecBole: tabs, and the header `name:type`
LOG_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", *JSON_SUFFIXES, ".inter")
ITEM_SUFFIXES = (*LOG_SUFFIXES, ".item")


@dataclass(frozen=True)
class Layout:
    """How a text file is written.

    Attributes:
        separator: Between values; one character, or two as in `::`.
        names: Names of the columns; None: the first line has them.
        quoting: Whether double quotes enclose values (which may then hold separators and line ends).
        encoding: Of the text.
    """

    separator: str = ","
    names: tuple[str, ...] | None = None
    quoting: bool = True
    encoding: str = "utf-8"


JSON_LINES = Layout("\x1e", ("line",), quoting=False)
"""One JSON object a line: its line is its only value as text."""


def named_by(path: Path) -> list[Path]:
    """The files that a setting names: itself, all in a folder but hidden ones, or those that fit a pattern; sorted."""
    star = next((place for place, part in enumerate(path.parts) if "*" in part), None)
    if star is not None:
        return sorted(Path(*path.parts[:star]).glob("/".join(path.parts[star:])))
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))


def log_files(path: Path) -> list[Path]:
    """The files of an own log: those that a setting names, of a folder the tables alone."""
    return logs_in(named_by(path)) if path.is_dir() else named_by(path)


def refuse_pipe(path: Path, field: str | None = None) -> None:
    """Tables are read more than once, and who opens a pipe waits for its other end.

    Raises:
        UserError: The path is there, but neither a file nor a folder.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(path, "is a pipe or a device, not a file", "write what comes out of it to a file", field)


def is_parquet(path: Path) -> bool:
    """Whether the name says Parquet."""
    return path.suffix in (".parquet", ".pq")


def layout_of(path: Path, separator: str | None = None) -> Layout | None:
    """The layout a file's name promises: Parquet, JSON lines, tabs or comma separated; `separator` overrides."""
    if is_parquet(path):
        return None
    if kind_of(path) in JSON_SUFFIXES:
        return JSON_LINES
    if kind_of(path) in ATOMIC_SUFFIXES:
        return Layout(separator or "\t", quoting=False)
    return Layout(separator or ("\t" if ".tsv" in path.suffixes else ","))


def kind_of(path: Path) -> str:
    """The suffix that says what a file is, without that of its compression."""
    return Path(path.name.removesuffix(path.suffix)).suffix if path.suffix in COMPRESSION else path.suffix


def logs_in(files: Iterable[Path]) -> list[Path]:
    """Of the files of a folder, those that make up a log: RecBole's `.inter`, else all tables; none that is hidden."""
    tables = sorted(file for file in files if kind_of(file) in LOG_SUFFIXES and not file.name.startswith("."))
    return [file for file in tables if kind_of(file) == ".inter"] or tables


def lines(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Rows of a text file with the line each begins on: slow, for messages and for `data check`.

    Raises:
        UserError: The file cannot be read to its end, is no text, or a quote in it is not closed.
    """
    begin, ended = 1, False

    def physical() -> Iterator[str]:
        nonlocal ended
        first = text.readline().removeprefix("\ufeff")
        if first[:1] in ("\udcff", "\udcfe") or "\0" in first:
            raise UserError(path, f"is UTF-16 or no text: it begins with {first[:4]!a}", "convert it to UTF-8",
                            "line 1")  # fmt: skip
        yield first
        yield from text
        ended = True

    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quoting else csv.QUOTE_NONE
    hint = "close the quote, or double a quote that belongs to the value"
    try:
        with open_text(path, layout) as stream:
            text = io.TextIOWrapper(stream, encoding=layout.encoding, errors="surrogateescape", newline="")
            reader = csv.reader(physical(), delimiter=single(layout), quoting=quoting)
            for row in reader:
                if ended and row:  # a whole row ends with its line, before the reader asks for another
                    what = f"a quote opens in {','.join(row)[:40]!r} and is never closed"
                    raise UserError(path, what, hint, f"line {begin}")
                if row:
                    yield begin, row
                begin = reader.line_num + 1
    except OSError as error:
        raise broken(path, error) from error
    except csv.Error as error:
        raise UserError(path, f"a quote opens and is not closed for long ({error})", hint, f"line {begin}") from error


def single(layout: Layout) -> str:
    """The one character that separates values as the reader gets them."""
    return "\t" if len(layout.separator) > 1 else layout.separator


def open_text(path: Path, layout: Layout) -> pa.NativeFile:
    """Opens a text file, unpacked.

    Raises:
        UserError: It is no text, or packed in another way than its name says.
    """
    if path.is_dir():
        raise UserError(path, "is a directory", "name a file")
    with path.open("rb") as file:
        begin = file.read(4)
    kind = next((kind for magic, kind in MAGIC.items() if begin.startswith(magic)), "text")
    promised = COMPRESSION.get(path.suffix, "text")
    if kind == "zip":
        raise UserError(path, "is a zip archive", "unpack it, or compress the file as .gz or .zst")
    if begin and kind != promised:
        hint = "give the file the suffix of what it is (.gz, .zst, .bz2, .parquet)"
        raise UserError(path, f"begins with {ascii(begin)[2:-1]}: it is {kind}, not {promised}", hint)
    stream = pa.input_stream(str(path), compression=COMPRESSION.get(path.suffix))
    if len(layout.separator) > 1:
        return pa.BufferReader(stream.read().replace(layout.separator.encode(), b"\t"))
    return stream


def broken(path: Path, error: OSError) -> UserError:
    """The error for a file that cannot be read on."""
    if path.suffix in COMPRESSION and error.errno is None:
        return UserError(path, f"the compressed data are broken or end early ({error})", "fetch or compress it again")
    return explain_os_error(error, path)


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a Parquet file.

    Raises:
        UserError: It cannot be read, or is not whole.
    """
    try:
        if path.is_dir():
            raise UserError(path, "is a directory", "name a file")
        with path.open("rb"):
            pass
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        what = f"is no whole Parquet file ({' '.join(str(error).split())[:100]})"
        raise UserError(path, what, "write or fetch it again") from error
    except OSError as error:
        if error.errno is None:
            what = f"is no whole Parquet file ({' '.join(str(error).split())[:100]})"
            raise UserError(path, what, "write or fetch it again") from error
        raise explain_os_error(error, path) from error


def place(path: Path, layout: Layout | None, row: int) -> str:
    """Where row `row` (from 0, without the header) stands in the file."""
    return places(path, layout, [row])[row]


def places(path: Path, layout: Layout | None, rows: Sequence[int]) -> dict[int, str]:
    """Where each of `rows` stands in the file, found in one go."""
    located = {row: f"row {row}" for row in rows}
    if layout is None:
        metadata = open_parquet(path).metadata
        ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
        for row in located:
            group = int(np.searchsorted(ends, row, side="right"))
            located[row] = f"row group {group}, row {row - (int(ends[group - 1]) if group else 0)}"
        return located
    left = set(rows)
    for position, (line, _) in enumerate(lines(path, layout), start=-(layout.names is None)):
        if position in left:
            located[position] = f"line {line}"
            left.remove(position)
            if not left:
                break
    return located
