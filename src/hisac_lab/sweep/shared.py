"""A study that many machines work at: Optuna's ask and tell on one PostgreSQL server, without rounds.

Who asks or tells holds the study's lock, so that a place among the trials is taken once and a point is drawn once. Who
trains holds the lock of its place. Both are advisory locks of the server, which frees them when a process or its
machine is gone: the place then goes to the next who asks, at the same point. What is drawn hangs on who was first, so
such a study cannot be repeated to the byte.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from hisac_lab.base.artifacts import digest_of
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.sweep.draw import Asked, Asker
from hisac_lab.sweep.records import Outcome
from hisac_lab.sweep.study import KILLED, Study, TrialResult, marked, objectives_of

TRIES = 3
"""Processes that may die at a place before its trial has failed."""
POLL_SECONDS = 1.0
"""Between two looks at what others do."""
ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
}
"""Both ends find out within a minute that the other is gone."""
TABLES, STUDY = 0, 0
"""Locks: of the database's tables, beside those of studies; of a study, beside its places, which count from 1."""


def take_part(study: Study, name: str) -> tuple[list[TrialResult], bool]:
    """Runs trials of a shared study, one at a time, until none is left, here or elsewhere.

    Args:
        study: Its settings, and what trials run on here.
        name: Of the study on the server: equal where settings, inputs and code are.

    Returns:
        All trials in number order, whoever ran them, and whether the space was exhausted.

    Raises:
        UserError: The server does not answer, or holds tables of another program.
    """
    address = str(study.config.storage)
    with _explained(address), _connected(address) as line:
        shared = _Shared(study, _open(line, address, name), line, int(digest_of(name), 16) % 2**31)
        waits = False
        while (state := shared.look()).open_places:
            if (asked := shared.claim()) is None:
                if not waits:
                    say(f"sweep {study.model}: no trial is left to take; others still run {len(state.running)}")
                waits = True
                time.sleep(POLL_SECONDS)
                continue
            waits = False
            reason = asked.resolved.reason
            failed = [Outcome(state="failed", reason=reason)] if reason is not None else []
            shared.tell(asked, *(failed or study.answers([study.job(asked)])))
            study.done(len(shared.look().done))
        return shared.results()


@dataclass
class _State:
    """The places of a study.

    Attributes:
        trials: How many there are to be.
        exhausted: Whether the space has no more points.
        done: Trial with an outcome, by place.
        running: Trial that somebody runs, by place.
        left: Trials at a place whose processes have died.
    """

    trials: int
    exhausted: bool
    done: dict[int, FrozenTrial] = field(default_factory=dict)
    running: dict[int, FrozenTrial] = field(default_factory=dict)
    left: dict[int, list[FrozenTrial]] = field(default_factory=lambda: defaultdict(list))

    @property
    def killed(self) -> dict[int, FrozenTrial]:
        """Trials that have killed every process which tried them."""
        return {place: trials[-1] for place, trials in self.left.items() if len(trials) >= TRIES}

    @property
    def free(self) -> list[int]:
        """Places that somebody may take; those of the dead also where no new point is left."""
        taken = self.done.keys() | self.running.keys() | self.killed.keys()
        places = self.left if self.exhausted else range(self.trials)
        return sorted(place for place in places if place not in taken)

    @property
    def open_places(self) -> bool:
        """Whether there is anything left to do, here or elsewhere."""
        return bool(self.free or self.running)


