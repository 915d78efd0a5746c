"""Users' histories and states in Redis, for the processes of many machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from hisac_lab.serving.states import SECONDS, StoreError, UserHistory

USER, STATE = "hisac:user:", "hisac:state:"
AT_ONCE = 500


class RedisStates:
    """One database of a Redis server: a hash for each user's history, another for each user's state of a bundle.

    Args:
        address: As redis://HOST:PORT/N.

    Raises:
        StoreError: It does not answer.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with self._told():
            self.base: Any = redis.Redis.from_url(address, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
            self.base.ping()

    def history(self, user: str) -> tuple[UserHistory, int] | None:
        """See `StateStore`."""
        with self._told():
            packed, revision = self.base.hmget(USER + user, ["history", "revision"])
        return None if packed is None else (UserHistory.unpack(packed, user), int(revision))

    def append(self, user: str, new: UserHistory, limit: int) -> int:
        """See `StateStore`."""

        def change(pipe: Any) -> int:
            packed = pipe.hget(USER + user, "history")
            known = UserHistory([], [], []) if packed is None else UserHistory.unpack(packed, user)
            whole = known.joined(new, limit)
            pipe.multi()
            _put(pipe, user, whole)
            return len(whole)

        with self._told():
            count: int = self.base.transaction(change, USER + user, value_from_callable=True)
        return count

    def fill(self, users: Iterable[tuple[str, UserHistory]]) -> int:
        """See `StateStore`."""
        count = 0
        with self._told(), self.base.pipeline(transaction=False) as pipe:
            for user, history in users:
                _put(pipe, user, history)
                count += 1
                if count % AT_ONCE == 0:
                    pipe.execute()
            pipe.execute()
        return count

    def state(self, user: str, digest: str) -> bytes | None:
        """See `StateStore`."""
        with self._told(), self.base.pipeline(transaction=False) as pipe:
            pipe.hget(USER + user, "revision")
            pipe.hmget(f"{STATE}{digest}:{user}", ["revision", "state"])
            revision, (made_of, state) = pipe.execute()
        return state if revision is not None and made_of == revision else None

    def keep(self, user: str, digest: str, revision: int, state: bytes) -> None:
        """See `StateStore`; one that is of an older revision by now is never read."""
        with self._told():
            self.base.hset(f"{STATE}{digest}:{user}", mapping={"revision": revision, "state": state})

    def forget(self, digest: str) -> int:
        """See `StateStore`."""
        with self._told():
            old = [key for key in self.base.scan_iter(f"{STATE}*") if not key.startswith(f"{STATE}{digest}:".encode())]
            return sum(int(self.base.delete(key)) for key in old)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StoreError(self.address, what, "see that it runs", "serve.states") from error


def _put(pipe: Any, user: str, history: UserHistory) -> None:
    pipe.hset(USER + user, "history", history.pack())
    pipe.hincrby(USER + user, "revision", 1)
