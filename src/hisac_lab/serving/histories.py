"""Users' histories from a table of events, a user after the other, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.serving.states import UserHistory
from hisac_lab.tables.read import Block, Column, header, layout_of, read

USER, ITEM, TIME, FEEDBACK = "user", "item", "time", "feedback"


def names_in(path: Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        UserError: It cannot be read.
    """
    return header(path, layout_of(path))


def ids(path: Path, column: str) -> Iterator[str]:
    """One column of ids.

    Raises:
        UserError: There is no such column, or a value is no id.
    """
    for block in _blocks(path, {column: Column(column, "id")}):
        yield from block.columns[column].to_pylist()


def extent(path: Path) -> tuple[int, int]:
    """How many users a table of events has, and the time of its last event, seconds.

    Raises:
        UserError: As `histories`.
    """
    users, last, before = 0, 0, None
    for block in _events(path):
        names, begins = _runs(block)
        users += len(begins) - (names[begins[0]] == before)
        last, before = max(last, int(block.columns[TIME].max())), names[-1]
    return users, last


def histories(path: Path) -> Iterator[tuple[str, UserHistory]]:
    """Each user of a table of events: columns user, item, time (seconds) and perhaps feedback, times in any order.

    Raises:
        UserError: A column is missing, a value is wrong, or the rows of a user do not stand together.
    """
    open_user, parts, done = "", list[tuple[Any, ...]](), set[int]()
    for block in _events(path):
        names, begins = _runs(block)
        for begin, end in zip(begins, [*begins[1:], len(block)], strict=True):
            if names[begin] != open_user:
                if parts:
                    yield open_user, _joined(parts)
                open_user, parts = names[begin], []
                if hash(open_user) in done:
                    raise block.refuse(
                        begin, USER, f"value {open_user!r} stands apart from its rows above", "sort by user"
                    )
                done.add(hash(open_user))
            parts.append(tuple(_column(block, name)[begin:end] for name in (ITEM, TIME, FEEDBACK)))
    if parts:
        yield open_user, _joined(parts)


def _events(path: Path) -> Iterator[Block]:
    columns = {USER: Column(USER, "id"), ITEM: Column(ITEM, "id"), TIME: Column(TIME, "time")}
    return _blocks(path, columns | ({FEEDBACK: Column(FEEDBACK, "text")} if FEEDBACK in names_in(path) else {}))


def _blocks(path: Path, columns: dict[str, Column]) -> Iterator[Block]:
    there = names_in(path)
    for name in columns:
        if name not in there:
            raise UserError(path, f"column is missing (there are: {', '.join(there)})", "name it so", name)
    return read(path, columns, layout_of(path))


def _runs(block: Block) -> tuple[list[str], list[int]]:
    """The user of each row, and where rows of another one begin."""
    names = block.columns[USER].to_pylist()
    codes = block.columns[USER].indices.to_numpy()
    return names, [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()]


def _column(block: Block, name: str) -> Any:
    if name == TIME:
        return block.columns[TIME]
    values = block.columns.get(name)
    return np.full(len(block), None) if values is None else values.to_numpy(zero_copy_only=False)


def _joined(parts: list[tuple[Any, ...]]) -> UserHistory:
    items, times, feedback = (np.concatenate(part) for part in zip(*parts, strict=True))
    order: Array = np.argsort(times, kind="stable")
    told = [value or None for value in feedback[order].tolist()]
    return UserHistory([str(item) for item in items[order]], times[order].tolist(), told)
