"""The ledger of promotions: append-only, each line chained to the one before it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.registry.origin import Origin

Entry = dict[str, Any]
DECISIONS = ("promote", "rollback")
"""Actions that move a champion."""
UNCHAINED = "does not follow from the lines before it"


class Ledger:
    """A file of JSON lines: refusals, promotions and rollbacks.

    It is the truth about champions; the aliases in the registry mirror it and can be rebuilt from it. Its first line is
    the project's identity, which every clone that holds the ledger shares: a ledger begins with a line drawn at random;
    one made before such lines has the entry that it begins with. Lines from before there was a product, when each model
    had a champion of its own, stand in the chain and decide nothing.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One promotion or rollback at a time; the lock ends with the process, however it ends.

        Raises:
            UserError: The file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = self.path.open("a")
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def entries(self) -> list[Entry]:
        """All entries, oldest first.

        Raises:
            UserError: The file cannot be read, or a line was changed, removed before others, or cut off.
        """
        entries: list[Entry] = []
        for number, line in enumerate(self._read().splitlines(keepends=True), 1):
            if fault := _fault(line, entries):
                raise UserError(self.path, fault, "restore it from git", f"line {number}")
            entries.append(json.loads(line))
        return entries

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def project(self) -> str | None:
        """The project's identity, the hash of the first line; None where there is no ledger yet."""
        entries = self.entries()
        return str(entries[0]["hash"]) if entries else None

    def begin(self) -> str:
        """The project's identity; a ledger that is not there yet is begun."""
        with self.locked():
            return self.project() or str(self.append(action="begin", drawn=secrets.token_hex(16))["hash"])

    def append(self, **facts: Any) -> Entry:
        """Adds one entry and waits until the disk has it.

        Raises:
            UserError: The ledger is broken, or the disk does not take the whole line: nothing of it is left.
        """
        entries = self.entries()
        entry = {
            "number": len(entries) + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
            "previous_hash": _last_hash(entries),
        }
        entry["hash"] = _hash(entry)
        before = self._read()
        endless = bool(before) and not before.endswith(b"\n")  # as an editor may leave the last line
        line = "\n" * endless + json.dumps(entry, sort_keys=True) + "\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                _write_whole(file, line.encode())
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        return entry

    def champions(self, product: str) -> list[str]:
        """Bundle digests of a product's champions, the present one last: promotions push, rollbacks pop."""
        return _stack(self.decisions(product))

    def decisions(self, product: str) -> list[Entry]:
        """Promotions and rollbacks of a product, oldest first."""
        return [entry for entry in self._moves() if entry.get("product") == product]

    def about(self, bundle: str) -> list[Entry]:
        """Lines about a bundle, oldest first."""
        return [entry for entry in self.entries() if entry.get("bundle") == bundle]

    def origin(self, bundles: Iterable[str]) -> Origin | None:
        """Where bundles of one run come from, by the newest line about any of them that says it."""
        wanted = set(bundles)
        lines = [entry for entry in self.entries() if entry.get("bundle") in wanted and entry.get("origin")]
        return Origin.of(lines[-1]["origin"], self.path) if lines else None

    def former(self) -> list[str]:
        """Models that had a champion of their own before there was a product."""
        lines = [entry for entry in self._moves() if "product" not in entry]
        models = dict.fromkeys(entry["model"] for entry in lines)
        return [model for model in models if _stack([entry for entry in lines if entry["model"] == model])]

    def _moves(self) -> list[Entry]:
        return [entry for entry in self.entries() if entry["action"] in DECISIONS]


def _stack(decisions: list[Entry]) -> list[str]:
    stack: list[str] = []
    for entry in decisions:
        if entry["action"] == "promote":
            stack.append(entry["bundle"])
        else:
            stack.pop()
    return stack


def _write_whole(file: FileIO, line: bytes) -> None:
    """Writes a line at the end of a file, and takes back what a full disk took of it."""
    size = os.fstat(file.fileno()).st_size
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def _fault(line: bytes, entries: list[Entry]) -> str | None:
    """What is wrong with a line behind these entries."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return f"holds a byte that is no UTF-8, its {error.start + 1:,}th"
    try:
        entry = json.loads(text)
    except ValueError:
        cut = text.startswith("{") and not text.endswith("\n")
        return f"is cut off after {len(line):,} bytes" if cut else UNCHAINED
    try:
        sound = entry["hash"] == _hash(entry) and entry["previous_hash"] == _last_hash(entries)
    except (KeyError, TypeError, AttributeError):
        sound = False
    return None if sound else UNCHAINED


def _last_hash(entries: list[Entry]) -> str:
    return str(entries[-1]["hash"]) if entries else ""


def _hash(entry: Entry) -> str:
    content = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
