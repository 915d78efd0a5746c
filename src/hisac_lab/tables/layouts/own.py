"""An own log: CSV, TSV or Parquet, one file or many, with the names of its columns in `prepare.columns`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.errors import SETTINGS, UserError, explain_os_error
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.tables.columns import DROP_ROWS, Fault, logged_role
from hisac_lab.tables.layouts.contract import LogColumn, RawLog, Vectors, refuse_mostly_bad
from hisac_lab.tables.read import Block, Column, layout_of, read
from hisac_lab.tables.roles import WEIGHT, task_role
from hisac_lab.tables.vocabulary import Vocabulary

ROWS = 1 << 16  # of a table or of vectors at once


def own(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `events/*`, and `items.*`, `users.*` and `vectors.npy` when they are there."""
    names = config.columns
    home = folder / "events"
    paths = sorted(home.iterdir()) if home.is_dir() else []
    tables, people = sorted(folder.glob("items.*")), sorted(folder.glob("users.*"))
    vectors = folder / "vectors.npy"
    answers = answer_columns(config)

    left_out = Counter[str]()

    def blocks() -> Iterator[Block]:
        left_out.clear()
        for path in paths:
            yield from _rows(path, event_columns(names) | answers, config, left_out)

    if not paths:
        raise UserError(home, "holds no files", "name the log in acquire.path")
    if vectors.exists() and not tables:
        raise UserError(SETTINGS, "vectors without an item table have no names", "name the table whose rows they "
                        "follow", "acquire.items_path")  # fmt: skip
    if (names.user_fields or names.user_numbers) and not people:
        first = (*names.user_fields, *names.user_numbers)[0]
        what = f"{first!r} is a column of a user table, and there is none"
        raise UserError(SETTINGS, what, "name the table in acquire.users_path", "prepare.columns.user_fields")
    return RawLog(
        blocks,
        users=(lambda: user_table(people[0], names)) if people else None,
        user_fields=names.user_fields,
        user_numbers=names.user_numbers,
        logged={name: LogColumn(None, request=True) for name in names.request_fields}
        | {name: LogColumn(request=True) for name in names.request_numbers},
        items=(lambda: item_table(tables[0], names)) if tables else None,
        fields=names.fields if tables else (),
        numbers=names.numbers if tables else (),
        extras=tuple(answers),
        vectors=(lambda: read_vectors(vectors, item_ids(tables[0], names))) if vectors.exists() else None,
        complete=True,
        left_out=left_out,
    )


def _rows(path: Path, columns: Mapping[str, Column], config: PrepareConfig, left_out: Counter[str]) -> Iterator[Block]:
    """The rows of a file; those that are left out are counted by reason."""

    def count(fault: Fault) -> None:
        if fault.stops:
            left_out[f"{fault.field} {fault.what}".lstrip()] += len(fault.rows)

    layout, drop = layout_of(path, config.columns.separator), config.bad_rows == "drop"
    return read(path, columns, layout, count if drop else None, drop=drop, advice=DROP_ROWS)


def first_rows(paths: Iterable[Path], items: Path | None, config: PrepareConfig) -> None:
    """Reads the first rows of each file of a log and of its item table, as a run would.

    Raises:
        UserError: A run would stop at it: a column that `prepare.columns` names is missing, or a value is bad.
    """
    names, columns = config.columns, event_columns(config.columns) | answer_columns(config)
    for path in paths:
        bad = Counter[str]()
        first = next(_rows(path, columns, config, bad), ())
        refuse_mostly_bad(path, bad, len(first))
    if items is not None:
        wanted = _table_columns("item", names.item, (*names.text, *names.fields), names.numbers, names)
        next(read(items, wanted, layout_of(items, names.separator)), None)


def event_columns(names: ColumnsConfig) -> dict[str, Column]:
    """The wanted columns of the events by role."""
    columns = {
        "user": Column(names.user, "id", clean=True),
        "item": Column(names.item, "id", clean=True),
        "time": Column(names.time, "time", names.time_format, decimal=names.decimal),
        "tick": Column(names.time, "tick", names.time_format, decimal=names.decimal),
    }
    if names.label is not None:
        low, high = names.label_range or (None, None)
        columns["label"] = Column(
            names.label, "number", low=low, high=high, decimal=names.decimal, levels=names.label_values, truth=True
        )
    columns |= {logged_role(name): Column(name, "text", optional=True) for name in names.request_fields}
    return columns | {
        logged_role(name): Column(name, "number", optional=True, decimal=names.decimal, truth=True)
        for name in names.request_numbers
    }


