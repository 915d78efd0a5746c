"""Settings that suit a log, each with its reason: `hisac-lab init`.

What is proposed hangs on a few numbers of the log alone. Where the log is not there yet, numbers of a typical one stand
in for it: short histories, long ones, or votes whose items never return.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hisac_lab.base.errors import UserError
from hisac_lab.cli import settings
from hisac_lab.cli.params import inline
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import PARAMS_FILE, load_section
from hisac_lab.config.events import LEFT_OUT, ColumnsConfig, PrepareConfig

STEPS = 300
"""Steps that an epoch should have at least."""
READ = 2e8
"""Events that an epoch may read: requests times the length of their histories."""
STATE_BYTES = 32_768
"""Of a user whose state a cache keeps."""
DAY = 86_400


@dataclass(frozen=True)
class Profile:
    """What a log is like.

    Attributes:
        events: Events.
        items: Items.
        middle: Events of a user, the median.
        most: Events of a user, 99 of 100 have no more.
        days: From its first event to its last.
        daily: Whether times are days.
        votes: Whether the feedback tells yes from no, and both are common.
        labeled: Whether there is feedback.
    """

    events: int
    items: int
    middle: int
    most: int
    days: float
    daily: bool = False
    votes: bool = False
    labeled: bool = True


LIKE = {
    "short": Profile(events=100_000, items=2_000, middle=60, most=500, days=200),
    "long": Profile(events=2_000_000, items=20_000, middle=5_000, most=12_000, days=1_500, labeled=False),
    "votes": Profile(events=300_000, items=5_000, middle=150, most=2_000, days=1_500, votes=True),
}
"""Typical logs."""


class Advice(NamedTuple):
    """A setting, its value, and why."""

    key: str
    value: Any
    reason: str


def profile_of(
    path: Path,
    items: Path | None = None,
    users: Path | None = None,
    columns: ColumnsConfig | None = None,
    drop: Collection[str] = (),
) -> Profile:
    """Looks at a log, with the tables beside it, as `hisac-lab data check` does.

    Args:
        path: The log.
        items: The table of items.
        users: The table of users.
        columns: What the log's columns are called, and what its words stand for; None: guessed.
        drop: Keys of `prepare` that leave out what a run would stop at.

    Raises:
        UserError: A run would stop at it.
    """
    from hisac_lab.tables.check import check

    known = {} if columns is None else {role: getattr(columns, role) for role in ("user", "item", "time", "label")}
    named = {role: name for role, name in known.items() if name is not None}
    checked = check(path, items, users=users, named=named, numbers=columns.label_values if columns else None)
    checked.leave_out(drop)
    survey = checked.survey
    if checked.stops or not survey.rows:
        first = next(
            (line for problem in checked.problems if problem.stops for line in problem.lines), "it has no rows"
        )
        raise UserError(path, f"a run would stop at it: {first}", f"see all of `hisac-lab data check {path}`")
    lengths = np.sort(survey.lengths[survey.lengths > 0])
    start = None if columns is not None and columns.label is None else checked.positive_from
    counts = survey.labels
    positives = 1.0 if start is None else sum(n for value, n in counts.items() if value >= start) / sum(counts.values())
    return Profile(
        events=survey.rows,
        items=len(survey.items),
        middle=int(lengths[(len(lengths) - 1) // 2]),
        most=int(lengths[int(0.99 * (len(lengths) - 1))]),
        days=(survey.last - survey.first) / DAY,
        daily=survey.daily,
        votes=start is not None and len(counts) <= 3 and 0.2 <= positives <= 0.95,
        labeled=start is not None,
    )


def advise(log: Profile) -> Iterator[Advice]:
    """What suits a log, in the order of the settings."""
    yield from _of_events(log)
    yield from _of_model(log)
    batch = int(np.clip(_power_below(log.events * 0.7 * _kept(log) / STEPS), 8, 256))
    steps = log.events * 0.7 * _kept(log) / batch
    why = f"an epoch has {steps:,.0f} steps at most, fewer where a request has many candidates; {STEPS} are aimed at"
    yield Advice("train.batch_requests", batch, why)
    if log.most > 1_000:
        why = "a state that a cache can keep for every user; it must not grow with the history"
        yield Advice("sweep.max_state_bytes", float(STATE_BYTES), why)


def _of_events(log: Profile) -> Iterator[Advice]:
    if log.daily:
        yield Advice("prepare.time_unit", "day", "times are days: events of one day must not see each other")
    if log.votes:
        yield Advice(
            "prepare.history", "all", "a no tells as much as a yes: histories hold both, each with its feedback"
        )
    limit = max(50, 1 << (log.most - 1).bit_length())
    why = f"99 of 100 users have {log.most:,} events at most: their histories stay whole"
    yield Advice("prepare.history_limit", limit, why)
    yield Advice("prepare.half_lives", _half_lives(log), f"the log spans {log.days:,.0f} days")
    if not log.labeled:
        why = "there is no feedback: a negative drawn at random is told from a positive by how long nobody touched it"
        yield Advice("prepare.negatives_by", "matched", why)
        yield Advice(
            "prepare.new_items", "drop", "no drawn negative is as new as an item that nobody had touched before"
        )
    if (share := _kept(log)) < 1:
        why = f"an epoch reads {READ:,.0f} events at most: requests times the length of their histories"
        yield Advice("prepare.keep.train", share, why)


def _of_model(log: Profile) -> Iterator[Advice]:
    wide = log.items >= 5_000 and log.most > 1_000
    widths = [256, 16] if wide else [32, 32, 32] if log.items >= 500 else [16, 8]
    why = "as wide as a catalog has themes, so that few agents hold most votes" if wide else "some items for each code"
    yield Advice("tokenize.widths", widths, f"{log.items:,} items: {why}")
    dim = 32 if log.events >= 200_000 else 16
    yield Advice("backbone.dim", dim, f"{log.events:,} events to learn from")
    agents = 128 if log.most > 1_000 else 32 if log.middle >= 30 else 16
    why = f"the median user has {log.middle:,} events; `data check` and the report say what share of votes agents hold"
    yield Advice("models.hisac.agents", agents, why)
    if wide:
        yield Advice("models.hisac.depth", 1, f"{agents} of the {widths[0]} first codes hold nearly all votes")
        yield Advice("models.hisac.route_by", "items", "items return often in long histories: the same result for less")
    if log.days > 365:
        yield Advice("models.hisac.decay", "power", "over years an exponential forgets everything but the last months")
    yield Advice("models.hisac.half_lives", _half_lives(log), "as prepare.half_lives, in what an agent tells of itself")
    space = {
        "agents": [agents // 4, agents // 2, agents, 2 * agents],
        "depth": list(range(1, len(widths) + 1)),
        "breadth": [0.5, 0.7],
        "temperature": [0.03, 0.07, 0.15],
    }
    yield Advice("sweep.space", {"hisac": space}, "around these agents, at every depth of these codes")


def _half_lives(log: Profile) -> list[float]:
    """Days, the longest a quarter of the log at most."""
    every = (0.04, 0.25, 1.0, 7.0, 30.0, 90.0, 365.0)
    fitting = [days for days in every if days <= log.days / 4 and (days >= 1 or log.days < 14)]
    return ([days for days in fitting if not log.daily or days >= 1] or [1.0])[-5:]


def _kept(log: Profile) -> float:
    """Share of the training requests, at one significant digit."""
    return min(1.0, float(f"{READ / (log.events * max(1, log.middle)):.1g}"))


def _power_below(number: float) -> int:
    return 1 << max(0, int(number).bit_length() - 1)


def _own() -> Profile | None:
    """What the own log of params.yaml is like, by the columns that stand there; None where there is no such log."""
    acquire = load_section("acquire", AcquireConfig)
    if acquire.dataset != "own" or acquire.path is None:
        return None
    items, users = (None if path is None else Path(path) for path in (acquire.items_path, acquire.users_path))
    return profile_of(Path(acquire.path), items, users, **_reading())


def _other(path: Path) -> Profile:
    """What another log is like: by the columns of params.yaml where it has them, else as they are guessed."""
    if not PARAMS_FILE.is_file():
        return profile_of(path)
    reading = _reading()
    try:
        return profile_of(path, **reading)
    except UserError:
        return profile_of(path, drop=reading["drop"])


def _reading() -> dict[str, Any]:
    """How params.yaml reads an own log; columns that are as they come say nothing."""
    prepare = load_section("prepare", PrepareConfig)
    return {
        "columns": None if prepare.columns == ColumnsConfig() else prepare.columns,
        "drop": [key for key in LEFT_OUT if getattr(prepare, key) == "drop"],
    }


def propose(like: str | None, path: Path | None, *, write: bool) -> str:
    """The settings for a typical log or an own one, a line each with its reason.

    Args:
        like: Name of a typical log.
        path: An own log, in place of a typical one. Neither: the own log of params.yaml.
        write: Whether they go into params.yaml.

    Raises:
        UserError: Both are named, or none and params.yaml has no own log; there is no such log; or params.yaml would
            not be right with the settings.
    """
    own = _own() if like is None and path is None else None
    if own is None and (like is None) == (path is None):
        hint = f"--like {', '.join(LIKE)}; --log PATH; or neither, when params.yaml has an own log"
        raise UserError("hisac-lab init", "wants one of --like and --log", hint)
    if like is not None and like not in LIKE:
        raise UserError("hisac-lab init", f"there is no log like {like!r}", f"name one of {', '.join(LIKE)}", "--like")
    log = own or (LIKE[str(like)] if path is None else _other(path))
    advices = list(advise(log))
    if write:
        settings.changes({one.key: one.value for one in advices})
    lines = [f"{one.key}: {inline(one.value)}\n  # {one.reason}\n" for one in advices]
    end = (
        "# Written into params.yaml\n"
        if write
        else "# Nothing is written: --write does, or `hisac-lab params set KEY VALUE`\n"
    )
    return "".join(lines) + end
