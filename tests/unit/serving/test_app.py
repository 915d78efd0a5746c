"""The server over HTTP: answers, limits, tokens, versions that change, what operators see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bundles import bundle
from fastapi.testclient import TestClient

from hisac_lab.base.errors import UserError
from hisac_lab.config.serve import ServeConfig
from hisac_lab.serving.app import Queue, _follow, make_app
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.service import Reply, Service
from hisac_lab.serving.states import SQLiteStates

Client = Callable[..., TestClient]
NOW = 1_000_000
JSON = {"Content-Type": "application/json"}
HISTORY: dict[str, Any] = {"history_items": ["i1", "i2"], "history_times": [10, 20], "time": NOW}


def test_a_history_and_a_known_user_are_answered_alike(ask: Client) -> None:
    client = ask()
    told = client.post("/score", json={**HISTORY, "candidates": ["i5", "i6"]})
    assert told.status_code == 200
    assert client.post("/events", json={"user": 7, "items": ["i2", "i1"], "times": [20, 10]}).json() == {"events": 2}
    known = client.post("/score", json={"user": "7", "candidates": ["i5", "i6"]})
    assert known.json()["scores"] == pytest.approx(told.json()["scores"], abs=1e-6)
    assert (told.json()["read"], known.json()["read"]) == ("history", "stored")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"candidates": ["i1"]}, ("history_items", "is missing", "user")),
        ({**HISTORY, "candidates": []}, ("candidates", "asks for nothing")),
        ({**HISTORY}, ("candidates", "required")),
        ({**HISTORY, "candidates": ["i1"], "colour": 1}, ("colour", "not permitted")),
        ({**HISTORY, "candidates": ["i1"], "time": "now"}, ("time", "valid integer", "'now'")),
        ({**HISTORY, "candidates": ["i1"], "time": 1 << 63}, ("time: input should be less than",)),
        ({**HISTORY, "candidates": ["i1"], "time": 1.5}, ("time", "valid integer", "1.5")),
        ({**HISTORY, "candidates": [1.5]}, ("candidates", "1.5")),
        ({**HISTORY, "candidates": ["i1"], "history_times": [20, 10]}, ("history_times", "oldest first")),
        ({**HISTORY, "candidates": ["i1"], "user": "u"}, ("history_items", "beside the user 'u'")),
        ({**HISTORY, "candidates": ["i1"] * 4}, ("candidates", "4 values are more than 3", "serve.max_candidates")),
        ({**HISTORY, "history_items": ["i1"] * 9, "candidates": ["i1"]}, ("history_items", "9", "serve.max_history")),
    ],
)
def test_bad_requests_get_one_line(ask: Client, body: dict[str, Any], words: tuple[str, ...]) -> None:
    answer = ask(max_candidates=3, max_history=8).post("/score", json=body)
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert "\n" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"user": "u", "items": ["i1"], "times": [1, 2]}, ("times", "1 items, 2 times")),
        ({"user": "u", "items": ["i1"], "times": [1], "feedback": []}, ("0 values",)),
        ({"user": "u", "items": [], "times": []}, ("items", "at least 1")),
        ({"items": ["i1"], "times": [1]}, ("user", "required")),
        ({"user": "u", "items": ["i1"], "times": [-1]}, ("times", "-1")),
        ({"user": "u", "items": ["i1"], "times": [9_000_000_000_000]}, ("times: value 9000000000000 is beyond",)),
        ({"user": "u", "items": ["i1"], "times": [1], "feedback": ["bad"]}, ("input: feedback: value 'bad' is no",)),
    ],
)
def test_bad_events_get_one_line(ask: Client, body: dict[str, Any], words: tuple[str, ...]) -> None:
    client = ask()
    answer = client.post("/events", json=body)
    assert answer.status_code == 400
    for word in words:
        assert word in answer.json()["error"]
    reply = client.post("/score", json={"user": "u", "candidates": ["i1"]}).json()
    assert reply["read"] == "nothing", "what is refused is not kept"


def test_bodies_that_are_too_large_or_of_no_length_are_turned_away(ask: Client) -> None:
    client = ask(max_body_mb=0.001)
    large = client.post("/score", json={**HISTORY, "candidates": ["i1"] * 500})
    assert (large.status_code, "serve.max_body_mb" in large.json()["error"]) == (413, True)
    endless = client.post("/score", content=(part for part in [b"{}"]))
    assert endless.status_code == 411
    for content in (b"{", b"[1]", b"", b'{"user": "\xff"}', b"[" * 900):
        answer = client.post("/score", content=content, headers=JSON)
        assert answer.status_code == 400
        assert "body: " in (said := answer.json()["error"])
        assert "send one JSON object" in said
    assert client.get("/elsewhere").status_code == 404


def test_the_id_of_a_user_is_whole_text_and_not_long(ask: Client) -> None:
    client = ask()
    for user in ('"\\ud800"', f'"{"u" * 1_001}"'):
        for route, rest in (("/score", '"candidates": ["i1"]'), ("/events", '"items": ["i1"], "times": [1]')):
            answer = client.post(route, content=f'{{"user": {user}, {rest}}}', headers=JSON)
            assert (answer.status_code, answer.json()["error"][:19]) == (400, "model input: user: ")


def test_a_full_store_keeps_no_events_and_says_so_and_scores_all_the_same(
    ask: Client, states: SQLiteStates, capsys: pytest.CaptureFixture[str]
) -> None:
    client, about = ask(), {"user": "u", "candidates": ["i5"]}
    large = {"user": "u", "items": ["i1", Random(0).randbytes(9_000).hex()], "times": [10, 20]}
    client.post("/events", json={"user": "u", "items": ["i2"], "times": [5]})
    (pages,) = states.base.execute("PRAGMA page_count").fetchone()
    states.base.execute(f"PRAGMA max_page_count = {pages}")
    answer = client.post("/events", json=large)
    assert (answer.status_code, "serve.states: database or disk is full; see" in answer.json()["error"]) == (503, True)
    reply = client.post("/score", json=about)
    assert (reply.status_code, reply.json()["read"]) == (200, "stored")
    assert "serve.states: database or disk is full; see" in capsys.readouterr().err
    states.base.execute(f"PRAGMA max_page_count = {pages + 100}")
    assert client.post("/events", json=large).json() == {"events": 3}
    assert [client.post("/score", json=about).json()["read"] for _ in range(2)] == ["stored", "state"]


def test_a_token_guards_all_but_the_supervisors_routes(ask: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISAC_LAB_TOKEN", "secret")
    client = ask()
    body = {**HISTORY, "candidates": ["i1"]}
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert client.post("/score", json=body).status_code == client.get("/metrics").status_code == 401
    assert client.post("/score", json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.post("/score", json=body, headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_request_that_waits_too_long_is_given_up(ask: Client, service: Service) -> None:
    def slow(requests: list[dict[str, Any]]) -> list[Reply | UserError]:
        import time

        time.sleep(0.3)
        return Service.replies(service, requests)

    service.replies = slow  # type: ignore[method-assign, assignment]
    answer = ask(budget_ms=50).post("/score", json={**HISTORY, "candidates": ["i1"]})
    assert (answer.status_code, "serve.budget_ms" in answer.json()["error"]) == (504, True)


def test_a_fault_of_the_server_is_told_without_its_insides(ask: Client, service: Service) -> None:
    def broken(_: object) -> list[Reply | UserError]:
        raise ValueError("a secret of the model")

    service.replies = broken  # type: ignore[method-assign, assignment]
    client = ask()
    answer = client.post("/score", json={**HISTORY, "candidates": ["i1"]})
    assert (answer.status_code, answer.json()) == (500, {"error": "ValueError: see the server's log"})
    assert client.get("/healthz").status_code == 200


def test_operators_see_requests_candidates_and_versions(ask: Client) -> None:
    client = ask()
    client.post("/score", json={**HISTORY, "candidates": ["i1", "i2"]})
    client.post("/score", json={})
    client.get("/nowhere/1")
    page = client.get("/metrics").text
    assert 'hisac_requests_total{route="/score",status="200"} 1.0' in page
    assert 'hisac_requests_total{route="/score",status="400"} 1.0' in page
    assert 'hisac_requests_total{route="other",status="404"} 1.0' in page
    assert 'hisac_candidates_total{version="1"} 2.0' in page
    assert 'hisac_request_seconds_bucket{le="0.001",route="/score"}' in page
    assert client.get("/readyz").json()["version"] == "1"


def test_the_schema_lists_the_columns_of_the_version(ask: Client) -> None:
    said = ask().get("/schema").json()
    assert set(said["score"]["properties"]) >= {"user", "history_items", "history_times", "time", "candidates"}
    assert set(said["events"]["properties"]) == {"user", "items", "times", "feedback"}


def test_waiting_requests_are_answered_in_one_pass(service: Service) -> None:
    sizes, real = list[int](), service.replies

    def counted(requests: list[dict[str, Any]]) -> list[Reply | UserError]:
        sizes.append(len(requests))
        return real(requests)

    service.replies = counted  # type: ignore[method-assign, assignment]

    async def many() -> list[Reply]:
        queue = Queue(service, 4)
        waiting = [asyncio.create_task(queue.ask({**HISTORY, "candidates": [f"i{n}"]})) for n in range(9)]
        await asyncio.sleep(0)
        serving = asyncio.create_task(queue.serve())
        replies = await asyncio.gather(*waiting)
        serving.cancel()
        return replies

    replies = asyncio.run(many())
    assert sizes == [4, 4, 1]
    alone = [service.replies([{**HISTORY, "candidates": [f"i{n}"]}])[0] for n in range(9)]
    for reply, one in zip(replies, alone, strict=True):
        assert isinstance(one, Reply)
        assert reply.scores == pytest.approx(one.scores, abs=1e-6)


def test_a_new_version_takes_over_and_one_that_fails_does_not(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = Engine(bundle(tmp_path / "next", "hisac", seed=1), "2")
    answers: list[Engine | Exception | None] = [None, UserError("registry", "is away", "start it"), newest]

    class Fake:
        def newer(self, engine: Engine | None) -> Engine | None:
            answer = answers.pop(0) if answers else None
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def watch() -> None:
        task = asyncio.create_task(_follow(Fake(), service, 0.01))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if service.engine is newest:
                break
        task.cancel()

    asyncio.run(watch())
    assert service.engine is newest
    said = capsys.readouterr().err
    assert "version 1 goes on answering: UserError: registry: is away" in said
    assert "version 2 answers from now on, before it 1" in said


def test_the_server_follows_its_source_while_it_runs(service: Service, tmp_path: Path) -> None:
    newest = Engine(bundle(tmp_path / "next", "hisac", seed=1), "2")

    class Fake:
        def newer(self, engine: Engine | None) -> Engine | None:
            return None if engine is newest else newest

    with TestClient(make_app(ServeConfig(poll_seconds=0.01), service, Fake())) as client:
        for _ in range(200):
            if client.get("/readyz").json()["version"] == "2":
                break
        assert client.post("/score", json={**HISTORY, "candidates": ["i1"]}).json()["version"] == "2"
