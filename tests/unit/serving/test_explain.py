"""Explained answers: what was read of the user for each candidate, over HTTP and of every model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from bundles import SPACE, bundle
from fastapi.testclient import TestClient
from kit import EVERY, MODELS
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_params_schema

from hisac_lab.inference.explained import EXPLAINED
from hisac_lab.models.hisac import HiSACBranch
from hisac_lab.registry.served import ServedRanker
from hisac_lab.registry.signature import signature
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.service import Reply, Service

Client = Callable[..., TestClient]
NOW = 1_000_000
ITEMS = [f"i{number}" for number in (1, 2, 5, 1, 9, 1, 14, 20, 31, 2)]
HISTORY: dict[str, Any] = {"history_items": ITEMS, "history_times": [10 * n for n in range(len(ITEMS))], "time": NOW}
CANDIDATES = ["i5", "nowhere", "i7"]


def test_an_answer_is_explained_on_request_and_else_is_as_before(ask: Client) -> None:
    client = ask()
    plain = client.post("/score", json={**HISTORY, "candidates": CANDIDATES}).json()
    assert "explanation" not in plain
    told = client.post("/score", json={**HISTORY, "candidates": CANDIDATES, "explain": True}).json()
    assert told["scores"] == pytest.approx(plain["scores"], abs=1e-6)
    found = told["explanation"]
    assert [len(one.get("agents", ())) for one in found["candidates"]] == [3, 0, 3], "one is unknown to the model"
    assert 0 < found["votes_kept"] <= 1
    named = {agent["agent"] for agent in found["agents"]}
    assert named == {pair["agent"] for one in found["candidates"] for pair in one.get("agents", ())}
    for agent in found["agents"]:
        assert set(agent) == {"agent", "votes", "share", "path", "items"}
        assert {one["item"] for one in agent["items"]} <= set(ITEMS)
        assert all(one["events"] == ITEMS.count(one["item"]) for one in agent["items"])
        assert all(one["newest"] == NOW - 10 * max(n for n, x in enumerate(ITEMS) if x == one["item"])
                   for one in agent["items"])  # fmt: skip
        assert len(agent["path"]) == 3
    (most,) = client.post("/score", json={**HISTORY, "candidates": ["i5"], "explain": 100}).json()["explanation"][
        "candidates"
    ]
    assert sum(pair["weight"] for pair in most["agents"]) == pytest.approx(1, abs=1e-4)
    weights = [pair["weight"] for pair in most["agents"]]
    assert weights == sorted(weights, reverse=True)
    assert weights[:3] == pytest.approx([pair["weight"] for pair in found["candidates"][0]["agents"]], abs=1e-6)


def test_a_known_users_answer_is_explained_from_the_stored_history(ask: Client) -> None:
    client = ask()
    events = {"items": ITEMS, "times": HISTORY["history_times"]}
    client.post("/events", json={"user": "u", **events})
    told = client.post("/score", json={"user": "u", "candidates": CANDIDATES, "explain": 2}).json()
    whole = client.post("/score", json={**HISTORY, "candidates": CANDIDATES, "explain": 2}).json()
    assert (told.pop("read"), whole.pop("read")) == ("stored", "history")
    assert told == whole
    nobody = client.post("/score", json={"user": "v", "candidates": CANDIDATES, "explain": True}).json()
    assert (nobody["read"], nobody["scores"]) == ("nothing", [None] * 3)
    assert "explanation" not in nobody


def test_agents_are_named_by_the_nodes_above_their_leaf(service: Service) -> None:
    (reply,) = service.replies([{**HISTORY, "candidates": CANDIDATES, "explain": 100}])
    assert isinstance(reply, Reply)
    assert reply.explanation is not None
    branch, book = service.engine.model.long, SPACE.codebook
    assert isinstance(branch, HiSACBranch)
    for agent in reply.explanation["agents"]:
        level, node = 2, agent["path"][2]
        voters = [item for item in ITEMS if int(book.item_nodes[int(item[1:]), 2]) == node]
        assert agent["votes"] >= len(voters) > 0
        while level:
            node = int(book.parents[level][node])
            level -= 1
            assert agent["path"][level] == node


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_explains_or_says_that_it_does_not(name: str, tmp_path: Path) -> None:
    engine = Engine(bundle(tmp_path / "bundle", name), "1")
    asked = engine.read(0, {**HISTORY, "candidates": CANDIDATES})
    answer, found = engine.explain(asked, 2)
    assert answer["scores"] == pytest.approx(engine.answer([asked])[0]["scores"], abs=1e-6)
    kind = EVERY[name].kind
    if kind == "hisac":
        assert len(found["agents"]) > 0
    if kind == "votes" or getattr(EVERY[name], "counts", None) is not None:
        assert any(one["votes"] for one in found["candidates"])
    if kind not in ("hisac", "votes"):
        assert set(found) == {"note"}
        assert found["note"].endswith("explains nothing: it keeps neither agents nor votes of nodes")


@pytest.mark.parametrize("name", ["hisac", "votes", "din-whole"])
def test_a_registered_version_explains_on_request_as_the_server_does(name: str, tmp_path: Path) -> None:
    home = bundle(tmp_path / "bundle", name)
    served, engine, schema = ServedRanker(), Engine(home, "1"), signature(home).params
    served.load_context(SimpleNamespace(artifacts={"bundle": str(home)}))
    request = {**HISTORY, "candidates": CANDIDATES}
    frame = pd.DataFrame([request, request | {"history_items": ["nowhere"], "history_times": [1]}])
    plain = served.predict(None, frame, _enforce_params_schema(None, schema))
    assert "explanation" not in plain.columns
    told = served.predict(None, frame, _enforce_params_schema({"explain": True}, schema))
    assert told[list(plain.columns)].equals(plain)
    assert told["explanation"].tolist() == [engine.explain(engine.read(0, request), EXPLAINED)[1], None]
    with pytest.raises(MlflowException, match="explain"):
        _enforce_params_schema({"explain": "yes"}, schema)


@pytest.mark.parametrize("value", ["yes", 0, 1_001, 1.5, [1]])
def test_a_wrong_wish_gets_one_line(ask: Client, value: object) -> None:
    answer = ask().post("/score", json={**HISTORY, "candidates": ["i1"], "explain": value})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("model input: explain: input should be ")
    assert "\n" not in answer.json()["error"]
