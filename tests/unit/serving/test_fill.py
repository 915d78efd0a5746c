"""Users of a prepared log in the store; answers from their states are the scores of the offline evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import bundle_of_log
from fastapi.testclient import TestClient
from kit import CPU

from hisac_lab.config.serve import ServeConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import ItemSpace
from hisac_lab.serving.app import make_app
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.fill import encode_all, histories
from hisac_lab.serving.kept import KeptState
from hisac_lab.serving.service import Service
from hisac_lab.serving.states import SQLiteStates

WAIT = 3_600


@pytest.fixture
def filled(model: Ranker, items: ItemSpace, store: EventStore, tmp_path: Path) -> Service:
    """A server of it, which knows all users of the log."""
    home = bundle_of_log(tmp_path / "bundle", model, "hisac", items, store)
    states = SQLiteStates(tmp_path / "states.db")
    assert states.fill(histories(store)) == len(store.user_ids)
    return Service(Engine(home, "1"), states, WAIT, store.limit)


def later(store: EventStore) -> Requests:
    """A request of every user after the log's end; the first candidate is the newest item of the history."""
    users = np.flatnonzero(np.diff(store.offsets))
    start, end = np.maximum(store.offsets[users], store.offsets[users + 1] - store.limit), store.offsets[users + 1]
    time = np.full(len(users), int(store.manifest.splits["test"].last) + WAIT)
    candidates = np.random.default_rng(0).integers(0, store.manifest.items, (len(users), 5))
    candidates[:, 0] = store.items[end - 1]
    full = np.ones(candidates.shape, bool)
    return Requests(store, start, end, time, candidates, full.astype(np.float32), full, candidates, users)


def questions(requests: Requests) -> list[dict[str, Any]]:
    names, ids = requests.store.item_table["item"].to_numpy(), requests.store.user_ids
    return [
        {"user": str(ids[user]), "time": int(time), "candidates": names[candidates].tolist()}
        for user, time, candidates in zip(requests.user, requests.time, requests.candidates, strict=True)
    ]


@pytest.mark.parametrize("encoded", [False, True])
def test_users_of_the_log_get_over_http_the_scores_of_the_evaluation(
    filled: Service, model: Ranker, store: EventStore, encoded: bool
) -> None:
    requests = later(store)
    assert store.manifest.label_delay < WAIT
    if encoded:
        users = [str(user) for user in store.user_ids]
        assert sum(encode_all(filled.engine, filled.states, users, int(requests.time[0]))) == len(users)
    wanted = torch.sigmoid(torch.from_numpy(score(model, Loader.of(model, requests, CPU)))).numpy()
    with TestClient(make_app(ServeConfig(budget_ms=60_000), filled)) as client:
        replies = [client.post("/score", json=question).json() for question in questions(requests)]
    assert {reply["read"] for reply in replies} == {"state" if encoded else "stored"}
    np.testing.assert_allclose([reply["scores"] for reply in replies], wanted, atol=1e-6)
    assert wanted.std() > 1e-3


def test_a_state_holds_the_events_that_pairs_are_counted_from(filled: Service, store: EventStore) -> None:
    requests = later(store)
    question = questions(requests)[0]
    filled.replies([question])
    digest, user = filled.engine.digest, question["user"]
    kept = KeptState.unpack(filled.states.state(user, digest) or b"", digest, user)
    events = slice(int(requests.start[0]), int(requests.end[0]))
    assert kept.items.tolist() == store.items[events].tolist()
    assert kept.times.tolist() == store.times[events].tolist()
    assert store.feedback is not None
    assert kept.feedback.tolist() == store.feedback[events].tolist()


def test_users_with_events_after_the_moment_keep_no_state(filled: Service, store: EventStore) -> None:
    users = [str(user) for user in store.user_ids]
    first = int(np.asarray(store.times).min())
    assert sum(encode_all(filled.engine, filled.states, users, first)) == len(users)
    assert all(filled.states.state(user, filled.engine.digest) is None for user in users)
