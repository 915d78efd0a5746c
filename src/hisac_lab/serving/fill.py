"""Histories of a prepared log into a store, and the states of all its users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hisac_lab.base import arithmetic
from hisac_lab.events.store import EventStore
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.states import StateStore, UserHistory
from hisac_lab.serving.words import LogWords

AT_ONCE = 64
"""Users that are encoded in one pass, neighbors in the length of their histories."""


def histories(store: EventStore) -> Iterator[tuple[str, UserHistory]]:
    """Each user's history as the log has it, cut at the limit that models read, and the newest of its columns."""
    words = LogWords(store)
    for number, user in enumerate(store.user_ids):
        end = int(store.offsets[number + 1])
        events = slice(max(int(store.offsets[number]), end - store.limit), end)
        yield str(user), words.history(events, words.columns(number, int(words.newest[number])))


def encode_all(engine: Engine, states: StateStore, users: Sequence[str], moment: int) -> Iterator[int]:
    """Makes and keeps the states of users at a moment.

    Args:
        engine: What encodes.
        states: Where their histories are.
        users: Whose.
        moment: What ages count to, seconds; events at or after it are left out, and no state is kept of such a user.

    Yields:
        How many users more are done.
    """
    for begin in range(0, len(users), AT_ONCE * AT_ONCE):
        group = users[begin : begin + AT_ONCE * AT_ONCE]
        found = list[tuple[str, int, UserHistory]]()
        for user in group:
            known = states.history(user)
            if known is not None and known[0].times and known[0].times[-1] < moment:
                found.append((user, known[1], known[0]))
        found.sort(key=lambda one: len(one[2]))
        for first in range(0, len(found), AT_ONCE):
            part = found[first : first + AT_ONCE]
            asked = [
                engine.reader.read(row, history.request() | {"time": moment, "candidates": [""]})
                for row, (_, _, history) in enumerate(part)
            ]
            with arithmetic.one_thread():
                kept = engine.encode(asked, [history.columns for _, _, history in part])
            for (user, revision, _), one, state in zip(part, asked, kept, strict=True):
                if len(one.items):
                    states.keep(user, engine.digest, revision, state.pack(engine.digest, user))
        yield len(group)