@dataclass
class _Shared:
    """One study as one process sees it.

    Attributes:
        study: Its settings, and what trials run on here.
        server: The study on the server.
        line: The connection that holds this process's locks.
        key: Number of the study among locks.
    """

    study: Study
    server: optuna.Study
    line: Connection
    key: int

    def look(self) -> _State:
        """The places as they stand now."""
        state = _State(self.study.config.trials, bool(self.server.user_attrs.get("exhausted")))
        for trial in self.server.get_trials(deepcopy=False):
            if (place := trial.user_attrs.get("place")) is None:
                continue  # a point that was there already, or a process that died before it had one
            if "outcome" in trial.user_attrs:
                state.done[place] = trial
            elif trial.state is TrialState.RUNNING:
                state.running[place] = trial
            else:
                state.left[place].append(trial)
        return state

    def claim(self) -> Asked | None:
        """A trial for this process, which holds its place from now on; None: none is free."""
        with _held(self.line, self.key, STUDY):
            self._mend()
            state = self.look()
            if not state.free:
                return None
            place, config = state.free[0], self.study.config
            every = [*state.done.values(), *state.running.values(), *state.killed.values()]
            seen = {trial.user_attrs["key"] for trial in every}
            asker = Asker(
                config, self.study.space, self.study.model, self.study.bench.resolve, self.server, seen, skip=place
            )
            if left := state.left[place]:
                asked = asker.take(place, left[-1].user_attrs["point"], fixed=left[-1].user_attrs["fixed"])
            else:
                asked = asker.draw(place)
            if asked is None:
                self.server.set_user_attr("exhausted", True)
                return None
            _lock(self.line, self.key, place + 1)
            for name, value in _facts(asked).items():
                asked.trial.set_user_attr(name, value)
            return asked

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Tells what a trial of this process came to; nothing where it was taken for dead and its place given away."""
        with _held(self.line, self.key, STUDY):
            if self.server.trials[asked.trial.number].state is TrialState.RUNNING:
                asked.trial.set_user_attr("outcome", outcome.model_dump(mode="json"))
                self._end(asked.trial.number, outcome)
            else:
                say(f"sweep {self.study.model}: trial {asked.number} was given to others, its answer here is dropped")
        _unlock(self.line, self.key, asked.number + 1)

    def results(self) -> tuple[list[TrialResult], bool]:
        """All trials in number order, and whether the space was exhausted."""
        state = self.look()
        ended = {place: Outcome.of(trial.user_attrs["outcome"], "outcome") for place, trial in state.done.items()}
        killed = {place: Outcome(state="failed", reason=KILLED) for place in state.killed.keys() - ended.keys()}
        found = []
        for place, outcome in sorted((ended | killed).items()):
            trial = state.done.get(place) or state.killed[place]
            point = trial.user_attrs["point"]
            resolved = self.study.bench.resolve(point)
            found.append(TrialResult(place, point, resolved, outcome.state, outcome, trial.user_attrs["fixed"]))
        return marked(found), state.exhausted

    def _mend(self) -> None:
        """Ends what dead processes have left running or waiting; the study's lock is held."""
        while self.server.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.server.tell(self.server.ask(), state=TrialState.FAIL)
        for trial in self.server.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            place, outcome = trial.user_attrs.get("place"), trial.user_attrs.get("outcome")
            if place is None:
                self.server.tell(trial.number, state=TrialState.FAIL)
            elif outcome is not None:
                self._end(trial.number, Outcome.of(outcome, "outcome"))
            elif _lock(self.line, self.key, place + 1, waits=False):
                say(f"sweep {self.study.model}: the process at trial {place} is gone; the trial is free again")
                self.server.tell(trial.number, state=TrialState.FAIL)
                _unlock(self.line, self.key, place + 1)

    def _end(self, number: int, outcome: Outcome) -> None:
        """Tells Optuna what its trial came to."""
        if outcome.state == "complete":
            self.server.tell(number, list(objectives_of(outcome)))
        else:
            self.server.tell(number, state=TrialState.FAIL)


def _facts(asked: Asked) -> dict[str, Any]:
    """What the server keeps of a trial; its place comes last, for it makes the trial count."""
    return {"key": asked.resolved.key, "point": asked.point, "fixed": asked.fixed, "place": asked.number}


def _open(line: Connection, address: str, name: str) -> optuna.Study:
    """The study on the server, made by whoever comes first.

    Raises:
        UserError: The database holds tables of another program or version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _held(line, TABLES, TABLES):
        try:
            storage = optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": ALIVE, "pool_pre_ping": True})
        except RuntimeError as error:
            what = "the database holds tables of another program, or of another version of Optuna"
            raise UserError(address, what, "give sweeps a database of their own", "sweep.storage") from error
        study = optuna.create_study(
            storage=storage, study_name=name, directions=["maximize", "minimize"], load_if_exists=True
        )
        study.set_user_attr("repeatable", False)
        return study


@contextmanager
def _connected(address: str) -> Iterator[Connection]:
    engine = sqlalchemy.create_engine(address, connect_args=ALIVE, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as line:
        yield line


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turns what a server throws into one line."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        lines = str(getattr(cause, "orig", None) or cause).splitlines() or [type(error).__name__]
        hint = "see that it runs, its user and ~/.pgpass, then start again: what was told is kept"
        raise UserError(address, f"the server of the shared study does not answer ({lines[0]})", hint) from error


@contextmanager
def _held(line: Connection, key: int, place: int) -> Iterator[None]:
    """Holds a lock of the server; waits for it."""
    _lock(line, key, place)
    try:
        yield
    finally:
        _unlock(line, key, place)


def _lock(line: Connection, key: int, place: int, waits: bool = True) -> bool:
    """Takes a lock of the server; gives whether it was free, where it does not wait."""
    call = "pg_advisory_lock" if waits else "pg_try_advisory_lock"
    return (
        line.execute(sqlalchemy.text(f"SELECT {call}(:key, :place)"), {"key": key, "place": place}).scalar()
        is not False
    )


def _unlock(line: Connection, key: int, place: int) -> None:
    if not line.invalidated:  # else the server has freed it
        line.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key, :place)"), {"key": key, "place": place})
