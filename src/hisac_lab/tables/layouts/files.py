"""What the loaders of official layouts share: finding files, choosing the feedback, leaving out rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.convert import convert
from hisac_lab.tables.files import COMPRESSION, open_parquet, place
from hisac_lab.tables.read import Block, Column, Layout, header
from hisac_lab.tables.roles import task_role
from hisac_lab.tables.vocabulary import Vocabulary


def find(folder: Path, name: str) -> Path | None:
    """The file of this name, compressed or not; None: there is none."""
    return next((path for suffix in ("", *COMPRESSION) if (path := folder / f"{name}{suffix}").exists()), None)


def need(folder: Path, name: str) -> Path:
    """The file of this name, compressed or not.

    Raises:
        UserError: There is none.
    """
    path = find(folder, name)
    if path is None:
        raise UserError(folder / name, "does not exist", "add it to what acquire.path names and acquire again")
    return path


def choose(config: PrepareConfig, kinds: tuple[str, ...]) -> str:
    """The feedback that `prepare.feedback` names; the first of `kinds` is the usual one.

    Raises:
        UserError: It names none of them.
    """
    kind = config.feedback or kinds[0]
    if kind not in kinds:
        raise UserError(SETTINGS, f"value {kind!r} is none of {', '.join(kinds)}", "name one", "prepare.feedback")
    return kind


def choose_tasks(config: PrepareConfig, kinds: tuple[str, ...]) -> dict[str, Column]:
    """Columns of the answers that `prepare.tasks` names among reactions of 0 or 1, by role.

    Raises:
        UserError: It names another.
    """
    for name, kind in config.tasks.items():
        if kind not in kinds:
            what = f"value {kind!r} is none of {', '.join(kinds)}"
            raise UserError(SETTINGS, what, "name one", f"prepare.tasks.{name}")
    return {task_role(name): Column(kind, "number", low=0, high=1) for name, kind in config.tasks.items()}


def only(block: Block, mask: Array) -> Block:
    """The rows at `mask`, (n,) bool; the others still count for places in messages."""
    rows = pa.array(np.flatnonzero(mask))
    columns = {
        role: values.take(rows) if isinstance(values, pa.Array) else values[mask]
        for role, values in block.columns.items()
    }
    skipped = block.row + np.flatnonzero(~mask)
    return replace(block, columns=columns, skipped=skipped.tolist())


def ids(words: pa.Array) -> pa.DictionaryArray:
    """Ids as a block has them, from integers or text without missing values."""
    encoded = words.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(pa.string()))


def block_of(
    path: Path, layout: Layout | None, row: int, table: pa.Table | pa.RecordBatch, columns: Mapping[str, Column]
) -> Block:
    """Rows read by other means as a checked block; `row` is the position of the first.

    Raises:
        UserError: A value cannot be used.
    """
    values: dict[str, Any] = {}
    block = Block(path, layout, row, values, {role: column.name for role, column in columns.items()})
    for role, column in columns.items():
        values[role], faults = convert(pa.chunked_array(table.column(column.name)), column)
        if faults:
            first = min(faults, key=lambda fault: int(fault.rows[0]))
            raise block.refuse(int(first.rows[0]), role, first.say(0), first.hint)
    return block


def batches(path: Path, columns: list[str], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of a Parquet file, for columns of lists, with the position of their first row; no value is missing.

    Raises:
        UserError: The file is not whole, has no rows or lacks a column, or a value is missing.
    """
    names = header(path, None)
    for column in columns:
        if column not in names:
            known = ", ".join(names)
            raise UserError(path, f"column is missing (there are: {known})", "fetch the data set again", column)
    row = 0
    try:
        for batch in open_parquet(path).iter_batches(rows, columns=columns, use_threads=False):
            for column in columns:
                check(path, row, batch.column(column).is_null().to_numpy(zero_copy_only=False), column, "is missing")
            yield row, batch
            row += len(batch)
    except (pa.ArrowInvalid, OSError) as error:
        what = f"cannot be read ({' '.join(str(error).split())[:100]})"
        raise UserError(path, what, "fetch it again", f"rows from {row}") from error
    if not row:
        raise UserError(path, "has no rows", "fetch the data set again")


def flat(path: Path, row: int, lists: pa.ListArray, column: str) -> Array:
    """The values of all lists one after the other.

    Raises:
        UserError: One of them is missing.
    """
    values = lists.flatten()
    if values.null_count:
        bad = values.is_null().to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy(zero_copy_only=False))
        check(path, row, np.isin(np.arange(len(lists)), owner[bad]), column, "has a hole")
    numbers: Array = values.to_numpy(zero_copy_only=False)
    return numbers


def check(path: Path, row: int, wrong: Array, column: str, what: str) -> None:
    """Refuses the first value of a Parquet file that is `wrong`; `row` is the position of the first of them."""
    if wrong.any():
        at = place(path, None, row + int(wrong.argmax()))
        raise UserError(path, f"the value {what}", "fetch the data set again", f"{at}: {column}")


def frame_of(blocks: Iterator[Block]) -> pd.DataFrame:
    """All blocks of ids and texts as one table of text."""
    frames = [
        pd.DataFrame({role: values.to_pandas().astype(str) for role, values in block.columns.items()})
        for block in blocks
    ]
    return pd.concat(frames, ignore_index=True)


def first_rows(frames: Iterator[pd.DataFrame]) -> pd.DataFrame:
    """The first row of each item, in the order they are met."""
    seen = Vocabulary()

    def fresh(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[seen.first_met(pa.array(frame["item"].tolist(), pa.string()).dictionary_encode())]

    return pd.concat([fresh(frame) for frame in frames], ignore_index=True)
