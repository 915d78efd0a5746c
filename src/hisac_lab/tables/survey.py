"""One pass over the files of a log that counts what is there and collects what is wrong, block by block.

Memory grows with the numbers of users and items, not of events. Events that occur twice are looked for inside blocks
(about 250,000 rows): copies that stand further apart are not seen here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.tables.columns import DROP_ROWS, MIN_SECONDS, Column, Fault
from hisac_lab.tables.files import places
from hisac_lab.tables.read import Block, Layout, read
from hisac_lab.tables.vocabulary import Vocabulary

SHOWN = 3  # problems of one kind that are written out
LEVELS = 1_000  # distinct values of the feedback that are counted
DAY, HOUR = 86_400, 3_600
DAYS_AT_LEAST = 7  # days whose events all begin right after midnight, before that is taken for an order


@dataclass
class Problem:
    """What is wrong in a file, all of one kind.

    Attributes:
        lines: The first of them, each in the words in which a run would stop.
        count: How many there are.
        stops: Whether a run with the proposed mapping would stop.
        setting: The key of `prepare` that may leave such rows out; empty: there is none.
        hint: With which each line ends.
    """

    lines: list[str]
    count: int = 1
    stops: bool = True
    setting: str = ""
    hint: str = ""


@dataclass
class Survey:
    """What a log holds.

    Attributes:
        rows: Events that can be used.
        lengths: Events of each user; (users,).
        items: Ids of the items.
        seen: Events of each item; (items,).
        first: Earliest time in seconds.
        last: Latest time.
        latest: Most seconds after midnight of any event.
        days: Events of each day.
        backwards: Events earlier than the event of the same user before them.
        repeated: Events whose user, item and time were there before, inside a block.
        labels: The values of the feedback and how often each occurs; about LEVELS values at most.
        labels_whole: Whether all events are counted in `labels`.
    """

    rows: int = 0
    lengths: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    items: Vocabulary = field(default_factory=Vocabulary)
    seen: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    first: int = np.iinfo(np.int64).max
    last: int = np.iinfo(np.int64).min
    latest: int = 0
    days: Counter[int] = field(default_factory=Counter)
    backwards: int = 0
    repeated: int = 0
    labels: Counter[float] = field(default_factory=Counter)
    labels_whole: bool = True

    @property
    def daily(self) -> bool:
        """Whether the times are days: what there is of seconds after midnight only keeps an order."""
        bound = max(HOUR, max(self.days.values(), default=0)) if len(self.days) >= DAYS_AT_LEAST else 1
        return self.latest < bound


class Collector:
    """The problems of one file by kind: the first places of each, and how many there are.

    Args:
        path: The file.
        layout: How it is written.
        advice: What else to hint at where a row cannot be used.
    """

    def __init__(self, path: Path, layout: Layout | None, advice: str = "") -> None:
        self.path, self.layout, self.advice = path, layout, advice
        self.bad: list[Array] = []  # rows at fault since the last `take_bad`
        self._kinds: dict[tuple[str, str], Problem] = {}
        self._shown: dict[tuple[str, str], list[tuple[int, str, str]]] = {}

    def report(self, fault: Fault) -> None:
        """Takes a fault of the reader."""
        if fault.stops:
            self.bad.append(fault.rows)
        texts = [fault.say(index) for index in range(min(SHOWN, len(fault.values)))]
        advice = self.advice if fault.stops and not fault.whole else ""
        self.add(fault.rows, fault.field, fault.what, fault.hint + advice, texts, fault.stops)
        if advice:
            kind = self._kinds[fault.field, fault.what]
            kind.setting, kind.hint = "bad_rows", fault.hint + advice

    def add(
        self, rows: Array, field: str, what: str, hint: str, texts: list[str] | None = None, stops: bool = True
    ) -> None:
        """Takes problems of one kind at some rows of the file; `texts` tells the first of them apart."""
        if not len(rows):
            return
        kind = self._kinds.setdefault((field, what), Problem([], 0, stops))
        shown = self._shown.setdefault((field, what), [])
        few = [int(row) for row in rows[: SHOWN - len(shown)]]
        shown += [(row, text, hint) for row, text in zip(few, texts or [what] * len(few), strict=False)]
        kind.count += len(rows)

    def take_bad(self, block: Block) -> Array:
        """Which rows of a block have a fault; (n,) bool."""
        bad, self.bad = self.bad, []
        if not bad:
            return np.zeros(len(block), bool)
        return np.isin(block.positions(np.arange(len(block))), np.concatenate(bad))

    def problems(self) -> list[Problem]:
        """All kinds, with the places of the first of each.

        Raises:
            UserError: The file cannot be read again.
        """
        rows = sorted({row for shown in self._shown.values() for row, _, _ in shown})
        where = places(self.path, self.layout, rows) if rows else {}
        for (name, what), kind in self._kinds.items():
            for row, text, hint in self._shown[name, what]:
                place = f"{where[row]}: {name}" if name else where[row]
                kind.lines.append(str(UserError(self.path, text, hint, place)))
        return list(self._kinds.values())


class Surveyor:
    """Counts the events of a log, file after file.

    Args:
        columns: The columns of the roles user, item, time and perhaps label.
        own: Whether it is an own log.
    """

    def __init__(self, columns: dict[str, Column], own: bool) -> None:
        self.survey, self.users, self.columns = Survey(), Vocabulary(), columns
        self._advice = DROP_ROWS if own else ""
        self._last = np.zeros(0, np.int64)  # time of each user's last event

    def read(self, path: Path, layout: Layout | None) -> list[Problem]:
        """Reads one file; what ends the reading is the last problem."""
        collector, end = Collector(path, layout, self._advice), []
        try:
            for block in read(path, self.columns, layout, collector.report):
                self._add(block, collector)
        except UserError as error:
            end = [Problem([str(error)])]
        try:
            return [*collector.problems(), *end]
        except UserError as error:  # the file does not read to its end, so no places are known either
            return end or [Problem([str(error)])]

    def _add(self, block: Block, collector: Collector) -> None:
        index = np.flatnonzero(~collector.take_bad(block))
        if not len(index):
            return
        good = pa.array(index)
        user = self.users.encode(block.columns["user"].take(good))
        item = self.survey.items.encode(block.columns["item"].take(good))
        time = block.columns["time"][index]
        seen = np.bincount(item, minlength=len(self.survey.items))
        seen[: len(self.survey.seen)] += self.survey.seen
        self.survey.seen = seen
        self._count(user, time, block.columns["label"][index] if "label" in block.columns else None)
        names = {role: column.name for role, column in self.columns.items()}
        back = self._backwards(user, time)
        what, hint = "is earlier than the same user's event before it", "prepare.order: sort puts it right"
        texts = [f"time {at} {what}" for at in time[back[:SHOWN]]]
        rows = block.positions(index[back])
        collector.add(rows, names["time"], what, hint, texts, stops=False)
        order = np.lexsort((item, time, user))
        same = (np.diff(user[order]) == 0) & (np.diff(time[order]) == 0) & (np.diff(item[order]) == 0)
        again = np.sort(order[1:][same])
        self.survey.repeated += len(again)
        what, hint = "the same user, item and time occur again", "prepare.duplicates: drop leaves it out"
        field = ", ".join(names[role] for role in ("user", "item", "time"))
        collector.add(block.positions(index[again]), field, what, hint, stops=False)

    def _count(self, user: Array, time: Array, label: Array | None) -> None:
        survey = self.survey
        survey.rows += len(user)
        lengths = np.bincount(user, minlength=len(survey.lengths))
        lengths[: len(survey.lengths)] += survey.lengths
        survey.lengths = lengths
        survey.first, survey.last = min(survey.first, int(time.min())), max(survey.last, int(time.max()))
        survey.latest = max(survey.latest, int((time % DAY).max()))
        days, counts = np.unique(time // DAY, return_counts=True)
        survey.days.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))
        survey.labels_whole &= len(survey.labels) <= LEVELS
        if label is not None and survey.labels_whole:
            values, counts = np.unique(label, return_counts=True)
            survey.labels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def _backwards(self, user: Array, time: Array) -> Array:
        """Positions of events earlier than the one of the same user before them."""
        more = max(len(self.users) - len(self._last), 0)
        self._last = np.concatenate([self._last, np.full(more, MIN_SECONDS)])
        order = np.argsort(user, kind="stable")
        who, when = user[order], time[order]
        fresh = np.r_[True, who[1:] != who[:-1]]
        before = np.where(fresh, self._last[who], np.r_[0, when[:-1]])
        final = np.r_[fresh[1:], True]
        self._last[who[final]] = when[final]
        back: Array = np.sort(order[when < before])
        self.survey.backwards += len(back)
        return back
