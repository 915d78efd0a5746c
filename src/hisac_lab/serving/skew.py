"""Skew between training and serving: requests of the test period asked over HTTP, beside the evaluation's scores."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.config.serve import ServeConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime
from hisac_lab.inference.sides import StoredInstances
from hisac_lab.ops.auc import auc
from hisac_lab.registry.gates import Gate
from hisac_lab.serving.app import make_app
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.service import Service
from hisac_lab.serving.states import SQLiteStates, UserHistory
from hisac_lab.serving.words import LogWords

SLATE = 500
"""Candidates of one request at most; those of a larger one are asked in several."""
WIDE = ServeConfig(max_candidates=1_000_000, max_history=10_000_000, max_body_mb=1024.0, budget_ms=600_000)
"""Settings of a server that turns nothing away for its size."""
SAME_AUC = 5e-5
"""AUCs nearer than this are the same to the four digits that are shown; a tie may fall either way."""
Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Skew:
    """What the server answered beside the evaluation.

    Attributes:
        requests: Requests that were asked, spread evenly over the test period's.
        unanswered: Candidates without a score, or with one from elsewhere than asked.
        history: Largest difference of a score where the request brought the history.
        state: The same where the server knew the user by a state; None: the model's states cannot be kept.
        auc: Area under the ROC curve of the evaluation's scores, of those from histories and of those from states.
    """

    requests: int
    unanswered: int
    history: float
    state: float | None
    auc: tuple[float, ...]

    def gate(self, config: PromotionConfig) -> Gate:
        """Whether the server gives the evaluation's scores and AUC."""
        largest = max(self.history, self.state or 0.0)
        alike = all(abs(one - self.auc[0]) < SAME_AUC for one in self.auc) or bool(np.isnan(self.auc).all())
        from_state = "" if self.state is None else f", from states by {self.state:.1g}"
        says = (
            f"{self.requests} requests over HTTP: scores differ from the evaluation's by {self.history:.1g}"
            f"{from_state}, the limit is {config.max_skew:.1g}; AUC of these alone by each: "
            f"{', '.join(f'{one:.4f}' for one in self.auc)}"
        )
        if self.unanswered:
            says += f"; {self.unanswered} candidates got no score"
        return Gate("max_skew", largest <= config.max_skew and alike and not self.unanswered, says)


def replay(bundle: Path, store: EventStore, count: int, instances: Path | None = None) -> Skew:
    """Asks a server of its own, on this machine, requests of the test period, from histories and from states.

    Args:
        bundle: What it serves.
        store: The log that the bundle's model was evaluated on.
        count: Requests at most.
        instances: Output of the stage `instances`, for a model that reads it.

    Raises:
        UserError: The log is not of the model, or has no request with a history in its test period.
    """
    engine, requests = Engine(bundle, "candidate"), Requests.of(store, store.samples("test"), SLATE)
    rows = np.flatnonzero(requests.lengths)
    if not len(rows):
        raise UserError(store.path, "has no test request with a history", "set promotion.replay_requests to 0", "test")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64))]
    asked = requests.take(rows)
    loader = Loader.of(engine.model, asked, Runtime(torch.device("cpu"), False), instances)
    offline = torch.sigmoid(torch.from_numpy(score(engine.model, loader))).numpy()[asked.mask]
    with tempfile.TemporaryDirectory() as folder:
        service = Service(engine, SQLiteStates(Path(folder) / "states.db"), 0, WIDE.max_history)
        with _listening(make_app(WIDE, service)) as door:
            sides = _served(door, service, _Words(loader, engine))
    differences = [float(np.nanmax(np.abs(scores - offline), initial=0.0)) for scores in sides]
    labels = asked.labels[asked.mask]
    areas = tuple(auc(labels, scores) for scores in (offline, *map(np.nan_to_num, sides)))
    unanswered = sum(int(np.isnan(scores).sum()) for scores in sides)
    return Skew(len(rows), unanswered, differences[0], differences[1] if len(sides) > 1 else None, areas)


