"""What the server does with a request, whatever brings it there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.inference.explain import Explanation
from hisac_lab.inference.explained import EXPLAINED
from hisac_lab.inference.request import MODEL_INPUT, NO_EVENT, Answer, Asked, Scores, answer_names, note_on, nothing
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.kept import KeptState, told_of
from hisac_lab.serving.states import StateStore, StoreError, UserHistory

Read: TypeAlias = Literal["history", "state", "stored", "nothing"]
NO_USER = "no event of the user is known: rank by popularity"


@dataclass
class Reply:
    """The answer to a request.

    Attributes:
        scores: Click probabilities in the order of the candidates, None where there is none.
        unknown_events: Events of a history that came with the request and that the model does not know.
        note: Why a score is None, or empty.
        version: Of the product that answered.
        read: What was read of the user: the request's history, a state, a stored history, or nothing.
        state_time: What the ages in a state count to, seconds; None: no state answered.
        explanation: What was read of the user for each candidate, where that was asked (see `inference.explain`).
        further: Probabilities of the further answers that the version has learned, as `scores_NAME`.
    """

    scores: Scores
    unknown_events: int
    note: str
    version: str
    read: Read
    state_time: int | None = None
    explanation: Explanation | None = None
    further: Answer = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For JSON; an explanation that was not asked is left out."""
        own = {key: value for key, value in vars(self).items() if key not in ("explanation", "further")}
        return own | self.further | ({} if self.explanation is None else {"explanation": self.explanation})


