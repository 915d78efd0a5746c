"""A prepared log in the words of requests: columns of users and of their newest requests fill the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import reply_of
from kit import BACKBONE, MODELS, make_items, prepare_log, raw_log

from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.catalog import build
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.fill import encode_all, histories
from hisac_lab.serving.service import Reply, Service
from hisac_lab.serving.skew import replay
from hisac_lab.serving.states import SQLiteStates
from hisac_lab.serving.words import LogWords

USERS = "user_id,city,age\n0,Rome,30\n1,Oslo,\n2,,41\n"
COLUMNS = ColumnsConfig(
    user_fields=("city",), user_numbers=("age",), request_fields=("device",), request_numbers=("hour",)
)
ROWS = [
    (user, number % 7, 5 if number % 3 else 2, 1_000 + number, ("tv", "phone", "")[number % 3], number % 24 or "")
    for number in range(160)
    for user in (number % 4,)
]
"""Events of four users, one of them without a row in the table of users."""


@pytest.fixture
def log(tmp_path: Path) -> EventStore:
    """A prepared log with columns of users and requests."""
    lines = ["user_id,item_id,rating,timestamp,device,hour", *(",".join(map(str, row)) for row in ROWS)]
    raw = raw_log(tmp_path / "raw", "\n".join(lines) + "\n")
    (raw / "users.csv").write_text(USERS)
    prepare_log(PrepareConfig(columns=COLUMNS, positive_from=4.0), raw, tmp_path / "prepared")
    return EventStore.open(tmp_path / "prepared")


def test_users_are_known_by_their_rows_and_by_their_newest_request(log: EventStore) -> None:
    filled = {user: history.columns for user, history in histories(log)}
    for user, city, age in (("0", "Rome", 30.0), ("1", "Oslo", None), ("2", None, 41.0), ("3", None, None)):
        assert (filled[user].get("user_city"), filled[user].get("user_age")) == (city, age)
        *_, device, hour = [row for row in ROWS if str(row[0]) == user][-1]
        assert filled[user].get("request_device", "") == device
        assert filled[user].get("request_hour", "") == hour


def test_every_row_in_words_is_read_as_the_numbers_it_has(log: EventStore) -> None:
    words = LogWords(log)
    for split in SPLITS:
        requests = Requests.of(log, log.samples(split), 4)
        assert requests.request is not None
        for user, request in zip(requests.user.tolist(), requests.request.tolist(), strict=True):
            told = words.columns(user, request)
            for side, row in (("user", user), ("request", request)):
                table = log.side(side)  # type: ignore[arg-type]
                named = {name: told.get(f"{side}_{name}") for name in table.columns.names}
                np.testing.assert_array_equal(table.columns.row(named), table.rows(np.array([row])))


def made(log: EventStore, home: Path, names: list[str]) -> Path:
    """A bundle of a model that reads the columns."""
    space = replace(make_items(), feedback=None, context=log.manifest.context)
    features = BACKBONE.model_copy(update={"features": ("length", "user", "request")})
    home.mkdir()
    save_model(home, build(MODELS["hisac"], features, space, 0).eval(), MODELS["hisac"], space)
    VocabularyFile(items=names, history_limit=log.limit).save(home)
    return home


def test_requests_of_the_log_are_served_as_they_were_evaluated(log: EventStore, tmp_path: Path) -> None:
    home = made(log, tmp_path / "bundle", log.item_table["item"].tolist())
    gate = replay(home, log, 20).gate(PromotionConfig())
    assert gate.holds, gate.says


@pytest.mark.parametrize("encoded", [False, True])
def test_a_known_user_is_answered_with_the_columns_of_the_log_unless_the_request_brings_others(
    log: EventStore, tmp_path: Path, encoded: bool
) -> None:
    home = made(log, tmp_path / "bundle", [str(item) for item in range(60)])
    service = Service(Engine(home, "1"), SQLiteStates(tmp_path / "states.db"), 300, 100, now=lambda: 5_000.0)
    service.states.fill(histories(log))
    if encoded:
        list(encode_all(service.engine, service.states, ["0"], 5_000))
    whole = dict(histories(log))["0"]
    about = {"time": 5_000, "candidates": ["1", "2"]}

    def ask(**request: Any) -> Reply:
        return reply_of(service, **about | request)

    plain, brought = ask(user="0"), ask(user="0", request_device="phone", user_city=None)
    assert plain.read == ("state" if encoded else "stored")
    events = whole.request()
    assert plain.scores == pytest.approx(ask(**events).scores, abs=1e-6)
    assert brought.scores == pytest.approx(ask(**events | {"request_device": "phone"}).scores, abs=1e-6)
    assert plain.scores != pytest.approx(brought.scores, abs=1e-4)
