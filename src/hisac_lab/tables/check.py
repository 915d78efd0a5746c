"""Looking at an own log before anything runs: what is in it, what is wrong with it, and the mapping that reads it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.errors import UserError
from hisac_lab.config.events import LEFT_OUT, ColumnsConfig
from hisac_lab.tables.beside import check_items, check_users
from hisac_lab.tables.columns import Column
from hisac_lab.tables.feedback import listed, rank, told
from hisac_lab.tables.files import LOG_SUFFIXES, is_parquet, kind_of, logs_in, refuse_pipe
from hisac_lab.tables.guess import Guess, guess_items, guess_log, guess_users
from hisac_lab.tables.layouts.own import event_columns, read_vectors
from hisac_lab.tables.looks import EARLY
from hisac_lab.tables.official import missing, official_name
from hisac_lab.tables.read import header, read
from hisac_lab.tables.survey import DAY, LEVELS, Problem, Survey, Surveyor

SCALE = 21  # feedback with at most so many levels is a scale
FILES_TRIED = 20  # files of a folder that are looked at for the layout


@dataclass
class Check:
    """All that is known of a log after looking at it.

    Attributes:
        path: What was looked at, a file or a folder.
        items_path: The table of items.
        vectors_path: The item vectors.
        users_path: The table of users.
        files: The files of the log.
        log: How the log seems to be written; None: it cannot be read.
        items: How the table of items seems to be written.
        users: How the table of users seems to be written.
        survey: What the log holds.
        problems: What is wrong.
        named: Columns by role that were named, not guessed.
        numbers: Numbers that words of the feedback stand for, as they were named.
        positive: Words of the feedback that were named as positive; all others are negative.
    """

    path: Path
    items_path: Path | None = None
    vectors_path: Path | None = None
    users_path: Path | None = None
    files: list[Path] = field(default_factory=list)
    log: Guess | None = None
    items: Guess | None = None
    users: Guess | None = None
    survey: Survey = field(default_factory=Survey)
    problems: list[Problem] = field(default_factory=list)
    named: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    positive: Sequence[str] = ()

    @property
    def stops(self) -> bool:
        """Whether a run with the proposed mapping would stop."""
        return any(problem.stops for problem in self.problems)

    @property
    def positive_from(self) -> float | None:
        """Where positive feedback seems to begin; None: there is no feedback that tells positives apart."""
        levels = sorted(self.survey.labels)
        if len(levels) < 2:
            return None
        if self.log is not None and self.log.label_values:
            return levels[-1]
        if levels[0] < 0 or levels == [0, 1]:
            return next((level for level in levels if level > 0), levels[-1])
        if len(levels) <= SCALE:  # 4 of 5 stars, 8 of 10
            return next(level for level in levels if level >= 0.8 * levels[-1])
        counts = np.cumsum([self.survey.labels[level] for level in levels])
        return levels[max(int(np.searchsorted(counts, counts[-1] / 2)), 1)]

    def say(self, where: Path, what: str, hint: str, field: str | None = None, stops: bool = True) -> None:
        """Adds a problem."""
        self.problems.append(Problem([str(UserError(where, what, hint, field))], stops=stops))

    @property
    def left_out(self) -> list[str]:
        """Keys of `prepare` that are to leave out what a run would stop at."""
        return sorted({problem.setting for problem in self.problems if problem.setting and not problem.stops})

    def leave_out(self, settings: Collection[str]) -> None:
        """Lets these keys of `prepare` leave out what a run would stop at."""
        for problem in self.problems:
            if problem.stops and problem.setting in settings:
                problem.stops = False
                problem.lines = [line.removesuffix(f"; {problem.hint}") for line in problem.lines]

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Turns an error that ends the reading of a file into a problem."""
        try:
            yield
        except UserError as error:
            self.problems.append(Problem([str(error)]))


