"""What every loader gives: the way to read a log, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.read import Block

Vectors = Iterator[tuple[list[str], Array]]


@dataclass(frozen=True)
class LogColumn:
    """A column of the events that was known when an exposure was served, such as its position.

    Attributes:
        codes: How many codes it has, whole numbers from 0 on; 0: numbers, NaN where one is not known; None: words, ""
            where one is not known.
        request: Whether it is of the request, known before anything was chosen: every model is told it. Of another
            column only a source of instances is. Such a column has words or numbers.
    """

    codes: int | None = 0
    request: bool = False

    def __post_init__(self) -> None:
        if self.request and self.codes:
            raise ValueError("a column of the request has words or numbers, no codes")


@dataclass(frozen=True)
class RawLog:
    """A log that can be read; nothing has been read yet.

    Attributes:
        blocks: Reads the events anew, in file order. Each block has the roles user and item (`id`), time (`time`) and,
            where the log has them: label (`number`, the feedback), part (int8, one of tables.HISTORY, TRAIN, TEST: the
            published split), random (bool: exposed by a random policy), tick (`tick`, nanoseconds after the time) and
            the `extras` (`number`).
        items: Reads the item table: text columns item, text and one per field, one row per item; None: the items are
            those of the log, each described by its id.
        fields: Names of the categorical columns of the item table.
        numbers: Names of the numeric columns of the item table, NaN where one is not known.
        users: Reads the user table: columns user, user_fields (text) and user_numbers (NaN where one is not known), one
            row per user; None: there is none. A user without a row is unknown.
        user_fields: Names of the categorical columns of the user table.
        user_numbers: Names of its numeric columns.
        vectors: Reads item vectors, some at a time: ids and (n, D) float32; None: the log brings none.
        extras: Further roles of the blocks, kept beside the samples and apart from what models see; among them are
            `roles.task_role(NAME)` for each of `prepare.tasks`, and `roles.WEIGHT`.
        logged: Further columns of the events by name; a block has each as the role `logged_role(NAME)`, `text` where it
            has words, else `number`.
        positive_from: The usual threshold between negative and positive feedback; None: the user says it.
        complete: Whether every item of the log must have a row in the item table; otherwise such an item has the
            text "" and unknown fields.
        window: First second and end of the period the publisher names; events outside are dropped and counted.
        untimed: Whether times are but places in an order, so that a second event of the same user, item and time is no
            fault: it is dropped whatever `prepare.duplicates` says.
        left_out: Rows that the reader has left out, by reason, once all blocks are read.
        cuts: Begin of the validation and of the test period that the publisher names; `prepare.cuts` goes before them.
    """

    blocks: Callable[[], Iterator[Block]]
    items: Callable[[], pd.DataFrame] | None = None
    fields: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    users: Callable[[], pd.DataFrame] | None = None
    user_fields: tuple[str, ...] = ()
    user_numbers: tuple[str, ...] = ()
    vectors: Callable[[], Vectors] | None = None
    extras: tuple[str, ...] = ()
    logged: Mapping[str, LogColumn] = field(default_factory=dict)
    positive_from: float | None = None
    complete: bool = False
    window: tuple[int, int] | None = None
    untimed: bool = False
    cuts: tuple[int, int] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


def refuse_mostly_bad(where: Path, left_out: Mapping[str, int], rows: int) -> None:
    """Refuses a log of which half and more is left out: it is read wrongly.

    Args:
        where: The log.
        left_out: Bad rows by reason.
        rows: How many are good.

    Raises:
        UserError: It is.
    """
    if (bad := sum(left_out.values())) > rows:
        most = max(left_out, key=lambda reason: (left_out[reason], reason))
        what = f"of {bad + rows:,} rows {bad:,} cannot be used, as {left_out[most]:,} where {most}"
        raise UserError(where, what, "fix prepare.columns, or the log")


Loader: TypeAlias = Callable[[Path, PrepareConfig], RawLog]
"""Reads a folder of raw files."""


@dataclass(frozen=True)
class Source:
    """A data set from another distribution.

    Attributes:
        load: Reads its raw files.
        files: Patterns of the official files, which `acquire.path` names in a folder or an archive.
        fetch: Puts the raw files into an empty folder in another way than by `acquire.path`; None: by it.
    """

    load: Loader
    files: tuple[str, ...] = ()
    fetch: Callable[[AcquireConfig, Path], None] | None = None
