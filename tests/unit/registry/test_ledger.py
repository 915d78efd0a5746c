"""The ledger: a chain of digests that only grows, and says where it was broken."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
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
    assert ledger.champions("shop") == []
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


def test_a_line_that_is_no_text_is_named_with_the_byte(ledger: Ledger) -> None:
    one, two, three = ledger.path.read_bytes().splitlines(keepends=True)
    wrong = two.replace(b"new", b"n\xffw")
    ledger.path.write_bytes(one + wrong + three)
    place = wrong.index(b"\xff") + 1
    with says(f"{ledger.path}: line 2: holds a byte that is no UTF-8, its {place}th; restore it from git"):
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
def test_a_last_line_that_was_cut_off_is_named_with_where(ledger: Ledger, left: int) -> None:
    one, two, three = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(one + two + three[:left])
    before = ledger.path.read_bytes()
    for ask in (ledger.entries, lambda: ledger.append(action="begin")):
        with says(f"{ledger.path}: line 3: is cut off after {len(three[:left])} bytes; restore it from git"):
            ask()
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("taken", [0, 1, 100, 10_000])
def test_a_disk_that_fills_up_leaves_no_part_of_a_line(
    ledger: Ledger, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        """Takes so many bytes in all; what is whole it cannot bring to the disk."""

        left = taken

        def write(self, content: Any) -> int:
            part = bytes(content)[: Full.left]
            if not part:
                raise OSError(errno.ENOSPC, "No space left on device")
            Full.left -= len(part)
            return super().write(part)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = ledger.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, **_: Full(path, mode.replace("b", "")))
        patch.setattr("os.fsync", fail)
        with says(f"{ledger.path}: no space left on the device while writing"):
            ledger.append(action="promote", product="shop", model="new", bundle="x")
    assert ledger.path.read_bytes() == before
    ledger.append(action="promote", product="shop", model="new", bundle="x")
    assert len(ledger.entries()) == 4


@pytest.mark.skipif(shutil.which("mount") is None or os.getuid() != 0, reason="only root can mount a file system")
def test_a_ledger_on_a_full_file_system_keeps_what_it_holds(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        ledger = Ledger(disk / "ledger.jsonl")
        with says(f"{ledger.path}: no space left on the device while writing"):
            for _ in range(1000):
                ledger.append(action="refuse", product="shop", model="new", gates=["x" * 1000])
        kept = len(ledger.entries())
        assert 30 < kept < 64
        with says(f"{ledger.path}: no space left"):
            ledger.append(action="refuse", product="shop", model="new", gates=["x" * 9000])
        assert len(ledger.entries()) == kept
        if subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True).returncode == 0:
            with says(f"{ledger.path}: the file system is read-only"), ledger.locked():
                pass
            assert len(ledger.entries()) == kept
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(("number", "what"), [(errno.EACCES, "permission denied"), (errno.EROFS, "read-only")])
def test_a_folder_that_may_only_be_read_costs_one_line(
    ledger: Ledger, number: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, "no", str(path))

    before = ledger.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for ask in (ledger.begin, lambda: ledger.append(action="begin")):
            with says(f"{ledger.path}: ", what):
                ask()
    assert ledger.path.read_bytes() == before


def test_nothing_is_added_to_a_broken_ledger(ledger: Ledger) -> None:
    write(ledger, lines(ledger)[1:])
    before = ledger.path.read_bytes()
    with refused(ledger, 1):
        ledger.append(action="promote", model="new", bundle="x")
    with refused(ledger, 1):
        ledger.champions("shop")
    assert ledger.path.read_bytes() == before


def test_a_last_line_without_its_end_takes_no_other_behind_it(ledger: Ledger) -> None:
    """An editor may leave it so."""
    ledger.path.write_text(ledger.path.read_text().removesuffix("\n"))
    added = ledger.append(action="rollback", model="new")
    assert ledger.entries()[-1] == added
    assert len(lines(ledger)) == 4


def test_promotions_push_a_products_champion_and_rollbacks_pop_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    steps = [
        ("refuse", "shop", "a", []),
        ("promote", "shop", "a", ["a"]),
        ("promote", "other", "x", ["a"]),
        ("promote", "shop", "b", ["a", "b"]),
        ("refuse", "shop", "c", ["a", "b"]),
        ("rollback", "other", "x", ["a", "b"]),
        ("promote", "shop", "a", ["a", "b", "a"]),
        ("rollback", "shop", "a", ["a", "b"]),
        ("rollback", "shop", "b", ["a"]),
        ("rollback", "shop", "a", []),
    ]
    for place, (action, product, bundle, wanted) in enumerate(steps):
        ledger.append(action=action, product=product, model=f"model {place}", bundle=bundle)
        assert ledger.champions("shop") == wanted
    assert ledger.champions("other") == []
    assert ledger.former() == []


def test_lines_from_before_there_was_a_product_decide_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for action, model in (("promote", "one"), ("promote", "two"), ("refuse", "three"), ("rollback", "two")):
        ledger.append(action=action, model=model, bundle="a")
    ledger.append(action="promote", product="shop", model="two", bundle="b")
    assert ledger.champions("shop") == ["b"]
    assert ledger.former() == ["one"]
    assert len(ledger.entries()) == 5


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
        ledger.append(action="promote", product="shop", model="new", bundle="a")
    assert is_free()
    with pytest.raises(ZeroDivisionError), ledger.locked():
        raise ZeroDivisionError
    assert is_free()
    assert ledger.champions("shop") == ["a"]
