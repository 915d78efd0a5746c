"""Many users at once, in bounded memory: the best of the candidates for each.

Users pass in groups, each sorted by the length of histories and encoded in batches; candidates pass in chunks, of which
the best so far are kept. So memory grows neither with users nor with candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.feedback import UNKNOWN
from hisac_lab.events.store import EventStore
from hisac_lab.inference.request import Asked
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.states import UserHistory

GROUP = 2_048
"""Users that are sorted by length together."""
AT_ONCE = 64
"""Users of one pass."""
CHUNK = 2_048
"""Candidates of one pass at most."""
CELLS = 1 << 23
"""Users times candidates times events of one pass, where the model counts a pair's own events."""
NO_ITEM = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Best:
    """The best candidates of a group of users.

    Attributes:
        users: Ids of those that have any, N.
        items: Numbers of the items, best first, -1 where there are no more; (N, k) int64.
        scores: Click probabilities; (N, k) float32.
        left_out: Users of the group without any event that the model knows.
    """

    users: list[str]
    items: Array
    scores: Array
    left_out: int


class Bulk:
    """One question to many users: which of these candidates are best.

    Args:
        engine: What scores.
        slate: Numbers of the candidates, each once; of equal scores the first comes first; (C,) int64.
        time: Of the requests, seconds.
        top: How many are kept of a user.
        seen: Whether items of a user's history are candidates, too.

    Raises:
        UserError: The model reads what no bundle holds.
    """

    def __init__(self, engine: Engine, slate: Array, time: int, top: int, seen: bool = False) -> None:
        if not engine.stores:
            what = f"version {engine.version} reads stored instances, which are not in its bundle"
            raise UserError("score", what, "rank with the Python interface, `Model.rank`")
        self.engine, self.slate, self.top, self.seen = engine, slate, top, seen
        reader = engine.reader
        self.about = np.zeros((1, len(slate), len(reader.context.item_names)), np.float32)
        if reader.counters:  # of one time, so the same for every user
            self.about = reader.context.of_items(reader.counters, slate[None], np.array([time])).astype(np.float32)
        self.place = np.full(len(reader.number), -1)
        self.place[slate] = np.arange(len(slate))

    def best(self, people: Iterable[tuple[str, Asked]]) -> Iterator[Best]:
        """Ranks users, a group at a time, in the order they come.

        Args:
            people: Ids with requests, whose candidates are not looked at.
        """
        width = min(self.top, len(self.slate))
        people = iter(people)
        while group := list(itertools.islice(people, GROUP)):
            known = [one for one in group if len(one[1].items)]
            items, scores = np.full((len(known), width), -1), np.zeros((len(known), width), np.float32)
            order = sorted(range(len(known)), key=lambda row: len(known[row][1].items))
            for begin in range(0, len(order), AT_ONCE):
                rows = order[begin : begin + AT_ONCE]
                items[rows], scores[rows] = self._pass([known[row][1] for row in rows])
            yield Best([user for user, _ in known], items, scores, len(group) - len(known))

    @arithmetic.one_thread()
    @torch.inference_mode()
    def _pass(self, asked: Sequence[Asked]) -> tuple[Array, Array]:
        """The best of the slate for R users: numbers of items, (R, k), and their scores."""
        reader, model = self.engine.reader, self.engine.model
        history, _, _ = reader.batch(asked)
        state = model.encode(history)
        arrays = HistoryArrays(
            *(part.numpy() for part in (history.items, history.ages, history.mask, history.feedback))
        )
        row, event = np.nonzero(arrays.mask)
        column = self.place[arrays.items[row, event]]
        width = min(CHUNK, max(1, CELLS // arrays.items.size)) if reader.context.pair_names else CHUNK
        scores = torch.full((len(asked), 0), -torch.inf)
        places = torch.zeros((len(asked), 0), dtype=torch.int64)
        for begin in range(0, len(self.slate), width):
            logits = model.score(state, *self._chunk(arrays, begin, width)).float()
            if not self.seen:
                here = (column >= begin) & (column < begin + logits.shape[1])
                logits[row[here], column[here] - begin] = -torch.inf
            there = torch.arange(begin, begin + logits.shape[1]).expand_as(logits)
            scores, order = torch.cat([scores, logits], 1).sort(dim=1, descending=True, stable=True)
            scores, order = scores[:, : self.top], order[:, : self.top]
            places = torch.cat([places, there], 1).gather(1, order)
        items = np.where(torch.isfinite(scores).numpy(), self.slate[places.numpy()], -1)
        return items, torch.sigmoid(scores).numpy()

    def _chunk(self, arrays: HistoryArrays, begin: int, width: int) -> tuple[Tensor, Tensor | None]:
        """Candidates of R users from `begin` on, and what the model is told of them; (R, c) and (R, c, F)."""
        part, context = self.slate[begin : begin + width], self.engine.reader.context
        shape = (len(arrays.items), len(part))
        candidates = np.broadcast_to(part, shape)
        if not context.names:
            return torch.from_numpy(candidates.copy()), None
        about = np.broadcast_to(self.about[:, begin : begin + width], (*shape, self.about.shape[2]))
        told = np.concatenate([about, context.of_pairs(arrays, candidates)], axis=2).astype(np.float32)
        return torch.from_numpy(candidates.copy()), torch.from_numpy(told)


def from_log(engine: Engine, store: EventStore, users: Iterable[int], time: int) -> Iterator[tuple[str, Asked]]:
    """Users of a prepared log as requests at a time: with what the log says of them, and what was known by then.

    Args:
        engine: What is about to score them.
        store: The log; its items may be others than the engine's.
        users: Their numbers.
        time: Seconds; the history is what lies before it.
    """
    reader, ids = engine.reader, store.user_ids
    number = np.array([reader.number.get(str(item), -1) for item in store.item_table["item"]], np.int64)
    level, there = np.full(256, UNKNOWN, np.int64), store.manifest.feedback
    if reader.levels is not None and there is not None:
        level[1 : len(there) + 1] = reader.levels.codes(np.array(there.begins, np.float64))
    table = store.side("user") if reader.told.get("user") == store.manifest.context.user else None
    blank = {side: known.row({}) for side, known in reader.told.items()}
    for user in users:
        end = int(store.offsets[user + 1])
        times = np.asarray(store.times[store.offsets[user] : end])
        end -= len(times) - int(np.searchsorted(times, time))
        events = slice(max(int(store.offsets[user]), end - store.limit), end)
        items, ages = number[np.asarray(store.items[events])], time - np.asarray(store.times[events])
        feedback = np.zeros_like(items) if store.feedback is None else level[np.asarray(store.feedback[events])]
        feedback = np.where(ages < store.manifest.label_delay, UNKNOWN, feedback)
        known = items >= 0
        items, ages, feedback = (part[known][-reader.limit :] for part in (items, ages, feedback))
        told = blank if table is None or "user" not in blank else {**blank, "user": table.rows(np.array([user]))}
        yield str(ids[user]), Asked(items, ages, feedback, time, NO_ITEM, int((~known).sum()), None, told=told)


def from_histories(engine: Engine, people: Iterable[tuple[str, UserHistory]], time: int) -> Iterator[tuple[str, Asked]]:
    """Users with their events in ids of the log as requests at a time; the history is what lies before it."""
    for row, (user, history) in enumerate(people):
        request = history.before(time).request() | {"time": time, "candidates": [""]}
        yield user, engine.reader.read(row, request)


def encoded(engine: Engine, people: Iterable[tuple[str, Asked]]) -> Iterator[list[tuple[str, int, bytes]]]:
    """States of users as safetensors, a group at a time; those without an event that is known have none.

    Yields:
        Id, known events and state of each user.
    """
    people = iter(people)
    while group := list(itertools.islice(people, GROUP)):
        known = sorted((one for one in group if len(one[1].items)), key=lambda one: len(one[1].items))
        states = list[tuple[str, int, bytes]]()
        for begin in range(0, len(known), AT_ONCE):
            part = known[begin : begin + AT_ONCE]
            with arithmetic.one_thread():
                kept = engine.encode([asked for _, asked in part])
            states += [(user, len(one.items), state.body()) for (user, one), state in zip(part, kept, strict=True)]
        yield states


def alive(engine: Engine, store: EventStore, time: int) -> Array:
    """Numbers of the items that the engine knows and that had an event in the log before a time; rising, (C,) int64."""
    seen = np.zeros(store.manifest.items, bool)
    for begin in range(0, len(store.items), 1 << 22):
        part = slice(begin, begin + (1 << 22))
        seen[np.asarray(store.items[part])[np.asarray(store.times[part]) < time]] = True
    ids = store.item_table["item"].to_numpy()[seen]
    return np.sort(
        np.array([known for item in ids if (known := engine.reader.number.get(str(item), -1)) >= 0], np.int64)
    )