def answer_columns(config: PrepareConfig) -> dict[str, Column]:
    """Further answers of an exposure and its weight in training, by role."""
    decimal = config.columns.decimal
    columns = {
        task_role(name): Column(column, "number", low=0, high=1, optional=True, decimal=decimal, truth=True)
        for name, column in config.tasks.items()
    }
    if config.weight is not None:
        columns[WEIGHT] = Column(config.weight, "number", low=0, decimal=decimal)
    return columns


def user_table(path: Path, names: ColumnsConfig) -> pd.DataFrame:
    """The user table with the columns user, the fields and the numbers."""
    table = _keyed(path, "user", names.user, names.user_fields, names.user_numbers, names)
    return table.rename(columns={_number_role(name): name for name in names.user_numbers})


def item_table(path: Path, names: ColumnsConfig) -> pd.DataFrame:
    """The item table with the columns item, text, the fields and the numbers."""
    table = _keyed(path, "item", names.item, (*names.text, *names.fields), names.numbers, names)
    items = pd.DataFrame({"item": table["item"], "text": _joined(table[list(names.text)])})
    for name in names.fields:
        items[name] = table[name]
    for name in names.numbers:
        items[name] = table[_number_role(name)]
    return items


def item_ids(path: Path, names: ColumnsConfig) -> pd.Series[str]:
    """The ids of the item table alone."""
    return _keyed(path, "item", names.item, (), (), names)["item"]


def _joined(texts: pd.DataFrame) -> pd.Series[str]:
    """The texts of each row as one, empty ones left out."""
    blocks = [pd.Series(dtype=str)]
    for start in range(0, len(texts), ROWS):
        rows = texts.iloc[start : start + ROWS].to_numpy()
        blocks.append(pd.Series([". ".join(part for part in row if part.strip()) for row in rows], dtype=str))
    return pd.concat(blocks, ignore_index=True)


def _number_role(name: str) -> str:
    """A number's role in a table, whose texts may be read of the same column."""
    return f"number {name}"


def _table_columns(
    key: str, column: str, texts: Sequence[str], numbers: Sequence[str], names: ColumnsConfig
) -> dict[str, Column]:
    """The wanted columns of a table by role."""
    wanted = {key: Column(column, "id", clean=True)} | {name: Column(name, "text", optional=True) for name in texts}
    return wanted | {
        _number_role(name): Column(name, "number", optional=True, decimal=names.decimal) for name in numbers
    }


def _keyed(
    path: Path, key: str, column: str, texts: Sequence[str], numbers: Sequence[str], names: ColumnsConfig
) -> pd.DataFrame:
    """A table with one row per `key`, whose column is called `column`."""
    wanted = _table_columns(key, column, texts, numbers, names)
    numeric, frames, seen = {_number_role(name) for name in numbers}, list[pd.DataFrame](), Vocabulary()
    for block in read(path, wanted, layout_of(path, names.separator)):
        words = {role: values.to_pandas().astype(str) for role, values in block.columns.items() if role not in numeric}
        frame = pd.DataFrame(words | {role: block.columns[role] for role in numeric})
        once = seen.first_met(block.columns[key])
        if not once.all():
            first = int(once.argmin())
            what = f"{key} {frame[key][first]!r} has two rows in the {key} table"
            raise block.refuse(first, key, what, "keep one of them")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def read_vectors(path: Path, ids: pd.Series[str]) -> Vectors:
    """Item vectors of a `.npy` file, (items, width) numbers in the order of the item table `ids`.

    Raises:
        UserError: The file is broken, or its shape, type or a value cannot be used.
    """
    hint = "write one row of numbers per row of the item table, with numpy.save"
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        what = f"is no whole .npy file of numbers ({' '.join(str(error).split())[:80]})"
        raise UserError(path, what, hint) from error
    except OSError as error:
        raise explain_os_error(error, path) from error
    if not isinstance(vectors, np.ndarray):
        raise UserError(path, "is an archive of arrays (.npz)", hint)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1]:
        raise UserError(path, f"has shape {vectors.shape} and type {vectors.dtype}", hint, "shape")
    if len(vectors) != len(ids):
        what = f"has {len(vectors)} rows, the item table has {len(ids)}"
        raise UserError(path, what, "give one vector per row of the item table", "rows")
    for begin in range(0, len(vectors), ROWS):
        block = np.asarray(vectors[begin : begin + ROWS], np.float32)
        finite = np.isfinite(block)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            what = f"item {ids.iloc[begin + row]!r} has the value {block[row, column]}"
            raise UserError(path, what, "fix the vector of that item", f"row {begin + row}, column {column}")
        yield ids.iloc[begin : begin + ROWS].tolist(), block
