"""JSON lines: one flat object a line, read as a row of text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hisac_lab.base.errors import UserError
from hisac_lab.tables.columns import Fault
from hisac_lab.tables.files import JSON_LINES, lines

ROWS = 1 << 16
NAMED = 1_000  # objects whose keys name the columns
HINT = "write one flat JSON object a line, in UTF-8"


def names(path: Path) -> list[str]:
    """The keys of the first objects, in the order they are met.

    Raises:
        UserError: The file cannot be read, or is empty.
    """
    keys: dict[str, None] = {}
    empty = True
    for _, (text,) in islice(lines(path, JSON_LINES), NAMED):
        empty = False
        keys |= dict.fromkeys(_object(text) or ())
    if empty:
        raise UserError(path, "is empty", "give a file of JSON objects, one a line")
    return list(keys)


def tables(
    path: Path,
    wanted: list[str],
    report: Callable[[Fault], None] | None,
    skipped: list[int],
    advice: str = "",
    rows: int = ROWS,
) -> Iterator[pa.Table]:
    """The wanted values as text, a missing key as a missing value.

    Args:
        path: The file.
        wanted: Keys.
        report: Takes what is no object instead of an error.
        skipped: Takes the rows that are left out then.
        advice: What else an error may hint at.
        rows: Rows of a table.

    Raises:
        UserError: A line is no object, or a wanted value is not plain.
    """
    held: list[list[str | None]] = []
    for number, (line, row) in enumerate(lines(path, JSON_LINES)):
        record = _object(JSON_LINES.separator.join(row))
        field, value, what = "", row[0], "is no JSON object"
        if record is not None:
            field = next((name for name in wanted if isinstance(record.get(name), (list, dict))), "")
            value, what = (json.dumps(record[field]), "is no plain value") if field else ("", "")
        if record is None or field:
            fault = Fault(field, np.asarray([number]), (value,), what, HINT)
            if report is None:
                raise UserError(path, fault.say(0), HINT + advice, f"line {line}: {field}" if field else f"line {line}")
            report(fault)
            skipped.append(number)
            continue
        held.append([_text(record.get(name)) for name in wanted])
        if len(held) == rows:
            yield _table(held, wanted)
            held = []
    if held:
        yield _table(held, wanted)


def _object(text: str) -> dict[str, Any] | None:
    try:
        text.encode()
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _table(held: list[list[str | None]], wanted: list[str]) -> pa.Table:
    columns = zip(*held, strict=True)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(wanted, columns, strict=True)})
