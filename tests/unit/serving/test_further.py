"""Further answers over the server: the same from a history, a state and an explained request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundles import bundle_with_tasks, reply_of

from hisac_lab.serving.engine import Engine
from hisac_lab.serving.service import Service
from hisac_lab.serving.states import SQLiteStates, UserHistory

NOW = 1_000_000
EVENTS = UserHistory(["i1", "i2", "i5"], [10, 20, 30], [None] * 3)
NAMES = ["scores_bought", "scores_liked"]


def _facts(service: Service, **request: Any) -> dict[str, Any]:
    return reply_of(service, **request, candidates=["i5", "nowhere", "i7"]).facts()


def test_each_answer_has_its_scores_whatever_is_read_of_the_user(tmp_path: Path, states: SQLiteStates) -> None:
    home, _ = bundle_with_tasks(tmp_path / "bundle")
    service = Service(Engine(home, "1"), states, 300, 100, now=lambda: float(NOW))
    service.append("u", EVENTS)
    whole = EVENTS.request() | {"time": NOW}
    told = [
        _facts(service, **whole),
        _facts(service, user="u"),
        _facts(service, user="u"),
        _facts(service, explain=1, **whole),
    ]
    assert [facts["read"] for facts in told] == ["history", "stored", "state", "history"]
    for facts in told:
        assert [name for name in facts if name.startswith("scores_")] == NAMES
        for name in ("scores", *NAMES):
            assert facts[name] == pytest.approx(told[0][name], abs=1e-6)
            assert facts[name][1] is None
    assert len({tuple(told[0][name]) for name in ("scores", *NAMES)}) == 3
    nothing = _facts(service, user="nobody")
    assert all(nothing[name] == [None] * 3 for name in ("scores", *NAMES))
