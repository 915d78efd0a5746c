"""A request as a served model is asked it: its columns, declared once, and what the model reads of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hisac_lab.base.errors import UserError
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.feedback import UNKNOWN as NO_FEEDBACK
from hisac_lab.events.feedback import Levels
from hisac_lab.events.instances import NEGATIVE, POSITIVE, UNKNOWN, InstanceArrays, InstanceQuery
from hisac_lab.events.series import Counter
from hisac_lab.events.side_columns import SideColumns
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History
from hisac_lab.models.instances import Instances

MODEL_INPUT = "model input"
LATEST = 4_102_444_800  # begin of the year 2100, in seconds
Ids: TypeAlias = npt.NDArray[np.int64]


class Column(NamedTuple):
    """A column of a request: its name, what stands in it, and whether it may be left out."""

    name: str
    kind: Literal["id", "integer", "value", "vector"]
    many: bool = True
    required: bool = True


REQUEST = (
    Column("history_items", "id"),
    Column("history_times", "integer"),
    Column("time", "integer", many=False),
    Column("candidates", "id"),
)
FEEDBACK = Column("history_feedback", "value", required=False)
CONTEXT = Column("candidate_context", "vector", required=False)
INSTANCES = (
    Column("instance_items", "id"),
    Column("instance_times", "integer"),
    Column("instance_labels", "integer"),
    Column("instance_vectors", "vector"),
)


Told = Mapping[str, SideColumns]
"""What a model is told of user and request, by side."""


def columns(
    sides: Collection[str], levels: Levels | None = None, context: bool = False, told: Told = MappingProxyType({})
) -> tuple[Column, ...]:
    """Columns of a request to a model with these side inputs; agents and the time come of the history's own.

    Args:
        sides: Names of the side inputs.
        levels: Of the feedback that the model reads; None: it reads none.
        context: Whether it reads item series.
        told: The data set's own columns that it reads, by side: `user_age`, `request_device`, and the like.
    """
    own = (
        Column(f"{side}_{name}", "value", many=False, required=False)
        for side, known in told.items()
        for name in known.names
    )
    told_too = (() if levels is None else (FEEDBACK,)) + ((CONTEXT,) if context else ()) + tuple(own)
    return REQUEST + told_too + (INSTANCES if "instances" in sides else ())


@dataclass(frozen=True)
class Asked:
    """One request in numbers.

    Attributes:
        items: Known items of the history, oldest first; (L,) int64.
        ages: Seconds from each to the request; (L,) int64.
        feedback: Level of the feedback on each, 0 where it is unknown; (L,) int64.
        time: When it is made, seconds.
        candidates: (C,) int64, -1 where the model knows no such item.
        unknown: Events of the history that were left out, since the model knows no such item.
        instances: What the model reads of an instance store, one row; None where it reads none.
        context: Columns of the candidates' items that came with the request; (C, I) float64. None: none came.
        told: The data set's own columns of user and request, by side; (1, W) float32 each.
    """

    items: Ids
    ages: Ids
    feedback: Ids
    time: int
    candidates: Ids
    unknown: int
    instances: InstanceArrays | None
    context: npt.NDArray[np.float64] | None = None
    told: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


class RequestReader:
    """Turns requests into what one model reads.

    Args:
        model: It is about to score them.
        items: Item ids in the order of their numbers.
        limit: How many events of a history the model reads, the newest.
        counters: What counts the events of items, by series; without them, requests that need it bring their own.
    """

    def __init__(
        self, model: Ranker, items: list[str], limit: int, counters: Mapping[str, Counter] = MappingProxyType({})
    ) -> None:
        self.sides, self.limit = model.sides, limit
        self.reads, self.levels = model.reads, model.levels
        self.context, self.counters = model.context_columns, counters
        self.told = model.user_features.own
        self.columns = columns(model.sides, model.levels, bool(self.context.item_names), self.told)
        self.number = {item: place for place, item in enumerate(items)}

    def read(self, row: int, request: Mapping[Any, Any]) -> Asked:
        """Checks one request; events and candidates that the model does not know are no fault.

        Args:
            row: Its number, for messages.
            request: A value for each column but those that may be left out.

        Raises:
            UserError: Values do not fit each other or the model; times are not in seconds, in order and before the
                request.
        """
        time = self._integers(row, "time", [request["time"]])[0]
        ids, times = list(request["history_items"]), self._integers(row, "history_times", request["history_times"])
        if len(ids) != len(times):
            raise _fault(row, "history_times", f"{len(times)} times for {len(ids)} items", "give one time per event")
        self._check_times(row, "history_times", times, int(time))
        candidates = self._candidates(row, request)
        numbers = self._numbers(ids)
        in_vocabulary = numbers >= 0
        events = (numbers, time - times, self._feedback(row, request.get(FEEDBACK.name), len(ids)))
        items, ages, feedback = (part[in_vocabulary][-self.limit :] for part in events)
        instances = None if self.reads is None else self._instances(row, request, int(time), self.reads)
        context = self._context(row, request.get(CONTEXT.name), len(candidates))
        told = {side: self._told(row, side, request) for side in self.told}
        unknown = int((~in_vocabulary).sum())
        return Asked(items, ages, feedback, int(time), candidates, unknown, instances, context, told)

    def read_slate(self, row: int, request: Mapping[Any, Any]) -> Asked:
        """Checks a request whose user is known by a state: it brings candidates and the time, and no history.

        Raises:
            UserError: As `read`.
        """
        time = self._integers(row, "time", [request["time"]])[0]
        candidates, nothing = self._candidates(row, request), np.zeros(0, np.int64)
        context = self._context(row, request.get(CONTEXT.name), len(candidates))
        told = {side: self._told(row, side, request) for side in self.told}
        return Asked(nothing, nothing, nothing, int(time), candidates, 0, None, context, told)

    def check_events(self, times: Sequence[int], feedback: Sequence[Any]) -> None:
        """Checks events that a history is about to take in, in any order.

        Args:
            times: Seconds.
            feedback: Value of each as in the log, None where it is unknown.

        Raises:
            UserError: A time or a value is none.
        """
        self._check_times(0, "history_times", np.sort(self._integers(0, "history_times", times)), LATEST)
        self._feedback(0, feedback, len(times))

    def slate(self, asked: Asked, items: Ids, times: Ids, feedback: Ids) -> tuple[Tensor, Tensor | None]:
        """Candidates of one request, and what the model reads of them, given the events of its user.

        Args:
            asked: The request.
            items: Of the user's events, oldest first; (L,) int64.
            times: Their times, seconds; (L,) int64.
            feedback: Levels of the feedback on them; (L,) int64.

        Returns:
            (1, C) int64, 0 where unknown; (1, C, F) float32 or None.
        """
        candidates = np.maximum(asked.candidates, 0)[None]
        met = np.flatnonzero(np.isin(items, candidates))  # the only ones that columns of pairs look at
        ages, there = asked.time - times[met], np.ones((1, len(met)), bool)
        events = HistoryArrays(items[met][None], ages[None], there, feedback[met][None])
        return torch.from_numpy(candidates), self._context_of([asked], events, candidates)

    def _candidates(self, row: int, request: Mapping[Any, Any]) -> Ids:
        candidates = self._numbers(request["candidates"])
        if not len(candidates):
            raise _fault(row, "candidates", "value [] asks for nothing", "name at least one item")
        return candidates

    def batch(self, asked: Sequence[Asked]) -> tuple[History, Tensor, Tensor | None]:
        """Histories of R requests, their candidates, and what the model reads of these.

        Returns:
            Histories; (R, C) int64, 0 where unknown or beyond a request's own; (R, C, F) float32 or None.
        """
        items, mask = _left([one.items for one in asked])
        ages, _ = _left([one.ages for one in asked])
        feedback, _ = _left([one.feedback for one in asked])
        arrays = HistoryArrays(items, ages, mask, feedback)
        history = History.of(arrays)
        if "time" in self.sides:
            history = replace(history, time=torch.tensor([one.time for one in asked]))
        told: dict[str, Any] = {
            side: torch.from_numpy(np.concatenate([one.told[side] for one in asked])) for side in self.told
        }
        history = replace(history, **told)
        if self.reads is not None:
            past = [one.instances for one in asked if one.instances is not None]
            names = ("items", "ages", "labels")
            columns = {name: _left([getattr(one, name)[0] for one in past])[0] for name in names}
            there = _left([np.ones(one.items.shape[1], np.int64) for one in past])[1]
            vectors = np.zeros((*there.shape, self.reads.dim), np.float32)
            vectors[there] = np.concatenate([one.vectors[0] for one in past])
            columns["labels"] = np.where(there, columns["labels"], UNKNOWN)
            stored = InstanceArrays(vectors, columns["items"], columns["ages"], columns["labels"], there)
            history = replace(history, instances=Instances.of(stored))
        candidates = np.zeros((len(asked), max(len(one.candidates) for one in asked)), np.int64)
        for row, request in enumerate(asked):
            candidates[row, : len(request.candidates)] = np.maximum(request.candidates, 0)
        return history, torch.from_numpy(candidates), self._context_of(asked, arrays, candidates)

    def _context_of(self, asked: Sequence[Asked], history: HistoryArrays, candidates: Ids) -> Tensor | None:
        """Context of (R, C) candidates: what requests brought of their items, else what the counters know."""
        if not self.context.names:
            return None
        if self.counters:
            about = self.context.of_items(self.counters, candidates, np.array([one.time for one in asked]))
        else:
            about = np.zeros((*candidates.shape, len(self.context.item_names)))
        for row, one in enumerate(asked):
            if one.context is not None:
                about[row, : len(one.context)] = one.context
        pairs = self.context.of_pairs(history, candidates)
        return torch.from_numpy(np.concatenate([about, pairs], axis=2).astype(np.float32))

    def _context(self, row: int, given: Any, count: int) -> npt.NDArray[np.float64] | None:
        """What a request brings of its candidates' items; None where that is nothing, or nothing is read."""
        names = self.context.item_names
        if not names:
            return None
        hint = f"give for each candidate the numbers {', '.join(names)}"
        if given is None or np.isscalar(given):  # as feedback that is left out
            if not self.counters:
                raise _fault(row, CONTEXT.name, "is missing, and the model has no counts of its own", hint)
            return None
        try:
            values = np.array([list(one) for one in given], np.float64).reshape(-1, len(names))
        except (TypeError, ValueError) as error:
            raise _fault(row, CONTEXT.name, "holds other than numbers, or not as many", hint) from error
        if len(values) != count or not np.isfinite(values).all():
            raise _fault(row, CONTEXT.name, f"{len(values)} rows of numbers for {count} candidates", hint)
        return values

    def _told(self, row: int, side: str, request: Mapping[Any, Any]) -> npt.NDArray[np.float32]:
        """The data set's own columns of one side; what a request leaves out is unknown."""
        known = self.told[side]
        try:
            found: npt.NDArray[np.float32] = known.row({name: request.get(f"{side}_{name}") for name in known.names})
        except ValueError as error:
            name = f"{side}_{error}"
            what = f"value {request.get(name)!r} is no number"
            raise _fault(row, name, what, "give a number, or leave it out where it is unknown") from error
        return found

    def _instances(self, row: int, request: Mapping[Any, Any], time: int, reads: InstanceQuery) -> InstanceArrays:
        numbers = self._numbers(request["instance_items"])
        times = self._integers(row, "instance_times", request["instance_times"])
        labels = self._integers(row, "instance_labels", request["instance_labels"])
        rows = [np.asarray(one, np.float32) for one in request["instance_vectors"]]
        fit = len(numbers) == len(times) == len(labels) == len(rows)
        if not fit or not {len(one) for one in rows} <= {reads.dim}:
            what = f"{len(numbers)} items, {len(times)} times, {len(labels)} labels and {len(rows)} vectors do not fit"
            raise _fault(row, "instance_vectors", what, f"give one of each, vectors of {reads.dim} numbers")
        self._check_times(row, "instance_times", times, time)
        wrong = labels[~np.isin(labels, (NEGATIVE, POSITIVE, UNKNOWN))]
        if len(wrong):
            hint = "give 0, 1, or 2 where it is not known yet"
            raise _fault(row, "instance_labels", f"value {wrong[0]} is no label", hint)
        vectors = np.stack(rows) if rows else np.zeros((0, reads.dim), np.float32)
        last = np.flatnonzero(numbers >= 0)[-reads.count :]
        mask = np.ones((1, len(last)), bool)
        return InstanceArrays(
            vectors[None, last], numbers[None, last], (time - times)[None, last], labels[None, last], mask
        )

    def _feedback(self, row: int, given: Any, count: int) -> Ids:
        """The level of each event's feedback, from the values of the log; unknown where none is given."""
        if self.levels is None or given is None or np.isscalar(given):  # a frame has NaN where other rows have a list
            return np.full(count, NO_FEEDBACK, np.int64)
        values, numbers = list(given), list[float]()
        if len(values) != count:
            hint = "give one per event, null where it is unknown"
            raise _fault(row, FEEDBACK.name, f"{len(values)} values for {count} items", hint)
        for value in values:
            try:
                numbers.append(self.levels.number(value))
            except (KeyError, TypeError, ValueError) as error:
                known = "a number" if self.levels.words is None else f"one of {', '.join(self.levels.words)}"
                hint = f"give {known} as in the log, null where it is unknown"
                raise _fault(row, FEEDBACK.name, f"value {value!r} is no feedback", hint) from error
        return self.levels.codes(np.array(numbers, np.float64)).astype(np.int64)

    def _check_times(self, row: int, name: str, times: Ids, time: int) -> None:
        if max(time, *times.tolist(), 0) > LATEST:
            hint = "give seconds since 1970, not parts of them"
            raise _fault(row, name, f"value {max(time, *times.tolist())} is beyond the year 2100", hint)
        if (times >= time).any():
            late = times[times >= time][0]
            hint = "leave out what is at or after `time`"
            raise _fault(row, name, f"value {late} is not before the request, at {time}", hint)
        if (np.diff(times) < 0).any():
            at = int(np.flatnonzero(np.diff(times) < 0)[0])
            raise _fault(row, name, f"value {times[at]} stands before {times[at + 1]}", "give the oldest first")

    def _integers(self, row: int, name: str, values: Any) -> Ids:
        try:
            return np.asarray(list(values), np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise _fault(row, name, f"{values!r} holds no whole numbers", "give seconds, or labels 0, 1, 2") from error

    def _numbers(self, ids: Any) -> Ids:
        return np.array([self._number_of(str(item)) for item in ids], np.int64)

    def _number_of(self, item: str) -> int:
        """An id as it stands, else as an own log is read: without blanks around it, its Unicode composed (NFC)."""
        known = self.number.get(item)
        return self.number.get(unicodedata.normalize("NFC", item.strip()), -1) if known is None else known


Scores: TypeAlias = list[float | None]


def scores_of(asked: Asked, chances: Sequence[float]) -> Scores:
    """The chances of its candidates in their order, None for an item that the model does not know."""
    return [None if number < 0 else chance for number, chance in zip(asked.candidates.tolist(), chances, strict=False)]


Answer: TypeAlias = dict[str, Scores]
"""Scores by what they are called, `scores` first: see `answer_names`."""


def answer_of(asked: Asked, chances: Tensor, tasks: Sequence[str]) -> Answer:
    """What is answered to one request.

    Args:
        asked: The request, with C candidates.
        chances: Of the label and of each further answer; (at least C, 1 + T).
        tasks: Names of the further answers, T of them.
    """
    return {
        name: scores_of(asked, column) for name, column in zip(answer_names(tasks), chances.T.tolist(), strict=True)
    }


def answer_names(tasks: Sequence[str]) -> tuple[str, ...]:
    """What scores are called in an answer: those of the label, then those of each further answer."""
    return ("scores", *(f"scores_{name}" for name in tasks))


def nothing(asked: Asked) -> Scores:
    """The answer where no event of the history is known."""
    return [None] * len(asked.candidates)


NO_EVENT = "no event of the history is known: rank by popularity"


def note_on(scores: Scores) -> str:
    """Why scores are None, or nothing."""
    unknown = sum(score is None for score in scores)
    return f"{unknown} of {len(scores)} candidates are unknown to this model" if unknown else ""


def _left(rows: Sequence[Ids]) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Rows of any length, padded on the left with zeros to the longest (at least 1), and where they are real."""
    width = max(1, *(len(part) for part in rows))
    mask = np.arange(width) >= width - np.array([len(part) for part in rows])[:, None]
    padded = np.zeros(mask.shape, np.int64)
    padded[mask] = np.concatenate(rows)
    return padded, mask


def _fault(row: int, name: str, what: str, hint: str) -> UserError:
    return UserError(MODEL_INPUT, what, hint, f"row {row}: {name}")