def check(
    path: Path,
    items: Path | None = None,
    vectors: Path | None = None,
    users: Path | None = None,
    *,
    named: Mapping[str, str] | None = None,
    numbers: Mapping[str, float] | None = None,
    positive: Sequence[str] = (),
    drop: bool = False,
) -> Check:
    """Looks at a log.

    Args:
        path: A file, or a folder of files with the same columns.
        items: The table of items.
        vectors: Item vectors, one row per row of that table.
        users: The table of users.
        named: Columns of the roles user, item, time and label that are not to be guessed.
        numbers: Numbers that the words of the feedback stand for.
        positive: Words of the feedback that are positive, in place of `numbers`.
        drop: Whether what can be left out is to be, instead of stopping a run.

    Raises:
        UserError: One of them is a pipe.
    """
    for given in (path, items, vectors, users):
        if given is not None:
            refuse_pipe(given)
    checked = Check(path, items, vectors, users, named=named or {}, numbers=numbers or {}, positive=positive)
    with checked.catching():
        _open(checked)
    if checked.log is None or not _readable(checked, checked.log):
        return checked
    if checked.log.label_values or checked.numbers or positive:
        with checked.catching():
            checked.log = replace(checked.log, label_values=_numbers(checked, checked.log))
    columns = event_columns(ColumnsConfig(label=None).model_copy(update=reading(checked.log)))
    surveyor = Surveyor(
        {role: column for role, column in columns.items() if role != "tick"}, checked.log.official is None
    )
    checked.survey = surveyor.survey
    for file in checked.files:
        with checked.catching():
            layout = checked.log.layout if file == checked.log.path else guess_log(file).layout
            checked.problems += surveyor.read(file, layout)
    if checked.survey.rows:
        _judge(checked, checked.log)
    if vectors is not None and items is None:
        checked.say(vectors, "has no item table beside it", "name the table whose rows it follows with --items")
    if items is not None:
        with checked.catching():
            checked.items = guess_items(items, checked.log.roles["item"], checked.survey.items.ids)
            if checked.log.decimal != ".":  # the numbers that are found have a point
                checked.items = replace(checked.items, numbers=(), notes=())
            ids = check_items(checked, checked.log, checked.items)
            for _ in read_vectors(vectors, ids) if vectors is not None else ():
                pass
    if users is not None:
        with checked.catching():
            checked.users = guess_users(users, checked.log.roles["user"])
            check_users(checked, checked.log, checked.users, surveyor.users.ids)
    if drop:
        checked.leave_out(LEFT_OUT)
    return checked


def proposal(checked: Check) -> dict[str, Any]:
    """The sections of the settings that read this log."""
    log, items, survey = checked.log, checked.items, checked.survey
    assert log is not None
    sections: dict[str, Any] = {"acquire": own_source(checked)}
    if log.official is not None:
        folder = checked.path if checked.path.is_dir() else checked.path.parent
        sections = {"acquire": {"dataset": log.official, "path": str(folder)}}
    if not survey.rows:
        return sections
    positive_from, levels = checked.positive_from, sorted(survey.labels)
    columns: dict[str, Any] = reading(log)
    if positive_from is None:
        columns |= {"label": None, "label_values": None}
    scale = positive_from is not None and survey.labels_whole and len(levels) <= SCALE and not log.label_values
    columns["label_range"] = [levels[0], levels[-1]] if scale else None
    if items is not None:
        columns |= {"text": list(items.text), "fields": list(items.fields), "numbers": list(items.numbers)}
    if checked.users is not None:
        columns |= {"user_fields": list(checked.users.fields), "user_numbers": list(checked.users.numbers)}
    columns["separator"] = log.separator or (items.separator if items is not None else None)
    sections["prepare"] = {
        "columns": columns,
        "positive_from": positive_from,
        "order": "sort",
        "duplicates": "drop" if survey.repeated else "refuse",
        "time_unit": "day" if survey.daily else "second",
        "history": "auto",
        **dict.fromkeys(checked.left_out, "drop"),
    }
    if log.official is None and checked.vectors_path is not None:
        sections["embed"] = {"method": "supplied"}
    elif log.official is None and checked.items_path is None:
        sections["embed"] = {"method": "cooccurrence"}
    return sections


def reading(log: Guess) -> dict[str, Any]:
    """The settings of `prepare.columns` that read the events."""
    forms = {"time_format": log.time_format, "decimal": log.decimal, "label_values": log.label_values or None}
    return log.roles | forms


def own_source(checked: Check) -> dict[str, str | None]:
    """The section `acquire` that takes this as an own log."""
    given = {"path": checked.path, "items_path": checked.items_path, "vectors_path": checked.vectors_path}
    if checked.users_path is not None:
        given["users_path"] = checked.users_path
    return {"dataset": "own"} | {name: None if path is None else str(path) for name, path in given.items()}


def _open(checked: Check) -> None:
    """Finds the files and guesses how the log is written; in a folder of an official layout, the log is looked for."""
    beside = {"user": checked.users_path, "item": checked.items_path}
    for path in (checked.path, *beside.values(), checked.vectors_path):
        if path is not None and not path.exists():
            raise UserError(path, "does not exist", "name a file or a folder that is here")
    if not checked.path.is_dir():
        checked.files, checked.log = [checked.path], guess_log(checked.path, beside, checked.named)
        return
    there = [file for file in checked.path.rglob("*") if file.is_file()]
    files = sorted({*logs_in(there), *(file for file in there if official_name(file))})
    if not files:
        raise UserError(checked.path, "holds no tables", "put .csv, .tsv, .jsonl or .parquet files there")
    guesses = [guess_log(file, beside, checked.named) for file in files[:FILES_TRIED]]
    official = [guess for guess in guesses if guess.official is not None]
    checked.log = max(official, key=lambda guess: len(guess.roles)) if official else guesses[0]
    checked.files = [file for file in files if not official or official_name(file) or _same_columns(file, checked.log)]


def _same_columns(path: Path, log: Guess) -> bool:
    return set(log.roles.values()) <= set(header(path, None if is_parquet(path) else log.layout))


