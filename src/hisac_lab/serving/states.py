"""Users' histories and states on disk: histories in the log's own ids, states of one version each."""

from __future__ import annotations

import json
import sqlite3
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hisac_lab.base.errors import UserError, explain_os_error

FORMAT = 1
SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS users (
    user TEXT PRIMARY KEY, revision INTEGER NOT NULL, history BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS states (
    user TEXT, digest TEXT, revision INTEGER NOT NULL, state BLOB NOT NULL, PRIMARY KEY (user, digest)
) WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
"""
PUT = """
INSERT INTO users VALUES (?, 1, ?)
ON CONFLICT (user) DO UPDATE SET history = excluded.history, revision = revision + 1
"""
SECONDS = 5
"""How long a store may be locked by another process."""


class StoreError(UserError):
    """The store cannot be read or written: nothing is wrong with what was asked."""


@dataclass(frozen=True)
class UserHistory:
    """A user's events, oldest first.

    Attributes:
        items: Ids as in the log.
        times: Seconds, in order.
        feedback: Value of each as in the log, None where it is unknown.
        columns: What is known of the user beside them: columns of a request by name, as `user_age`.
    """

    items: list[str]
    times: list[int]
    feedback: list[Any]
    columns: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def before(self, time: int) -> UserHistory:
        """Events before a time."""
        return self.part(slice(bisect_left(self.times, time)))

    def part(self, events: slice) -> UserHistory:
        """Some of the events."""
        return UserHistory(self.items[events], self.times[events], self.feedback[events], self.columns)

    def joined(self, new: UserHistory, limit: int) -> UserHistory:
        """With more events, in order of time; equal times stay in the order they came; the newest `limit` stay."""
        items, times, feedback = self.items + new.items, self.times + new.times, self.feedback + new.feedback
        order = sorted(range(len(times)), key=times.__getitem__)[-limit:]
        values, columns = [feedback[at] for at in order], self.columns | new.columns
        return UserHistory([items[at] for at in order], [times[at] for at in order], values, columns)

    def pack(self) -> bytes:
        """As bytes."""
        return zlib.compress(json.dumps([self.items, self.times, self.feedback, self.columns]).encode(), 1)

    @classmethod
    def unpack(cls, packed: bytes, user: str) -> UserHistory:
        """What `pack` wrote.

        Raises:
            UserError: It is damaged.
        """
        try:
            return cls(*json.loads(zlib.decompress(packed)))
        except (zlib.error, ValueError, TypeError) as error:
            hint = "`hisac-lab states fill` writes the histories of the log anew"
            raise UserError("states", f"is damaged ({error})", hint, f"history of user {user!r}") from error

    def request(self) -> dict[str, Any]:
        """The columns of a request that bring it."""
        events = {"history_items": self.items, "history_times": self.times, "history_feedback": self.feedback}
        return events | self.columns


class StateStore(Protocol):
    """Where histories and states are; safe in several processes at once.

    A revision counts the changes of a user's history: a state belongs to one revision and to one bundle. Each method
    raises a `StoreError` where the store does not answer, or is full.
    """

    def history(self, user: str) -> tuple[UserHistory, int] | None:
        """A user's history and its revision; None for a user that is not known."""

    def append(self, user: str, new: UserHistory, limit: int) -> int:
        """Adds events to a user's history, whose newest `limit` stay; returns how many it has now."""

    def fill(self, users: Iterable[tuple[str, UserHistory]]) -> int:
        """Sets the histories of many users; returns of how many."""

    def state(self, user: str, digest: str) -> bytes | None:
        """A user's state of a bundle, unless the history has changed since or there is none."""

    def keep(self, user: str, digest: str, revision: int, state: bytes) -> None:
        """Keeps the state of a revision, unless the history has changed since."""

    def forget(self, digest: str) -> int:
        """Drops the states of all other bundles; returns how many there were."""


class SQLiteStates:
    """One file, for the processes of one machine.

    Args:
        path: The file; made where it is not there.

    Raises:
        UserError: It is something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(path, timeout=SECONDS, check_same_thread=False)
            (version,) = self.base.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                what = f"is of another version ({version}, here {FORMAT})"
                raise UserError(path, what, "name a new file", "serve.states")
            self.base.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise UserError(path, str(error), "name another file, or move it away", "serve.states") from error
        except OSError as error:
            raise explain_os_error(error, path) from error

    def history(self, user: str) -> tuple[UserHistory, int] | None:
        """See `StateStore`."""
        with self._told():
            row = self.base.execute("SELECT history, revision FROM users WHERE user = ?", (user,)).fetchone()
        return None if row is None else (UserHistory.unpack(row[0], user), row[1])

    def append(self, user: str, new: UserHistory, limit: int) -> int:
        """See `StateStore`."""
        with self._writing():
            known, _ = self.history(user) or (UserHistory([], [], []), 0)
            whole = known.joined(new, limit)
            self.base.execute(PUT, (user, whole.pack()))
        return len(whole)

    def fill(self, users: Iterable[tuple[str, UserHistory]]) -> int:
        """See `StateStore`."""
        count = 0
        with self._writing():
            for user, history in users:
                self.base.execute(PUT, (user, history.pack()))
                count += 1
        return count

    def state(self, user: str, digest: str) -> bytes | None:
        """See `StateStore`."""
        asked = "SELECT state FROM states JOIN users USING (user, revision) WHERE user = ? AND digest = ?"
        with self._told():
            row = self.base.execute(asked, (user, digest)).fetchone()
        return None if row is None else row[0]

    def keep(self, user: str, digest: str, revision: int, state: bytes) -> None:
        """See `StateStore`."""
        with self._writing():
            self.base.execute(
                "INSERT OR REPLACE INTO states SELECT user, ?, revision, ? FROM users WHERE user = ? AND revision = ?",
                (digest, state, user, revision),
            )

    def forget(self, digest: str) -> int:
        """See `StateStore`."""
        with self._writing():
            return self.base.execute("DELETE FROM states WHERE digest != ?", (digest,)).rowcount

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, begun before anything is read in it."""
        with self._told(), self.base:
            self.base.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = "see the space on its disk, and who else writes to it"
            raise StoreError(self.path, str(error), hint, "serve.states") from error


def open_states(address: str) -> StateStore:
    """The store at an address: sqlite:FILE, or redis://HOST:PORT/N.

    Raises:
        UserError: It is no such address, or does not answer.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "sqlite" and rest:
        return SQLiteStates(Path(rest))
    if scheme == "redis":
        from hisac_lab.serving.redis_states import RedisStates

        return RedisStates(address)
    raise UserError(
        "params.yaml", f"{address!r} is no store", "name sqlite:FILE or redis://HOST:PORT/N", "serve.states"
    )
