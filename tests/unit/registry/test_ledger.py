"""The ledger: a chain of digests that only grows, and says where it was broken."""

from __future__ import annotations

import fcntl
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kit import says

from hisac_lab.registry.ledger import Entry, Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of three entries."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for at in range(3):
        ledger.append(action="promote", model="new", bundle=f"{at}" * 8)
    return ledger


def lines(ledger: Ledger) -> list[str]:
    return ledger.path.read_text().splitlines()


def write(ledger: Ledger, lines: list[str]) -> None:
    ledger.path.write_text("".join(f"{line}\n" for line in lines))


def digest(entry: Entry) -> str:
    """The digest of an entry, computed apart."""
    rest = {key: entry[key] for key in entry if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def refused(ledger: Ledger, line: int) -> Any:
    """Expects the ledger to be refused at this line."""
    return says(f"{ledger.path}: line {line}: ", "does not follow from the lines before it; restore it from git")


def test_a_ledger_that_is_not_there_has_no_entries_and_no_champions(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.entries() == []
    assert ledger.champions("new") == []
    assert not ledger.path.exists()


def test_each_entry_is_numbered_dated_and_chained_to_the_one_before_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    before = datetime.now(UTC).replace(microsecond=0)
    given = [ledger.append(action="refuse", model="día", gates=[{"holds": False}]) for _ in range(3)]
    assert ledger.entries() == given
    assert [entry["number"] for entry in given] == [1, 2, 3]
    assert [entry["hash"] for entry in given] == [digest(entry) for entry in given]
    assert [entry["previous_hash"] for entry in given] == ["", given[0]["hash"], given[1]["hash"]]
    assert (given[0]["model"], given[0]["gates"]) == ("día", [{"holds": False}])
    assert before <= datetime.fromisoformat(given[0]["time"]) <= datetime.now(UTC)


def test_an_entry_is_added_behind_what_is_there(ledger: Ledger) -> None:
    before = ledger.path.read_bytes()
    ledger.append(action="rollback", model="new")
    assert ledger.path.read_bytes().startswith(before)
    assert len(lines(ledger)) == 4


@pytest.mark.parametrize("line", [1, 2, 3])
@pytest.mark.parametrize("key", ["model", "number", "time", "previous_hash", "hash"])
def test_a_line_with_a_changed_value_is_named(ledger: Ledger, line: int, key: str) -> None:
    changed = lines(ledger)
    entry = json.loads(changed[line - 1])
    changed[line - 1] = json.dumps(entry | {key: f"{entry[key]}0"}, sort_keys=True)
    write(ledger, changed)
    with refused(ledger, line):
        ledger.entries()


@pytest.mark.parametrize("text", ["", "{", "{}", "3", "[]", '"text"', "null", '{"hash": "0"}'])
def test_a_line_that_is_no_entry_is_named(ledger: Ledger, text: str) -> None:
    write(ledger, [*lines(ledger)[:1], text, *lines(ledger)[1:]])
    with refused(ledger, 2):
        ledger.entries()


def test_a_line_that_is_no_text_is_named(ledger: Ledger) -> None:
    one, two, three = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(one + two.replace(b"new", b"n\xffw") + three)
    with refused(ledger, 2):
        ledger.entries()


def test_a_line_that_is_hashed_anew_breaks_the_chain_behind_it(ledger: Ledger) -> None:
    changed = lines(ledger)
    entry = json.loads(changed[0]) | {"model": "other"}
    changed[0] = json.dumps(entry | {"hash": digest(entry)}, sort_keys=True)
    write(ledger, changed)
    with refused(ledger, 2):
        ledger.entries()


@pytest.mark.parametrize(
    ("order", "line"), [((1, 2), 1), ((0, 2), 2), ((1, 0, 2), 1), ((0, 2, 1), 2), ((0, 0, 1, 2), 2), ((0, 1, 2, 2), 4)]
)
def test_a_line_removed_moved_or_repeated_is_named(ledger: Ledger, order: tuple[int, ...], line: int) -> None:
    before = lines(ledger)
    write(ledger, [before[at] for at in order])
    with refused(ledger, line):
        ledger.entries()


@pytest.mark.parametrize("left", [1, 100, -2])
def test_a_last_line_that_was_cut_off_is_named(ledger: Ledger, left: int) -> None:
    one, two, three = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(one + two + three[:left])
    with refused(ledger, 3):
        ledger.entries()


def test_nothing_is_added_to_a_broken_ledger(ledger: Ledger) -> None:
    write(ledger, lines(ledger)[1:])
    before = ledger.path.read_bytes()
    with refused(ledger, 1):
        ledger.append(action="promote", model="new", bundle="x")
    with refused(ledger, 1):
        ledger.champions("new")
    assert ledger.path.read_bytes() == before


def test_a_last_line_without_its_end_takes_no_other_behind_it(ledger: Ledger) -> None:
    """An editor may leave it so."""
    ledger.path.write_text(ledger.path.read_text().removesuffix("\n"))
    added = ledger.append(action="rollback", model="new")
    assert ledger.entries()[-1] == added
    assert len(lines(ledger)) == 4


def test_promotions_push_a_champion_and_rollbacks_pop_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    steps = [
        ("refuse", "new", "a", []),
        ("promote", "new", "a", ["a"]),
        ("promote", "other", "x", ["a"]),
        ("promote", "new", "b", ["a", "b"]),
        ("refuse", "new", "c", ["a", "b"]),
        ("rollback", "other", "x", ["a", "b"]),
        ("promote", "new", "a", ["a", "b", "a"]),
        ("rollback", "new", "a", ["a", "b"]),
        ("rollback", "new", "b", ["a"]),
        ("rollback", "new", "a", []),
    ]
    for action, model, bundle, wanted in steps:
        ledger.append(action=action, model=model, bundle=bundle)
        assert ledger.champions("new") == wanted
    assert ledger.champions("other") == []


def test_one_at_a_time_holds_the_lock_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "reports" / "ledger.jsonl")

    def is_free() -> bool:
        with ledger.path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    with ledger.locked():
        assert not is_free()
        ledger.append(action="promote", model="new", bundle="a")
    assert is_free()
    with pytest.raises(ZeroDivisionError), ledger.locked():
        raise ZeroDivisionError
    assert is_free()
    assert ledger.champions("new") == ["a"]