class _Words:
    """Requests of a log as they are asked.

    Args:
        loader: The requests, with what the model reads beside the history.
        engine: The model.
    """

    def __init__(self, loader: Loader, engine: Engine) -> None:
        self.requests, self.loader, self.engine = loader.requests, loader, engine
        self.words, self.arrays = LogWords(loader.requests.store), loader.requests.histories()
        self.views = [side.view for side in loader.sides if isinstance(side, StoredInstances)]

    def __len__(self) -> int:
        return len(self.requests)

    def history(self, row: int) -> UserHistory:
        """The history of a request with the columns of its user and of itself; feedback as it was known then."""
        asked, events = self.requests, slice(int(self.requests.start[row]), int(self.requests.end[row]))
        number = -1 if asked.request is None else int(asked.request[row])
        feedback = self.arrays.feedback
        levels = None if feedback is None else feedback[row, self.arrays.mask[row]]
        return self.words.history(events, self.words.columns(int(asked.user[row]), number), levels)

    def slate(self, row: int) -> Body:
        """Time, candidates and what the model reads beside them."""
        asked, real = self.requests, self.requests.mask[row]
        body = {"time": int(asked.time[row]), "candidates": self._ids(asked.candidates[row, real])}
        if self.loader.context is not None and (names := self.engine.reader.context.item_names):
            known = self.loader.context.fetch(asked, np.array([row]), torch.device("cpu"))[0, :, : len(names)]
            body["candidate_context"] = known[torch.from_numpy(real)].tolist()
        return body

    def instances(self, row: int) -> Body:
        """What the instance store answers, where the model reads one."""
        body: Body = {}
        for view in self.views:
            place = np.array([row])
            found = view.fetch(self.requests.user[place], self.requests.time[place])
            real = found.mask[0]
            body["instance_items"] = self._ids(found.items[0, real])
            body["instance_times"] = (int(self.requests.time[row]) - found.ages[0, real]).tolist()
            body["instance_labels"] = found.labels[0, real].tolist()
            body["instance_vectors"] = found.vectors[0, real].tolist()
        return body

    def _ids(self, items: Array) -> list[str]:
        ids: list[str] = self.words.items[items].tolist()
        return ids


def _served(door: HTTPConnection, service: Service, words: _Words) -> list[Array]:
    """Scores of all candidates, from histories and, where states can be kept, from states; NaN where there is none."""
    told = {column.name for column in service.engine.reader.columns}
    sides: list[list[float]] = [[], []]
    for row in range(len(words)):
        history, slate = words.history(row), words.slate(row)
        whole = {name: value for name, value in (history.request() | words.instances(row)).items() if name in told}
        sides[0] += _scores(door, slate | whole, "history")
        if service.engine.stores:
            service.states.fill([(str(row), history)])
            _scores(door, slate | {"user": str(row)}, "stored")
            sides[1] += _scores(door, slate | {"user": str(row)}, "state")
    return [np.array(scores, np.float64) for scores in sides if scores]


def _scores(door: HTTPConnection, body: Mapping[str, Any], read: str) -> list[float]:
    token = os.environ.get(WIDE.token_variable, "")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    door.request("POST", "/score", json.dumps(body), headers)
    reply = json.loads((answer := door.getresponse()).read())
    if answer.status != 200:
        raise UserError("POST /score", str(reply["error"]), "see what the model was trained with", str(answer.status))
    return [np.nan if one is None or reply["read"] != read else one for one in reply["scores"]]


@contextmanager
def _listening(app: FastAPI) -> Iterator[HTTPConnection]:
    """The application on a free port of this machine, and a connection to it."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise UserError("127.0.0.1", "the server did not come up", "see its output above")
        time.sleep(0.01)
    door = HTTPConnection(*server.servers[0].sockets[0].getsockname())
    try:
        yield door
    finally:
        door.close()
        server.should_exit = True
        thread.join()
