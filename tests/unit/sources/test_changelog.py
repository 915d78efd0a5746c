"""ChangeLogs: headers, paragraphs, files and actions of thirty years of hand-written entries; no name gets out."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from hisac_lab.base.artifacts import sha256_file
from hisac_lab.sources.changelog import (
    action_of,
    author_of,
    component,
    file_of,
    full_path,
    header,
    parse,
    split,
    without_addresses,
    write_log,
)

LOG = """\
2022-08-17  Ada Lovelace  <ada@engine.example>

\tBackported from master:
\t2022-08-04  Ada Lovelace  <ada@engine.example>

\tPR target/1234
\t* config/s390/vector.md (V_HW_FT): New iterator.
\t* config/s390/vx-builtins.md (vsel<mode>): Use V_HW_FT instead
\tof V_HW.

2022-08-17  Charles Babbage  <charles@engine.example>

\t* expr.cc (count): Handle OPAQUE_TYPE.
\t* mill.c: New file.
\t* mill.h: Likewise.

Fri Aug 12 10:00:00 1994  Grace Hopper  (grace@navy.example)

\t* Makefile.in, expr.cc: Update.  Ask grace@navy.example
\tor <grace at navy dot example>.
cp:
\t* decl.c: Remove.

Copyright (C) 2022 Free Software Foundation, Inc.
"""


def _day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def test_a_changelog_becomes_events_oldest_entry_first() -> None:
    ada, babbage, hopper = "Ada Lovelace", "Charles Babbage", "Grace Hopper"
    new, old = _day("2022-08-17"), _day("1994-08-12")
    said = "Update. Ask <email> or <email>."
    assert [tuple(touch) for touch in parse("gcc/ChangeLog", LOG.encode())] == [
        (old, hopper, "gcc/Makefile.in", "modify", said),
        (old, hopper, "gcc/expr.cc", "modify", said),
        (old, hopper, "gcc/cp/decl.c", "remove", "Remove."),
        (new, babbage, "gcc/expr.cc", "modify", "(count): Handle OPAQUE_TYPE."),
        (new, babbage, "gcc/mill.c", "new", "New file."),
        (new, babbage, "gcc/mill.h", "new", "Likewise."),
        (new, ada, "gcc/config/s390/vector.md", "modify", "(V_HW_FT): New iterator."),
        (new, ada, "gcc/config/s390/vx-builtins.md", "modify", "(vsel<mode>): Use V_HW_FT instead of V_HW."),
    ]


@pytest.mark.parametrize(
    ("line", "day", "author"),
    [
        ("2022-08-19  Ada Lovelace  <ada@engine.example>", "2022-08-19", "Ada Lovelace"),
        ("2022-08-19  Release Manager", "2022-08-19", "Release Manager"),
        ("2022-8-9 Ada <a@b.c>", "2022-08-09", "Ada"),
        ("2017_12_27  Ada  <a@b.c>", "2017-12-27", "Ada"),
        ("(2019-11-13  Ada  <a@b.c>", "2019-11-13", "Ada"),
        ("2003-12-01 12:30 -0800  Ada  <a@b.c>", "2003-12-01", "Ada"),
        ("2020-08-05  2020-08-04  Ada  <a@b.c>", "2020-08-05", "Ada"),
        ("Mon Feb  3 15:09:18 1997  Ada  (a@b.c)", "1997-02-03", "Ada"),
        ("Mon Sep 27 19:40:17 CEST 1999\tAda <a@b.c>", "1999-09-27", "Ada"),
        ("Frs Sep 29 13:37:59 MET DST 2000  Ada  <a@b.c>", "2000-09-29", "Ada"),
        ("Sep 20 08:53:10 1992  Ada  (a@b.c)", "1992-09-20", "Ada"),
        ("Sun 24-Sep-2000 11:40:23 BST  Ada  <a@b.c>", "2000-09-24", "Ada"),
        ("017-09-12  Ada  <a@b.c>", None, "Ada"),
        ("2008-06-015  Ada  <a@b.c>", None, "Ada"),
        ("2008-13-01  Ada  <a@b.c>", None, "Ada"),
        ("Thu Oct 31  Ada  <a@b.c>", None, "Ada"),
    ],
)
def test_headers_as_they_were_written(line: str, day: str | None, author: str) -> None:
    assert header(line) == (None if day is None else _day(day), author)


@pytest.mark.parametrize(
    "line",
    [
        "Copyright (C) 2022 Free Software Foundation, Inc.",
        "Local Variables:",
        "cp:",
        "- Fix a typo in March 2003",
        "Changes in 1.2.11 (15 Jan 2017)",
        "Older entries for 2005 can be found in ChangeLog-2005.",
        "2022-08-19",
        "",
    ],
)
def test_other_lines_are_no_headers(line: str) -> None:
    assert header(line) is None


def test_a_header_without_a_readable_date_has_the_date_of_the_entry_above_it() -> None:
    text = "2017-09-13  Ada  <a@b.c>\n\n\t* a.c: X.\n\n017-09-12  Bob  <b@b.c>\n\n\t* b.c: Y.\n"
    day = _day("2017-09-13")
    assert [touch[:3] for touch in parse("ChangeLog", text.encode())] == [(day, "Bob", "b.c"), (day, "Ada", "a.c")]
    assert parse("ChangeLog", b"017-09-12  Bob  <b@b.c>\n\n\t* b.c: Y.\n") == []


@pytest.mark.parametrize(
    ("signature", "author"),
    [
        ("Ada  Lovelace  <ada@engine.example>,", "Ada Lovelace"),
        ('"Ada Lovelace" <ada@engine.example>', "Ada Lovelace"),
        ("Ada Lovelace  (ada at engine)", "Ada Lovelace"),
        ("Ada  <a@b.c>, Bob  <b@b.c>", "Ada , Bob"),
        ("Ada <a@b,c>", "Ada <a@b,c>"),
        ("  <a@b.c>", "<a@b.c>"),
    ],
)
def test_the_author_is_the_signature_without_addresses(signature: str, author: str) -> None:
    assert author_of(signature) == author


@pytest.mark.parametrize(
    ("paragraph", "files", "said"),
    [
        ("a.c: New.", ["a.c"], "New."),
        ("a.c (f): New.", ["a.c"], "(f): New."),
        ("a.c [X]: New.", ["a.c"], "[X]: New."),
        ("a.c, cp/b.c,d.h: New.", ["a.c", "cp/b.c", "d.h"], "New."),
        ("a.c, a.c: New.", ["a.c"], "New."),
        ("a.{c,h}: New.", ["a.c", "a.h"], "New."),
        ("{a, b}.c: New.", ["a.c", "b.c"], "New."),
        ("x{a,b}{1,2}.c: New.", ["xa1.c", "xa2.c", "xb1.c", "xb2.c"], "New."),
        ("a.ad[bs]: New.", ["a.adb", "a.ads"], "New."),
        ("Makefile.in and a.c: New.", ["Makefile.in", "a.c"], "New."),
        ("a.c New test.", ["a.c"], "New test."),
        ("GCC 12.2.0 released.", [], "GCC 12.2.0 released."),
        ("Merge from mainline, see a.c.", [], "Merge from mainline, see a.c."),
        ("doc/html/*: Regenerate.", ["doc/html"], "Regenerate."),
        ("*.c: Regenerate.", [], "Regenerate."),
        ("testsuite/: New folder.", ["testsuite"], "New folder."),
        (": New.", [], "New."),
    ],
)
def test_a_paragraph_is_files_and_what_is_said(paragraph: str, files: list[str], said: str) -> None:
    assert split(paragraph) == (files, said)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("a.c", "a.c"),
        ("`a.c'", "a.c"),
        ("/config/a.c", "config/a.c"),
        ("configure", "configure"),
        ("ChangeLog-2005", "ChangeLog-2005"),
        ("t-linux", "t-linux"),
        (".gitignore", ".gitignore"),
        ("c++tools/x", "c++tools/x"),
        ("released.", None),
        ("12.2.0", None),
        ("all", None),
        ("-fno.x", None),
        ("a@b.c", None),
        ("f*.c", None),
        ("...", None),
    ],
)
def test_a_word_is_a_path_when_it_looks_like_one(word: str, path: str | None) -> None:
    assert file_of(word) == path


@pytest.mark.parametrize(
    ("folder", "place", "path", "full"),
    [
        ("", "", "a.c", "a.c"),
        ("gcc", "", "a.c", "gcc/a.c"),
        ("gcc", "cp", "a.c", "gcc/cp/a.c"),
        ("gcc", "", "gcc/a.c", "gcc/a.c"),
        ("gcc/cp", "", "gcc/a.c", "gcc/a.c"),
        ("libgcc", "", "libgcc/a.c", "libgcc/a.c"),
        ("libiberty", "", "../include/a.h", "include/a.h"),
        ("gcc", "", "../../../a.h", "a.h"),
        ("gcc", "", "./x//a.h", "gcc/x/a.h"),
    ],
)
def test_paths_count_from_the_root(folder: str, place: str, path: str, full: str) -> None:
    assert full_path(folder, place, path) == full


@pytest.mark.parametrize(
    ("said", "action"),
    [
        ("New.", "new"),
        ("New test case.", "new"),
        ("New file (GPL v 2).", "new"),
        ("Add new file.", "new"),
        ("Added.", "new"),
        ("New version from elsewhere.", "modify"),
        ("(f): New.", "modify"),
        ("Add a test.", "modify"),
        ("Remove.", "remove"),
        ("Delete this file.", "remove"),
        ("Remove the prototype.", "modify"),
        ("Move to...", "rename"),
        ("Renamed from a.c.", "rename"),
        ("Move the loop.", "modify"),
        ("", "modify"),
    ],
)
def test_the_action_is_that_on_the_file(said: str, action: str) -> None:
    assert action_of(said) == action


def test_likewise_repeats_the_action_within_an_entry_only() -> None:
    text = (
        "2022-01-02  A  <a@b.c>\n\n\t* c.c: Likewise.\n\n2022-01-01  A  <a@b.c>\n\n\t* a.c: Remove.\n\t* b.c: Ditto.\n"
    )
    assert [touch.action for touch in parse("ChangeLog", text.encode())] == ["remove", "remove", "modify"]


@pytest.mark.parametrize("path", ["a.c", "gcc/a.c", "gcc/config/i386/i386.c", "gcc/testsuite/gcc.dg/vect/a.c"])
def test_the_component_is_the_upper_folders(path: str) -> None:
    expected = {1: ".", 2: "gcc", 4: "gcc/config/i386", 5: "gcc/testsuite/gcc.dg"}
    assert component(path) == expected[path.count("/") + 1]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("from Ada <ada@engine.example>.", "from Ada <email>."),
        ("ada@engine.example: x", "<email>: x"),
        ("see <ada at engine dot example>", "see <email>"),
        ("ada%x@host", "<email>"),
        ("use @var{x} and a < b", "use @var{x} and a < b"),
    ],
)
def test_addresses_are_struck_out(text: str, clean: str) -> None:
    assert without_addresses(text) == clean


def test_a_signature_inside_an_entry_ends_the_paragraph() -> None:
    text = "2001-03-11  A  <a@b.c>\n\n\t* a.c: X.\n\t2001-03-10  Bob Smith  <b@b.c>\n\t* b.c: Y.\n"
    assert [(touch.path, touch.text) for touch in parse("ChangeLog", text.encode())] == [("a.c", "X."), ("b.c", "Y.")]


def test_lines_that_are_not_utf8_are_latin1() -> None:
    text = "2001-03-11  Jörn  <a@b.c>\n\n\t* a.c: X.\n".encode("latin-1") + "2001-03-10  Zoë  <z@b.c>\n".encode()
    assert [touch.author for touch in parse("ChangeLog", text + b"\n\t* b.c: Y.\n")] == ["Zoë", "Jörn"]


@pytest.fixture
def tables(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events and items of two ChangeLogs that share an entry."""
    shared = LOG[LOG.index("Fri Aug") :]
    counts = write_log([("gcc/ChangeLog.old", shared.encode()), ("gcc/ChangeLog", LOG.encode())], tmp_path)
    events, items = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("events", "items"))
    assert counts == {"events": len(events), "users": events["user_id"].nunique(), "items": len(items)}
    return events, items


