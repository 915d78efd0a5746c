"""Guessing how a table of events or items is written: separator, header, and which column is what.

Names lead (`userId`, `movie_id`, `timestamp_ms`, `is_click`, ...); values decide where no name is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa

from hisac_lab.base.errors import UserError
from hisac_lab.tables import feedback, jsonlines
from hisac_lab.tables.columns import TimeFormat
from hisac_lab.tables.files import JSON_LINES, WORDS, Layout, is_parquet, layout_of, lines, open_parquet
from hisac_lab.tables.looks import (
    decimal_comma,
    fraction,
    is_feedback,
    is_id,
    is_number,
    is_time,
    numeric,
    time_formats,
    truth,
)
from hisac_lab.tables.official import OFFICIAL_COLUMNS, official_name
from hisac_lab.tables.read import header

SAMPLE_ROWS = 2_000
NAMES: dict[str, tuple[str, ...]] = {
    "user": tuple(
        "user userid uid userno userhash visitor visitorid customer customerid member memberid reviewer reviewerid "
        "listener listenerid viewer viewerid reader readerid subscriber subscriberid shopper shopperid buyer buyerid "
        "account accountid player playerid client clientid deviceid person personid who sessionid".split()
    ),
    "item": tuple(
        "item itemid iid movie movieid video videoid photoid parentasin asin product productid sku article articleid "
        "news newsid track trackid song songid book bookid isbn business businessid adid ad poi poiid venueid episode "
        "episodeid podcast podcastid film filmid show showid course courseid post postid artist artistid content "
        "contentid listing listingid anime animeid recipe recipeid game gameid app appid goodsid jokeid docid document "
        "what".split()
    ),
    "time": tuple(
        "timestamp timestampms timestampus ts time timems timesec unixtime unixtimestamp epoch eventtime "
        "datetime clicktime requesttime reviewtime unixreviewtime createdat created when date day t".split()
    ),
    "label": tuple(
        "label click isclick clicked rating ratings ratingvalue stars score overall vote thumb thumbs reaction "
        "feedback like islike liked longview purchase purchased bought isbuy buy converted finished isfinished "
        "completed iscompleted target y".split()
    ),
}
TEXT_NAMES = (
    "title",
    "name",
    "movietitle",
    "itemname",
    "productname",
    "headline",
    "text",
    "description",
    "commentbody",
)
LEVELS = 1_000  # a categorical field has at most so many levels
USUAL_HEADER = {"user": "user_id", "item": "item_id", "time": "timestamp", "label": "rating"}


@dataclass(frozen=True)
class Guess:
    """How a table seems to be written.

    Attributes:
        path: The file.
        layout: As the reader wants it; None: Parquet.
        has_header: Whether the first line names the columns; otherwise they are called `column 1`, `column 2`, ...
        roles: Column of the roles user, item, time and label, those that were found.
        by_value: Roles that were found by their values, since no column has a name that says it.
        time_format: How the times are written.
        decimal: Sign before the fraction of a number.
        label_values: Numbers that the words of the feedback stand for.
        unread: Columns without a role.
        doubts: Of these, columns that look like feedback, and why they are not read.
        notes: What else to say of a column: its name, what, and what the user can do about it.
        official: The data set whose official layout this is.
        text: Item tables only: columns that describe an item in words.
        fields: Item and user tables only: categorical columns.
        numbers: Item and user tables only: numeric columns.
    """

    path: Path
    layout: Layout | None
    has_header: bool
    roles: dict[str, str] = field(default_factory=dict)
    by_value: tuple[str, ...] = ()
    time_format: TimeFormat = "seconds"
    decimal: str = "."
    label_values: dict[str, float] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    doubts: dict[str, str] = field(default_factory=dict)
    notes: tuple[tuple[str, str, str], ...] = ()
    official: str | None = None
    text: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    @property
    def separator(self) -> str | None:
        """What prepare.columns.separator must be for this file; None: what its name promises."""
        promised = layout_of(self.path)
        same = self.layout is None or promised is None or promised.separator == self.layout.separator
        return None if same or self.layout is None else self.layout.separator

    @property
    def missing_header(self) -> str:
        """The line to put in front of a file without a header."""
        of = {column: USUAL_HEADER[role] for role, column in self.roles.items()}
        layout = self.layout or Layout()
        return layout.separator.join(of.get(name, name.replace(" ", "")) for name in layout.names or ())


def guess_log(
    path: Path, beside: Mapping[str, Path | None] | None = None, named: Mapping[str, str] | None = None
) -> Guess:
    """Guesses how a table of events is written.

    Args:
        path: The file.
        beside: Tables of the roles user and item, where there are: each shares its key with the log.
        named: Columns by role that are known and not guessed.

    Raises:
        UserError: The file cannot be read, or has no such column.
    """
    guess, sample = _open(path)
    names, named = list(sample.columns), named or {}
    for role, column in named.items():
        if column not in names:
            what = f"no column is called {column!r}, which is named as the {role}"
            raise UserError(path, what, f"name one of {feedback.listed(names, 12)}", "header")
    official = official_name(path)
    for columns, data_set in OFFICIAL_COLUMNS.items():
        official = data_set if set(columns) <= set(names) else official
    roles = {role: name for role in NAMES if (name := _named(sample, role))}
    roles |= {
        role: key for role, table in (beside or {}).items() if table and (key := _shared(table, names, roles.get(role)))
    }
    roles = {role: name for role, name in roles.items() if name not in named.values()} | dict(named)
    by_value = []
    free = [name for name in names if name not in roles.values()]
    fits = _fits(guess.has_header) if official is None or not guess.has_header else {}
    for role, fit in fits.items():
        fitting = [name for name in free if role not in roles and fit(sample[name])]
        if role in ("user", "item"):  # who and what are many: a column of few values is rather a device or an answer
            fitting.sort(key=lambda name: sample[name].nunique() <= feedback.FEW)
        taken = next(iter(fitting), None)
        if taken is not None:
            roles[role] = taken
            by_value.append(role)
            free.remove(taken)
    label_values, doubts = _feedback(sample, roles.get("label"), free, "label" in named, official is not None)
    roles |= dict(zip(("label",), label_values, strict=False))
    forms = time_formats(sample[roles["time"]]) if "time" in roles else ["seconds"]
    notes: tuple[tuple[str, str, str], ...] = ()
    if len(forms) > 1:
        what = f"can be read as {' and as '.join(map(repr, forms))}"
        notes = ((roles["time"], what, "look which is right, and name it in prepare.columns.time_format"),)
    comma = "label" in roles and decimal_comma(sample[roles["label"]])
    return replace(
        guess,
        roles={role: roles[role] for role in NAMES if role in roles},
        by_value=tuple(by_value),
        time_format=next(iter(forms), "iso"),
        decimal="," if comma else ".",
        label_values=next(iter(label_values.values()), {}),
        unread=tuple(name for name in names if name not in roles.values()),
        doubts=doubts,
        notes=notes,
        official=official,
    )


def _feedback(
    sample: pd.DataFrame, label: str | None, free: list[str], named: bool, official: bool
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """What `_words` says, of the columns `free` or of the one that was named; nothing where it is numbers."""
    if label is not None and named and not is_feedback(sample[label]):
        words = [word for word in sample[label].astype(str).unique() if word.strip()]
        numbers = feedback.rank(words)
        return ({label: numbers}, {}) if numbers else ({}, {label: _unknown(words)})
    if label is not None or official:  # a loader of its own knows its feedback
        return {}, {}
    return _words(sample, free)


def _words(sample: pd.DataFrame, free: list[str]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """The column whose words are feedback, with their numbers; and columns that look so, with why they are not."""
    keys = {_key(name): name for name in reversed(free)}
    named = [keys[key] for key in (*NAMES["label"], *feedback.EVENT_NAMES) if key in keys]
    doubts = {}
    for name in [*named, *(name for name in free if name not in named)]:
        words = [word for word in sample[name].astype(str).unique() if word.strip()]
        if name not in named:
            known = len(words) - len(feedback.unknown(words))
            flag = truth(sample[name]) or set(words) == {"0", "1"}
            if 1 < len(words) <= feedback.FEW and (flag or 2 * known >= len(words)):
                doubts[name] = "its values look like feedback, its name does not"
        elif len(words) > feedback.FEW:
            doubts[name] = "it has too many different words"
        elif len(words) > 1 and numeric(sample[name], 0.5):
            doubts[name] = "its numbers may be codes: name it in prepare.columns.label if more of it is better"
        elif len(words) > 1:
            if numbers := feedback.rank(words):
                return {name: numbers}, {}
            doubts[name] = _unknown(words)
    return {}, doubts


def _unknown(words: Sequence[str]) -> str:
    return f"nobody knows which of {feedback.listed([repr(word) for word in words])} is positive"


def guess_items(path: Path, item: str, met: Sequence[str] = ()) -> Guess:
    """Guesses how a table of items is written.

    Args:
        path: The file.
        item: What the log calls the item.
        met: Items of the log: where no column is called so, the one that holds most of them is the key.

    Raises:
        UserError: The file cannot be read.
    """
    guess, sample = _open(path)
    key = item if item in sample.columns else _holding(sample, met) or _named(sample, "item")
    rest = [name for name in sample.columns if name != key]
    words = [name for name in rest if not numeric(sample[name])]
    text = [name for name in words if _key(name) in TEXT_NAMES]
    distinct = {name: sample[name].astype(str).nunique() for name in rest}
    if not text and words:  # the most telling column
        text = [max(words, key=lambda name: (sample[name].astype(str).str.contains(" ").mean() > 0.5, distinct[name]))]
    few = min(LEVELS, max(len(sample) // 4, 2))
    plain = [name for name in rest if name not in text and not re.search(r"id$|date|time", _key(name))]
    many = {name: distinct[name] for name in plain if numeric(sample[name]) and distinct[name] > feedback.FEW}
    numbers = [name for name in plain if name in many or fraction(sample[name])]
    fields = [name for name in plain if 1 < distinct[name] <= few and name not in numbers]
    hint = "where they are codes, name it in prepare.columns.fields"
    notes = [(name, f"its {many[name]:,} different numbers are taken for a quantity", hint) for name in numbers
             if not fraction(sample[name])]  # fmt: skip
    hint = "where more is more, as of a price, name it in prepare.columns.numbers"
    notes += [(name, f"its {distinct[name]:,} different numbers are taken for codes", hint) for name in fields
              if numeric(sample[name]) and distinct[name] > 2]  # fmt: skip
    roles = {"item": key} if key else {}
    return replace(
        guess, roles=roles, text=tuple(text[:2]), fields=tuple(fields), numbers=tuple(numbers), notes=tuple(notes)
    )


def _holding(sample: pd.DataFrame, met: Sequence[str]) -> str | None:
    """The column more than half of whose different values are among `met`; None: no column."""
    known = set(met)
    ids = {str(name): sample[name].astype(str).drop_duplicates().str.strip() for name in sample.columns}
    shares = {name: values.isin(known).mean() for name, values in ids.items()}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] > 0.5 else None


def guess_users(path: Path, user: str) -> Guess:
    """Guesses how a table of users is written; `user` is what the log calls the user.

    Raises:
        UserError: The file cannot be read.
    """
    guess, sample = _open(path)
    key = user if user in sample.columns else _named(sample, "user")
    rest = [name for name in sample.columns if name != key and not re.search(r"id$|date|time|name$", _key(name))]
    distinct = {name: sample[name].astype(str).nunique() for name in rest}
    numbers = [name for name in rest if numeric(sample[name]) and distinct[name] > 2]
    few = min(LEVELS, max(len(sample) // 4, 2))
    fields = [name for name in rest if name not in numbers and 1 < distinct[name] <= few]
    return replace(guess, roles={"user": key} if key else {}, fields=tuple(fields), numbers=tuple(numbers))


def _open(path: Path) -> tuple[Guess, pd.DataFrame]:
    """Layout, header and the first rows."""
    if is_parquet(path):
        header(path, None)
        batch = next(open_parquet(path).iter_batches(SAMPLE_ROWS), None)
        table = open_parquet(path).schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
        return Guess(path, None, True), table.to_pandas()
    promised = layout_of(path) or Layout()
    if promised == JSON_LINES:
        tables = jsonlines.tables(path, jsonlines.names(path), lambda fault: None, [], rows=SAMPLE_ROWS)
        rows = next(tables, pa.table({}))
        return Guess(path, promised, True), rows.to_pandas().fillna("")
    layout = replace(promised, separator=_separator(path))
    rows = [row for _, row in islice(lines(path, layout), SAMPLE_ROWS)]
    if not rows:
        raise UserError(path, "is empty", "give a file with a header and rows")
    has_header = not any(is_number(value) for value in rows[0])
    names = header(path, layout) if has_header else [f"column {number + 1}" for number in range(len(rows[0]))]
    if not has_header:
        layout = replace(layout, names=tuple(names))
    whole = [row for row in rows[has_header:] if len(row) == len(names)]
    return Guess(path, layout, has_header), pd.DataFrame(whole, columns=names, dtype=str)


def _separator(path: Path) -> str:
    """The separator that cuts the first rows into most columns of one number."""
    uncut = [row[0] for _, row in islice(lines(path, Layout("\x1f", quoting=False)), 50)]
    promised = layout_of(path) or Layout()
    best, most = promised.separator, 1.0
    for separator in (best, *(one for one in WORDS if one != best)):
        if not uncut or separator not in uncut[0]:
            continue
        widths = [len(row) for _, row in islice(lines(path, replace(promised, separator=separator)), 50)]
        columns = widths[0] * sum(width == widths[0] for width in widths) / len(widths)
        if columns > most:
            best, most = separator, columns
    return best


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().split(":")[0])


def _shared(table: Path, names: Sequence[str], named: str | None) -> str | None:
    """The key of a table beside the log: `named` if it has it, else its first column of different ids in `names`.

    A table that cannot be read has none; what is wrong with it is told where it is looked at.
    """
    try:
        _, rows = _open(table)
    except UserError:
        return None
    keys = [name for name in rows.columns if name in names and rows[name].astype(str).is_unique and is_id(rows[name])]
    return named if named in rows.columns else next(iter(keys), None)


def _named(sample: pd.DataFrame, role: str) -> str | None:
    """The column whose name says the role; of several, the first that has such values."""
    keys = {_key(name): name for name in reversed(list(sample.columns))}
    named = [keys[key] for key in NAMES[role] if key in keys]
    says: dict[str, Callable[[pd.Series[str]], bool]] = {
        "time": is_time,
        "label": lambda values: is_feedback(values) and not is_time(values, strictly=True),  # `completed` may be when
    }
    good = [name for name in named if role not in says or says[role](sample[name])]
    return next(iter(good or ([] if role == "label" else named)), None)


def _fits(has_header: bool) -> dict[str, Callable[[pd.Series[str]], bool]]:
    """What the values of a column without a telling name must look like; feedback is only guessed without names."""
    fits: dict[str, Callable[[pd.Series[str]], bool]] = {"time": lambda values: is_time(values, strictly=True)}
    if not has_header:
        fits["label"] = lambda values: numeric(values) and 1 < values.nunique() <= 21
    return fits | {"user": is_id, "item": is_id}
