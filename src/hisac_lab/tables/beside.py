"""Looking at the tables beside an own log: those of the items and of the users, against the log and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import counted
from hisac_lab.config.events import ColumnsConfig
from hisac_lab.tables.columns import Column
from hisac_lab.tables.files import ITEM_SUFFIXES, JSON_LINES, kind_of
from hisac_lab.tables.guess import Guess
from hisac_lab.tables.layouts.own import user_table
from hisac_lab.tables.read import read
from hisac_lab.tables.survey import SHOWN, Collector, Problem

if TYPE_CHECKING:
    from hisac_lab.tables.check import Check


def check_items(checked: Check, log: Guess, items: Guess) -> pd.Series[str]:
    """Checks the table of items against the log; its ids in their order."""
    path, name = items.path, log.roles["item"]
    if "item" not in items.roles:
        raise UserError(path, "no column looks like the item", f"call it {name!r}, as in the log", "header")
    if items.roles["item"] != name:
        what = f"the item is called so here and {name!r} in the log"
        raise UserError(path, what, f"call it {name!r} in the header of this table", items.roles["item"])
    _check_form(log, items, name)
    for column, what, hint in items.notes:
        checked.say(path, what, hint, column, stops=False)
    collector, ids = Collector(path, items.layout), pd.Series([], dtype=str)
    wanted = {column: Column(column, "text", optional=True) for column in (*items.text, *items.fields)}
    wanted |= {column: Column(column, "number", optional=True) for column in items.numbers}
    for block in read(path, {"item": Column(name, "id", clean=True), **wanted}, items.layout, collector.report):
        new = block.columns["item"].to_pandas().astype(str)
        good = ~collector.take_bad(block)
        ids = pd.concat([ids, new[good]], ignore_index=True)
        twice = ids.duplicated().to_numpy()[len(ids) - int(good.sum()) :]
        rows = block.positions(np.flatnonzero(good)[twice])
        texts = [f"item {value!r} has two rows in the item table" for value in new[good][twice][:SHOWN]]
        collector.add(rows, name, "has two rows in the item table", "keep one of them", texts)
        if items.text:
            words = [block.columns[column].to_pandas().astype(str).str.strip() for column in items.text]
            silent = np.flatnonzero(good & (pd.concat(words, axis=1) == "").all(axis=1).to_numpy())
            _tell_silent(collector, block.positions(silent), items.text, new[silent][:SHOWN])
    checked.problems += collector.problems()
    missing = sorted(set(checked.survey.items.ids) - set(ids))
    if missing:
        hint = "add it there, or set prepare.unknown_items: drop"
        seen = checked.survey.seen[checked.survey.items.find(missing[:SHOWN])]
        told = [
            f"item {value!r} has no row in {path}, and {counted(int(events), 'event')}"
            for value, events in zip(missing, seen, strict=False)
        ]
        lines = [str(UserError(checked.path, what, hint, name)) for what in told]
        checked.problems.append(Problem(lines, len(missing), setting="unknown_items", hint=hint))
    if not items.text:
        checked.say(path, "no column describes an item in words", "name one in prepare.columns.text", "header")
    return ids


def _check_form(log: Guess, table: Guess, name: str) -> None:
    """Checks that a table beside the log can be read with the log's settings; `name` is its key."""
    path = table.path
    if kind_of(path) not in ITEM_SUFFIXES:
        hint = "rename it to .csv, .tsv or .jsonl, with .gz, .zst or .bz2 behind it when it is compressed"
        raise UserError(path, f"has the suffix {path.suffix!r}", hint)
    both = [guess.layout.separator for guess in (log, table) if guess.layout not in (None, JSON_LINES)]
    if len(set(both)) > 1 and (log.separator or table.separator):
        what = f"its separator is {both[1]!r} and that of the log {both[0]!r}"
        raise UserError(path, what, "write both with one separator")
    if not table.has_header:
        raise UserError(path, "is no header", f"put a line before it that names {name!r} and the rest", "line 1")


def check_users(checked: Check, log: Guess, users: Guess, met: Sequence[str]) -> None:
    """Checks the table of users against the log: users without a row are unknown, which stops no run."""
    path, name = users.path, log.roles["user"]
    if users.roles.get("user") != name:
        raise UserError(path, f"no column is called {name!r}, as the user is in the log", "rename it", "header")
    _check_form(log, users, name)
    columns = {"user": name, "user_fields": users.fields, "user_numbers": users.numbers}
    config = ColumnsConfig.model_validate(columns | {"separator": users.separator, "decimal": log.decimal})
    ids = set(user_table(path, config)["user"])
    missing = sum(user not in ids for user in met)
    if missing:
        checked.say(path, f"has no row for {missing:,} users of the log", "they are unknown to models", stops=False)


def _tell_silent(collector: Collector, rows: Array, columns: Sequence[str], items: pd.Series[str]) -> None:
    """Notes items without a text; `items` are the first of them."""
    texts = [f"item {item!r} has no text" for item in items]
    hint = "give it one; prepare.items_without_text and embed.without_text say what becomes of it"
    collector.add(rows, ", ".join(columns), "item has no text", hint, texts, stops=False)