def test_tables_number_users_and_items_by_first_event_and_count_the_second_of_the_day(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    events, items = tables
    old, new = _day("1994-08-12") * 86_400, _day("2022-08-17") * 86_400
    assert events["timestamp"].tolist() == [*range(old, old + 3), *range(new, new + 5)]
    assert events["user_id"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert events["item_id"].tolist() == [0, 1, 2, 1, 3, 4, 5, 6]
    assert items["item_id"].tolist() == list(range(7))
    assert items["path"].tolist()[:3] == ["gcc/Makefile.in", "gcc/expr.cc", "gcc/cp/decl.c"]
    assert items["component"].tolist()[:3] == ["gcc", "gcc", "gcc/cp"]
    assert items["extension"].tolist()[:3] == ["in", "cc", "c"]
    assert [str(day) for day in items["first_date"]] == ["1994-08-12"] * 3 + ["2022-08-17"] * 4


def test_no_name_and_no_address_is_written(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    everything = " ".join(table.to_csv() for table in tables)
    assert not re.search(r"\w@\w", everything)
    assert not re.search(r"\bat\b.*\bdot\b", everything)
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for name in ("Lovelace", "Babbage", "Hopper"):
        assert name not in everything
        assert name.encode() not in raw


def test_the_bytes_do_not_depend_on_the_order_of_the_changelogs(tmp_path: Path) -> None:
    logs = [("gcc/ChangeLog", LOG.encode()), ("gcc/cp/ChangeLog", LOG.encode())]
    digests = []
    for number, order in enumerate((logs, logs[::-1])):
        (tmp_path / str(number)).mkdir()
        write_log(order, tmp_path / str(number))
        digests.append([sha256_file(path) for path in sorted((tmp_path / str(number)).iterdir())])
    assert digests[0] == digests[1]


def test_a_text_is_cut(tmp_path: Path) -> None:
    text = f"2001-03-11  A  <a@b.c>\n\n\t* a.c: {'word ' * 60}.\n"
    assert len(parse("ChangeLog", text.encode())[0].text) == 119
