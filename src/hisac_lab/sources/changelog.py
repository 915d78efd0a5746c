"""GNU ChangeLogs as a log of events: who touched which file on which day, and what was said about it.

The format (GNU Coding Standards, section "Change Logs"): a header line with the date and the author, then paragraphs
that begin with a star, name one or more files, and say what changed. Thirty years of hand-written files keep to it
loosely; what this parser makes of the exceptions is said at each function.

A user is an author, or a group that signed together; users are numbered by their first event, and neither names nor
e-mail addresses leave this module.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DAY_SECONDS = 86_400
TEXT_LIMIT = 120  # characters kept of what was said
COMPONENT_DEPTH = 3  # folders that name the part of the project a file belongs to
LICENSE = (
    "From the ChangeLogs of GCC. Copyright (C) Free Software Foundation, Inc. Copying and distribution of this file, "
    "with or without modification, are permitted in any medium without royalty provided the copyright notice and this "
    "notice are preserved. Changed: parsed into tables, authors numbered, e-mail addresses removed, texts cut."
)

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH = rf"(?:{'|'.join(_MONTHS)})"
_ISO = re.compile(r"\W?(\d{4})[-_](\d\d?)[-_](\d\d?)\b(.*)")
_CLASSIC = re.compile(rf"(?:[A-Za-z]+,?\s+)?(?:(\d\d?)-)?({_MONTH})[a-z]*[-\s]+(\d\d?\b)?.*?\b((?:19|20)\d\d)\b(.*)")
_UNDATED = re.compile(rf"(?:(?:\S*\d\S*|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|{_MONTH})\w*)\s+)+(\D.*@.*)")
_CLOCK = re.compile(r"(?:\s*(?:\d\d?:\d\d(?::\d\d)?(?:\s+(?:[A-Z]{3,4}\b|[-+]\d{4}))?|\d{4}-\d\d-\d\d)(?=\s))+")
_ADDRESS = re.compile(r"<[\w.+%-]+@[\w.-]+>|\([^()]*\)")
_SUBFOLDER = re.compile(r"([A-Za-z][\w+./-]*):(?:\s+(.*))?")
_BULLET = re.compile(r"\s+\*\s+(?=\S)")

_HEAD_ENDS = re.compile(r"[:(<]|(?<=\s)[\[{]")
_BRACES = re.compile(r"([^\s,{}]*)\{([^{}]*)\}((?:\{[^{}]*\}|[^\s,{}])*)")
_LETTERS = re.compile(r"([^\s,\[\]]*\.[^\s,\[\]]*)\[(\w{2,6})\]([^\s,\[\]]*)")
_PATH = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_./+-]*")
_PLAIN = re.compile(
    r"(?:aclocal|BUGS|ChangeLog\S*|configure|COPYING\S*|INSTALL|LICENSE|MAINTAINERS|Makefile\S*|NEWS|README\S*|THANKS"
    r"|TODO|(?:t|x|xm)-\S+)"
)
_EMAIL = re.compile(r"<?[\w.%+!-]+@[\w-][\w.-]*>?|<[^<>@]*\s(?:at|AT)\s[^<>]*>")

_SAME = re.compile(r"(?:likewise|ditto|same|idem)\b", re.IGNORECASE)
_FILE = r"(?:files?|tests?|testcases?|cases?|headers?)"
_END = r"\s*(?:[.,;]|$)"
_ACTIONS = {
    "new": rf"(?:(?:add(?:ed)?\s+)?new(?:\s+(?:\S+\s+){{0,2}}{_FILE})?|added?|created?)(?:{_END}|\s*\()",
    "remove": rf"(?:remove|delete)d?(?:\s+(?:this\s+)?{_FILE})?{_END}",
    "rename": rf"(?:renamed?|moved?)(?:{_END}|\s+(?:(?:this\s+)?{_FILE}\s+)?(?:from|to|into|here)\b)",
}
_PATTERNS = {action: re.compile(pattern, re.IGNORECASE) for action, pattern in _ACTIONS.items()}


class Touch(NamedTuple):
    """One event: an author touched a file.

    Attributes:
        day: Days since 1970.
        author: The author's name, or the names of a group; for numbering only.
        path: The file, from the root of the project.
        action: new, remove, rename or modify.
        text: What was said about it, without e-mail addresses.
    """

    day: int
    author: str
    path: str
    action: str
    text: str


def write_log(changelogs: Iterable[tuple[str, bytes]], out: Path) -> dict[str, int]:
    """Parses ChangeLogs and writes `events.parquet` and `items.parquet`.

    Events stand in time order. The log knows days only: the second of the day counts the day's events (files of
    ChangeLogs by name, their entries oldest first), so that every event has a time of its own. Users and items are
    numbered by their first event. An entry that stands in several ChangeLogs is one entry.

    Args:
        changelogs: Path inside the project, and content, of each ChangeLog.
        out: Where the tables go.

    Returns:
        Numbers of events, users and items.
    """
    contents = sorted(changelogs)
    touches = dict.fromkeys(touch for path, content in contents for touch in parse(path, content))
    log = pd.DataFrame(list(touches), columns=Touch._fields).sort_values("day", kind="stable", ignore_index=True)
    log["timestamp"] = log["day"] * DAY_SECONDS + log.groupby("day").cumcount()
    log["user_id"], authors = pd.factorize(log["author"])
    log["item_id"], paths = pd.factorize(log["path"])
    first = log["day"].loc[~log["item_id"].duplicated()]
    events = {name: pa.array(log[name], pa.int32()) for name in ("user_id", "item_id")}
    events["timestamp"] = pa.array(log["timestamp"], pa.int64())
    events |= {name: pa.array(log[name], pa.string()) for name in ("action", "text")}
    items = {
        "item_id": pa.array(range(len(paths)), pa.int32()),
        "path": pa.array(paths, pa.string()),
        "component": pa.array([component(path) for path in paths], pa.string()),
        "extension": pa.array([PurePosixPath(path).suffix.lstrip(".") for path in paths], pa.string()),
        "first_date": pa.array(first.to_numpy("int32"), pa.int32()).cast(pa.date32()),
    }
    for name, table in (("events", events), ("items", items)):
        pq.write_table(pa.table(table), out / f"{name}.parquet", compression="zstd", compression_level=9)
    return {"events": len(log), "users": len(authors), "items": len(paths)}


def parse(path: str, content: bytes) -> list[Touch]:
    """The events of one ChangeLog, oldest entry first.

    Args:
        path: Its path inside the project; files are named from its folder.
        content: Its bytes: UTF-8, lines that are not are Latin-1.
    """
    folder = path.rpartition("/")[0]
    entries = []
    for day, author, paragraphs in _entries(content):
        touches, action = [], "modify"
        for place, paragraph in paragraphs:
            files, said = split(paragraph)
            text = " ".join(without_addresses(said).split())[:TEXT_LIMIT].rstrip()
            action = action if _SAME.match(said) else action_of(said)
            touches += [Touch(day, author, full_path(folder, place, file), action, text) for file in files]
        entries.append(touches)
    return [touch for touches in reversed(entries) for touch in touches]


def _entries(content: bytes) -> Iterator[tuple[int, str, list[tuple[str, str]]]]:
    """Day, author and paragraphs of each entry, each paragraph with the subfolder it is about.

    A paragraph begins with a star and ends at a blank line, the next star or a signature within it. A line `cp:` at the
    margin says that the entry goes on in that subfolder. A header whose date cannot be read has the date of the entry
    above it.
    """
    day, author, place = None, "", ""
    paragraphs: list[tuple[str, str]] = []
    is_open = False
    for line in map(str.rstrip, _decode(content).split("\n")):
        if line and not line[0].isspace():
            is_open = False
            if heading := header(line):
                if day is not None and paragraphs:
                    yield day, author, paragraphs
                day, author, place, paragraphs = day if heading[0] is None else heading[0], heading[1], "", []
                continue
            subfolder = _SUBFOLDER.fullmatch(line)
            if not subfolder:
                continue
            place, line = subfolder[1], f"\t{subfolder[2] or ''}"
        star = _BULLET.match(line)
        if star:
            paragraphs.append((place, line[star.end() :]))
        elif is_open and line and not ("@" in line and header(line.strip())):
            paragraphs[-1] = (place, f"{paragraphs[-1][1]} {line.strip()}")
            continue
        is_open = bool(star)
    if day is not None and paragraphs:
        yield day, author, paragraphs


def header(line: str) -> tuple[int | None, str] | None:
    """Day since 1970 (None: it cannot be read) and author of a header line; None for any other line.

    Known are `2022-08-19  Name  <address>` and `Fri Aug 19 10:00:00 2022  Name  (address)`.
    """
    if iso := _ISO.match(line):
        year, month, number, rest = int(iso[1]), int(iso[2]), int(iso[3]), iso[4]
    elif (classic := _CLASSIC.match(line)) and (classic[1] or classic[3]):
        year, month, number = int(classic[4]), _MONTHS.index(classic[2]) + 1, int(classic[1] or classic[3])
        rest = classic[5]
    elif undated := _UNDATED.match(line):
        return None, author_of(undated[1])
    else:
        return None
    rest = rest[clock.end() :] if (clock := _CLOCK.match(rest)) else rest
    if not any(sign.isalpha() for sign in rest):
        return None
    try:
        return (date(year, month, number) - date(1970, 1, 1)).days, author_of(rest)
    except ValueError:
        return None, author_of(rest)


def author_of(signature: str) -> str:
    """The author of a header: the signature without well-formed addresses and remarks in parentheses.

    Nothing is guessed: people who signed together are an author of their own, and so is a name beside a broken address.
    """
    name = " ".join(_ADDRESS.sub(" ", signature).split()).strip("\"',;:. ")
    return name or signature.strip()


def split(paragraph: str) -> tuple[list[str], str]:
    """The files a paragraph names, and what it says about them.

    The list of files ends at a colon, a parenthesis, or a bracket that stands alone; `{c,h}` and `[ch]` inside a name
    are written out. A paragraph without any of these is prose, in which only a file at its very beginning counts.
    """
    end = _HEAD_ENDS.search(paragraph)
    head = paragraph[: end.start()] if end else paragraph
    words = [word for word in re.split(r"[,\s]+", _written_out(head)) if word]
    if end:
        return _unique(file for word in words if (file := file_of(word))), paragraph[end.start() :].lstrip(": ")
    files = []
    for word in words:
        if (file := file_of(word)) is None:
            break
        files.append(file)
    said = head.split(maxsplit=len(files))[len(files) :]
    return _unique(files), " ".join(said)


def file_of(word: str) -> str | None:
    """The path a word names, or None: a path has a folder or an extension, or is one of the usual bare names."""
    before, star, _ = word.strip("`'\"").partition("*")
    if star and not before.endswith("/"):
        return None
    path = before.rstrip("/.").lstrip("/")
    if not _PATH.fullmatch(path) or not any(sign.isalpha() for sign in path):
        return None
    return path if star or "/" in before or "." in path or _PLAIN.fullmatch(path) else None


def full_path(folder: str, place: str, path: str) -> str:
    """The path from the project's root of a file that a ChangeLog in `folder` names; the root may be left by no `..`.

    Some authors wrote the whole path: one that begins with `folder`, or with the top folder `gcc`, is one already.
    """
    is_full = path.startswith(f"{folder}/") or (path.startswith("gcc/") and folder.startswith("gcc"))
    full = normpath(path if is_full else f"{folder}/{place}/{path}").lstrip("/")
    while full.startswith("../"):
        full = full[3:]
    return full


def action_of(said: str) -> str:
    """What happened to the file itself: new, remove, rename, else modify; `(function): New.` is a modification."""
    return next((action for action, pattern in _PATTERNS.items() if pattern.match(said)), "modify")


def without_addresses(text: str) -> str:
    """The text with `<email>` for every e-mail address, also for one written `<name at host>`."""
    return _EMAIL.sub("<email>", text) if "@" in text or "<" in text else text


def component(path: str) -> str:
    """The part of the project a file belongs to: its upper folders."""
    return "/".join(path.split("/")[:-1][:COMPONENT_DEPTH]) or "."


def _written_out(head: str) -> str:
    """`a.{c,h}` becomes `a.c a.h`, and so does `a.[ch]`."""
    while "{" in head and (sets := _BRACES.search(head)):
        names = " ".join(f"{sets[1]}{part.strip()}{sets[3]}" for part in sets[2].split(","))
        head = f"{head[: sets.start()]} {names} {head[sets.end() :]}"
    while "[" in head and (letters := _LETTERS.search(head)):
        names = " ".join(f"{letters[1]}{letter}{letters[3]}" for letter in letters[2])
        head = f"{head[: letters.start()]} {names} {head[letters.end() :]}"
    return head


def _unique(files: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(files))


def _decode(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\n".join(_decode_line(line) for line in content.split(b"\n"))
    return unicodedata.normalize("NFC", text)


def _decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
