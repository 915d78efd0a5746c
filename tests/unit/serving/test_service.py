"""What is answered: from a history, from a state, from a stored history, or with nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundles import SPACE, bundle, reply_of
from kit import BACKBONE, ITEMS, MODELS, says

from hisac_lab.base.errors import UserError
from hisac_lab.config.serve import ServeConfig
from hisac_lab.events.records import ContextFacts
from hisac_lab.events.side_columns import Category, SideColumns
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.inference.request import NO_EVENT
from hisac_lab.models.catalog import build
from hisac_lab.models.fitted import Fitted
from hisac_lab.registry.served import ServedRanker
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.questions import form_of
from hisac_lab.serving.service import NO_USER, Reply, Service
from hisac_lab.serving.states import SQLiteStates, UserHistory

NOW = 1_000_000
CANDIDATES = ["i5", "i6", "nowhere", "i7"]
EVENTS = UserHistory(["i1", "i2", "i5"], [10, 20, 30], [None] * 3)
REQUEST: dict[str, Any] = {**EVENTS.request(), "time": NOW, "candidates": CANDIDATES}


def _close(one: list[float | None], other: list[float | None]) -> bool:
    assert [score is None for score in one] == [score is None for score in other]
    return np.allclose([score or 0 for score in one], [score or 0 for score in other], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_answers_alike_from_history_state_and_as_a_registered_version(
    name: str, tmp_path: Path, states: SQLiteStates
) -> None:
    home = bundle(tmp_path / "bundle", name)
    service = Service(Engine(home, "1"), states, 300, 100, now=lambda: float(NOW))
    service.append("u", EVENTS)
    told = reply_of(service, **REQUEST)
    stored = reply_of(service, user="u", candidates=CANDIDATES)
    kept = reply_of(service, user="u", candidates=CANDIDATES)
    assert [told.read, stored.read, kept.read] == ["history", "stored", "state"]
    registered = ServedRanker()
    registered.load_context(SimpleNamespace(artifacts={"bundle": str(home)}))
    (scores,) = registered.predict(None, pd.DataFrame([REQUEST]))["scores"]
    unfitted = isinstance(service.engine.model, Fitted)
    assert (len({score for score in scores if score is not None}) > 1) != unfitted
    for reply in (told, stored, kept):
        assert _close(reply.scores, scores)
        assert reply.note == "1 of 4 candidates are unknown to this model"


def test_requests_of_other_lengths_in_one_pass_are_answered_as_alone(service: Service) -> None:
    requests = [
        {**REQUEST, "history_items": ["i1"] * n, "history_times": list(range(n)), "history_feedback": None}
        for n in (1, 40, 7)
    ]
    alone = [reply_of(service, **request).scores for request in requests]
    together = service.replies(requests)
    assert all(_close(reply.scores, one) for reply, one in zip(together, alone, strict=True))  # type: ignore[union-attr]


def test_what_is_wrong_with_one_request_leaves_the_others_alone(service: Service) -> None:
    wrong = {**REQUEST, "history_times": [1]}
    good, bad, nobody = service.replies([REQUEST, wrong, {"user": "x", "candidates": CANDIDATES}])
    assert isinstance(good, Reply)
    assert isinstance(bad, UserError)
    assert "1 times for 3 items" in str(bad)
    assert isinstance(nobody, Reply)
    assert (nobody.note, nobody.read, nobody.scores) == (NO_USER, "nothing", [None] * 4)


def test_a_history_of_unknown_items_gets_no_scores(service: Service) -> None:
    reply = reply_of(service, history_items=["?"], history_times=[1], time=NOW, candidates=["i1"])
    assert (reply.scores, reply.unknown_events, reply.note) == ([None], 1, NO_EVENT)


def test_a_state_answers_as_long_as_it_is_fresh_and_then_is_made_anew(service: Service) -> None:
    service.append("u", EVENTS)
    first = reply_of(service, user="u", time=NOW, candidates=CANDIDATES)
    fresh = reply_of(service, user="u", time=NOW + 300, candidates=CANDIDATES)
    old = reply_of(service, user="u", time=NOW + 301, candidates=CANDIDATES)
    assert [(reply.read, reply.state_time) for reply in (first, fresh, old)] == [
        ("stored", NOW),
        ("state", NOW),
        ("stored", NOW + 301),
    ]
    assert _close(old.scores, reply_of(service, **REQUEST | {"time": NOW + 301}).scores)


def test_new_events_are_seen_by_the_next_request(service: Service) -> None:
    service.append("u", EVENTS)
    before = reply_of(service, user="u", candidates=CANDIDATES)
    assert service.append("u", UserHistory(["i9"], [NOW - 5], [None])) == 4
    after = reply_of(service, user="u", candidates=CANDIDATES)
    items, times = [*EVENTS.items, "i9"], [*EVENTS.times, NOW - 5]
    whole = reply_of(service, history_items=items, history_times=times, time=NOW, candidates=CANDIDATES)
    assert _close(after.scores, whole.scores)
    assert not _close(after.scores, before.scores)


def test_a_request_of_the_past_sees_no_event_after_it_and_leaves_no_state(service: Service) -> None:
    service.append("u", EVENTS)
    past = reply_of(service, user="u", time=25, candidates=CANDIDATES)
    told = reply_of(service, history_items=["i1", "i2"], history_times=[10, 20], time=25, candidates=CANDIDATES)
    assert _close(past.scores, told.scores)
    assert service.states.state("u", service.engine.digest) is None
    assert reply_of(service, user="u", time=10, candidates=CANDIDATES).note == NO_USER


def test_a_state_of_another_version_is_not_read(service: Service, tmp_path: Path) -> None:
    service.append("u", EVENTS)
    reply_of(service, user="u", candidates=CANDIDATES)
    service.engine = Engine(bundle(tmp_path / "next", "hisac", seed=1), "2")
    reply = reply_of(service, user="u", candidates=CANDIDATES)
    assert (reply.version, reply.read) == ("2", "stored")
    assert _close(reply.scores, reply_of(service, **REQUEST).scores)


def test_a_state_answers_requests_of_its_own_columns_alone(tmp_path: Path, states: SQLiteStates) -> None:
    asked = SideColumns(fields=(Category(name="device", values=("phone", "tv")),))
    space = dataclasses.replace(SPACE, context=ContextFacts(request=asked))
    features = BACKBONE.model_copy(update={"features": ("length", "request")})
    home = tmp_path / "bundle"
    home.mkdir()
    save_model(home, build(MODELS["hisac"], features, space, 0).eval(), MODELS["hisac"], space)
    VocabularyFile(items=[f"i{item}" for item in range(ITEMS)], history_limit=50).save(home)
    service = Service(Engine(home, "1"), states, 300, 100, now=lambda: float(NOW))
    service.append("u", EVENTS)
    told = [
        reply_of(service, user="u", candidates=CANDIDATES, request_device=device) for device in ("tv", "tv", "phone")
    ]
    assert [reply.read for reply in told] == ["stored", "state", "stored"]
    for reply, device in zip(told, ("tv", "tv", "phone"), strict=True):
        assert _close(reply.scores, reply_of(service, **REQUEST, request_device=device).scores)
    assert not _close(told[0].scores, told[2].scores)
    question = form_of(service.engine).ask({"user": "u", "candidates": ["i1"], "request_device": "tv"}, ServeConfig())
    assert question["request_device"] == "tv"


def test_a_model_that_reads_stored_instances_takes_no_user(tmp_path: Path, states: SQLiteStates) -> None:
    service = Service(Engine(bundle(tmp_path / "bundle", "iat"), "1"), states, 300, 100)
    (reply,) = service.replies([{"user": "u", "candidates": ["i1"]}])
    assert "stored instances" in str(reply)


def test_a_missing_column_is_named(service: Service) -> None:
    with says("model input", "history_times", "is missing"):
        service.engine.read(0, {key: value for key, value in REQUEST.items() if key != "history_times"})