@dataclass
class Service:
    """Answers requests with the version of the moment.

    Attributes:
        engine: The version; another one may take its place between two calls.
        states: Histories and states of users.
        refresh: How long a state answers after it was made, seconds.
        history_limit: Events that a user's history keeps.
        now: The clock, seconds.
    """

    engine: Engine
    states: StateStore
    refresh: int
    history_limit: int
    now: Callable[[], float] = time.time

    def replies(self, requests: Sequence[dict[str, Any]]) -> list[Reply | UserError]:
        """Answers requests; those that bring a history in one pass. What is wrong with one does not touch the others.

        Args:
            requests: Each with `candidates`, and with a `user` or the columns of a history. With `explain` it is
                answered from the history, whatever state there is.
        """
        engine, found = self.engine, dict[int, Reply | UserError]()
        whole = dict[int, Asked]()
        with arithmetic.one_thread():
            for place, request in enumerate(requests):
                try:
                    if request.get("explain"):
                        found[place] = self._explained(engine, request)
                    elif request.get("user") is None:
                        whole[place] = engine.read(0, request)
                    else:
                        found[place] = self._of_user(engine, request)
                except UserError as error:
                    found[place] = error
            known = {place: asked for place, asked in whole.items() if len(asked.items)}
            answers = engine.answer(list(known.values())) if known else []
        for place, asked in whole.items():
            found[place] = _nothing(engine, asked, NO_EVENT)
        for (place, asked), answer in zip(known.items(), answers, strict=True):
            found[place] = _reply(engine, answer, asked.unknown, "history")
        return [found[place] for place in range(len(requests))]

    def _of_user(self, engine: Engine, request: dict[str, Any]) -> Reply:
        """From the user's state, or from the history where the state is too old, of another version, or not there."""
        if not engine.stores:
            hint = "send the history and what the instance store answers"
            raise UserError(MODEL_INPUT, "the model reads stored instances, which no state holds", hint, "user")
        user, moment = str(request["user"]), int(request.get("time") or self.now())
        given = {name: value for name, value in request.items() if value is not None} | {"time": moment}
        kept, fresh = self._kept(engine, user), True
        asked = engine.reader.read_slate(0, given if kept is None else {**kept.columns, **given})
        if kept is None or not kept.answers(asked, self.refresh):
            kept, fresh = self._encoded(engine, user, given), False
            if kept is None:
                return _nothing(engine, asked, NO_USER)
            asked = engine.reader.read_slate(0, {**kept.columns, **given})
        reply = _reply(engine, engine.score(kept, asked), 0, "state" if fresh else "stored")
        return replace(reply, state_time=kept.time)

    def _explained(self, engine: Engine, request: dict[str, Any]) -> Reply:
        """From a whole history, with what was read of it."""
        read: Read = "history"
        if request.get("user") is not None:
            read, request = "stored", self._with_history(request)
        asked = engine.read(0, request)
        if not len(asked.items):
            return _nothing(engine, asked, NO_EVENT if read == "history" else NO_USER)
        count = EXPLAINED if request["explain"] is True else int(request["explain"])
        answer, explanation = engine.explain(asked, count)
        return replace(_reply(engine, answer, asked.unknown, read), explanation=explanation)

    def _with_history(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request of a user with the events before it, none of a user that is not known."""
        moment, known = int(request.get("time") or self.now()), self.states.history(str(request["user"]))
        past = UserHistory([], [], []) if known is None else known[0].before(moment)
        return past.request() | {name: value for name, value in request.items() if value is not None} | {"time": moment}

    def _kept(self, engine: Engine, user: str) -> KeptState | None:
        """The user's state, if there is one that can be read."""
        packed = self.states.state(user, engine.digest)
        try:
            return None if packed is None else KeptState.unpack(packed, engine.digest, user)
        except UserError as error:
            say(f"{error}")
            return None

    def _encoded(self, engine: Engine, user: str, request: dict[str, Any]) -> KeptState | None:
        """The state of a user for a request, kept where the whole history lies before it."""
        known = self.states.history(user)
        if known is None:
            return None
        history, revision = known
        past = history.before(request["time"])
        asked = engine.reader.read(0, past.request() | request)
        if not len(asked.items):
            return None
        (kept,) = engine.encode([asked], [history.columns])
        if len(past) == len(history):
            self._keep(engine, user, revision, kept)
        return kept

    def _keep(self, engine: Engine, user: str, revision: int, kept: KeptState) -> None:
        """Keeps a state for later requests; this one is answered all the same."""
        try:
            self.states.keep(user, engine.digest, revision, kept.pack(engine.digest, user))
        except StoreError as error:
            say(f"{error}")

    def append(self, user: str, new: UserHistory) -> int:
        """Adds events to a user's history.

        Where the model `extends`, the events are added to the user's state too; else it is made anew when it is asked
        for.

        Returns:
            Events that the history has now.

        Raises:
            StoreError: They are not kept.
        """
        engine = self.engine
        known = self.states.history(user) if engine.stores and engine.model.extends else None
        kept = None if known is None else self._kept(engine, user)
        count = self.states.append(user, new, self.history_limit)
        if known is not None and kept is not None:
            with arithmetic.one_thread(), suppress(UserError):  # what cannot be read is told to who asks for scores
                self._extend(engine, user, kept, *known)
        return count

    def _extend(self, engine: Engine, user: str, kept: KeptState, before: UserHistory, revision: int) -> None:
        """Adds to a state what came behind a history, where nothing else has changed and no event has left."""
        whole, now = self.states.history(user) or (before, revision)
        if now != revision + 1 or len(whole) <= len(before) or whole.part(slice(len(before))) != before:
            return
        moment = max(int(self.now()), kept.time, whole.times[-1] + 1)
        told = {**kept.columns, "time": moment, "candidates": [""]}
        asked = engine.reader.read(0, whole.request() | told)
        new = len(engine.reader.read(0, whole.part(slice(len(before), None)).request() | told).items)
        if new > 0 and len(asked.items) < engine.reader.limit and np.array_equal(kept.told, told_of(asked)):
            self._keep(engine, user, now, engine.extend(kept, asked, new))


def _nothing(engine: Engine, asked: Asked, note: str) -> Reply:
    answer = {name: nothing(asked) for name in answer_names(engine.model.tasks)}
    return replace(_reply(engine, answer, asked.unknown, "nothing"), note=note)


def _reply(engine: Engine, answer: Answer, unknown: int, read: Read) -> Reply:
    scores, *_ = answer.values()
    further = {name: part for name, part in answer.items() if part is not scores}
    return Reply(scores, unknown, note_on(scores), engine.version, read, further=further)