def _readable(checked: Check, log: Guess) -> bool:
    """Whether events can be read; says what is in the way."""
    whole = all(role in log.roles for role in ("user", "item", "time"))
    if log.official is not None:
        folder = checked.path if checked.path.is_dir() else checked.path.parent
        for name in missing(log.official, folder):
            hint = "add it, or take the log as an own one with acquire.dataset: own"
            checked.say(folder / name, f"does not exist, and {log.official} needs it", hint)
        return whole
    for role in ("user", "item", "time"):
        if role not in log.roles:
            hint = f"add such a column, or name it with --column {role}=COLUMN"
            checked.say(log.path, f"no column looks like the {role}", hint, "header")
    if not log.has_header:
        checked.say(log.path, "is no header", f"put a line before it, like {log.missing_header!r}", "line 1")
    if kind_of(log.path) not in LOG_SUFFIXES:
        hint = "rename it to .csv, .tsv or .jsonl, with .gz, .zst or .bz2 behind it when it is compressed"
        checked.say(log.path, f"has the suffix {log.path.suffix!r}", hint)
    for role in log.by_value:
        what = f"is taken for the {role} because of its values"
        hint = f"if it is not, name another column with --column {role}=COLUMN"
        checked.say(log.path, what, hint, log.roles[role], stops=False)
    for name, what, hint in log.notes:
        checked.say(log.path, what, hint, name, stops=False)
    words_named = bool(checked.numbers or checked.positive)
    if log.label_values and not words_named:
        hint = "name the words that are positive with --positive WORD where it is wrong"
        checked.say(log.path, told(log.label_values), hint, log.roles["label"], stops=False)
    for name, why in log.doubts.items():
        if name != log.roles.get("label"):
            hint = f"where it is, name it with --column label={name!r}; --positive WORD where words are read wrong"
            checked.say(log.path, f"looks like feedback and is not read: {why}", hint, name, stops=False)
        elif not words_named:
            checked.say(log.path, why, "name each word that is, with --positive WORD", name)
            whole = False
    return whole


def _numbers(checked: Check, log: Guess) -> dict[str, float]:
    """Numbers of the words of the feedback: as they were named, else by what the words say."""
    if checked.numbers:
        return dict(checked.numbers)
    if checked.positive and "label" not in log.roles:
        raise UserError(log.path, "no column is the feedback", "name it with --column label=COLUMN", "--positive")
    words = _distinct(checked, log)
    if not checked.positive:
        return rank(words)
    if strange := next((word for word in checked.positive if word not in words), None):
        what = f"no event has the feedback {strange!r}"
        raise UserError(log.path, what, f"name one of {listed(words)}", f"--positive {log.roles['label']}")
    numbers = {word: float(word in checked.positive) for word in sorted(words) if word.strip()}
    return dict(sorted(numbers.items(), key=lambda entry: entry[1]))


def _distinct(checked: Check, log: Guess) -> list[str]:
    """All words of the feedback, as far as there are few."""
    words: dict[str, None] = {}
    for file in checked.files:
        for block in read(file, {"label": Column(log.roles["label"], "text")}, log.layout):
            words |= dict.fromkeys(block.columns["label"].unique().to_pylist())
            if len(words) > LEVELS:
                break
    return list(words)


def _judge(checked: Check, log: Guess) -> None:
    """What only the whole log shows."""
    survey, path, roles = checked.survey, checked.path, log.roles
    if len(survey.items) < 2:
        what = f"the log has one item ({survey.items.ids[0]!r}): there is nothing to rank"
        checked.say(path, what, "give a log of more items", roles["item"])
    if survey.first == survey.last:
        what = f"every event has the time {survey.first}: there is no before and after"
        checked.say(path, what, "give the times of the events", roles["time"])
    elif survey.first < EARLY:
        what = f"the first time is {survey.first} seconds, in {str(np.datetime64(survey.first, 's'))[:4]}"
        checked.say(path, what, "check that times count from 1970", roles["time"], stops=False)
    if survey.last > time.time() + DAY:
        what = f"the last time is {np.datetime64(survey.last, 's')} UTC, which is yet to come"
        checked.say(path, what, "check the format of times", roles["time"], stops=False)
    if survey.daily and survey.latest:
        what = f"lies at most {survey.latest} seconds after midnight in every event: an order within the day, no time"
        checked.say(path, what, "prepare.time_unit: day keeps events of one day from seeing each other", roles["time"],
                  stops=False)  # fmt: skip
    if len(survey.labels) == 1:
        what = f"every event has the value {next(iter(survey.labels)):g}, so it tells nothing apart"
        checked.say(path, what, "with label: null every event is a positive", roles["label"], stops=False)
    if survey.items.ids[0].endswith(".0") and all(name.endswith(".0") for name in survey.items.ids):
        what = f"all ids look like {survey.items.ids[0]!r}: integers that became floats"
        checked.say(
            path, what, "write them as integers, or they will not match other tables", roles["item"], stops=False
        )
