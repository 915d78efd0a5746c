"""The ledger of promotions: append-only, each line chained to the one before it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hisac_lab.base.errors import UserError

Entry = dict[str, Any]
DECISIONS = ("promote", "rollback")
"""Actions that move a champion."""


class Ledger:
    """A file of JSON lines: refusals, promotions and rollbacks of all models.

    It is the truth about champions; the aliases in the registry mirror it and can be rebuilt from it. Its first line is
    the project's identity, which every clone that holds the ledger shares: a ledger begins with a line drawn at random;
    one made before such lines has the entry that it begins with.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One promotion or rollback at a time; the lock ends with the process, however it ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def entries(self) -> list[Entry]:
        """All entries, oldest first.

        Raises:
            UserError: A line was changed, removed before others, or cut off.
        """
        if not self.path.exists():
            return []
        entries: list[Entry] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                entry = json.loads(line)
                sound = entry["hash"] == _hash(entry) and entry["previous_hash"] == _last_hash(entries)
            except (ValueError, KeyError, TypeError):
                sound = False
            if not sound:
                raise UserError(
                    self.path, "does not follow from the lines before it", "restore it from git", f"line {number}"
                )
            entries.append(entry)
        return entries

    def project(self) -> str | None:
        """The project's identity, the hash of the first line; None where there is no ledger yet."""
        entries = self.entries()
        return str(entries[0]["hash"]) if entries else None

    def begin(self) -> str:
        """The project's identity; a ledger that is not there yet is begun."""
        with self.locked():
            return self.project() or str(self.append(action="begin", drawn=secrets.token_hex(16))["hash"])

    def append(self, **facts: Any) -> Entry:
        """Adds one entry and waits until the disk has it."""
        entries = self.entries()
        entry = {
            "number": len(entries) + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
            "previous_hash": _last_hash(entries),
        }
        entry["hash"] = _hash(entry)
        endless = bool(entries) and not self.path.read_bytes().endswith(b"\n")  # as an editor may leave the last line
        with self.path.open("a") as file:
            file.write("\n" * endless + json.dumps(entry, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def champions(self, model: str) -> list[str]:
        """Bundle digests of a model's champions, the present one last: promotions push, rollbacks pop."""
        stack: list[str] = []
        for entry in self.decisions(model):
            if entry["action"] == "promote":
                stack.append(entry["bundle"])
            else:
                stack.pop()
        return stack

    def decisions(self, model: str) -> list[Entry]:
        """Promotions and rollbacks of a model, oldest first."""
        return [entry for entry in self.entries() if entry["action"] in DECISIONS and entry["model"] == model]


def _last_hash(entries: list[Entry]) -> str:
    return str(entries[-1]["hash"]) if entries else ""


def _hash(entry: Entry) -> str:
    content = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
