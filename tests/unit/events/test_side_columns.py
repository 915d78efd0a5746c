"""Columns of users and requests: from the files to what a model is told, against a loop; empty and unknown values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from kit import CPU, prepare_log, raw_log, says
from pydantic import ValidationError

from hisac_lab.base.errors import UserError
from hisac_lab.config.events import ColumnsConfig, KeepConfig, PrepareConfig
from hisac_lab.events import side_columns
from hisac_lab.events.batches import Requests
from hisac_lab.events.exposures import Exposures
from hisac_lab.events.side_columns import Category, Number, SideColumns, SideTable, category
from hisac_lab.events.store import LOGGED, SPLITS, EventStore
from hisac_lab.inference.sides import KnownColumns
from hisac_lab.tables.layouts.contract import LogColumn

USERS = "user_id,city,age\n0, Rome ,30\n1,Oslo,\n2,,41\n9,Lima,5\n"
Named = Mapping[str, tuple[str, ...]]
COLUMNS: Named = {
    "user_fields": ("city",),
    "user_numbers": ("age",),
    "request_fields": ("device",),
    "request_numbers": ("hour",),
}


def _log(events: int = 160) -> str:
    """Four users, one of them without a row; two events of a user at each time, devices of the two differ."""
    rows = ["user_id,item_id,rating,timestamp,device,hour"]
    for number in range(events):
        time = 1000 + number // 8
        device = ("tv", "phone", "", "late" if number > events - 20 else "tv")[(number // 8 + number % 2) % 4]
        hour = "" if number % 7 == 0 else number % 24
        rows.append(f"{number // 2 % 4},{number % 5},{5 if number % 3 else 2},{time},{device},{hour}")
    return "\n".join(rows) + "\n"


def _prepared(place: Path, columns: Named, shards: int = 2, users: str | None = USERS) -> EventStore:
    raw = raw_log(place / "raw", _log())
    if users is not None:
        (raw / "users.csv").write_text(users)
    config = PrepareConfig(
        columns=ColumnsConfig.model_validate(columns), positive_from=4.0, shards=tuple(range(shards))
    )
    prepare_log(config, raw, place / "prepared")
    return EventStore.open(place / "prepared")


def test_users_have_their_rows_and_others_are_unknown(tmp_path: Path) -> None:
    table = _prepared(tmp_path, COLUMNS).side("user")
    store = EventStore.open(tmp_path / "prepared")
    city, age = table.columns.fields[0], table.columns.numbers[0]
    assert city.values == ("Oslo", "Rome")  # Lima's user is not in the log
    logs = np.log1p([30, 41])
    assert (age.shift, age.scale) == pytest.approx((logs.mean(), 1 / logs.std()), rel=5e-3)
    told = dict(zip(store.user_ids, table.rows(np.arange(4)).tolist(), strict=True))
    scaled = [(math.log1p(years) - age.shift) * age.scale for years in (30, 41)]
    assert told["0"] == pytest.approx([0, 0, 1, scaled[0], 0])
    assert told["1"] == [0, 1, 0, 0, 1]
    assert told["2"] == pytest.approx([1, 0, 0, scaled[1], 0])
    assert told["3"] == [1, 0, 0, 0, 1]


def test_a_request_has_the_columns_of_its_first_event(tmp_path: Path) -> None:
    """Values met only after the training period are unknown."""
    store = _prepared(tmp_path, COLUMNS)
    facts = store.manifest.context.request
    assert facts.fields[0].values == ("phone", "tv")
    log = [line.split(",") for line in _log().splitlines()[1:]]
    for split in SPLITS:
        requests = Requests.of(store, store.samples(split), 4)
        side = KnownColumns("request", store.side("request"))
        told = side.fetch(requests, np.arange(len(requests)), CPU.device).numpy()
        for row in range(len(requests)):
            user, time = store.user_ids[requests.user[row]], str(requests.time[row])
            first = next(entry for entry in log if (entry[0], entry[3]) == (user, time))
            expected = facts.row({"device": first[4], "hour": first[5]})
            assert told[row].tolist() == expected[0].tolist()
    assert facts.row({"device": "late", "hour": ""}).tolist() == [[1, 0, 0, 0, 1]]


@given(st.integers(0, 1_000), st.sampled_from([0.3, 0.7, 1.0]), st.integers(0, 8), st.sampled_from(["second", "day"]))
@settings(max_examples=6, deadline=None)
def test_one_store_of_the_log_serves_rankers_and_sources_of_instances(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float, least: int, unit: Literal["second", "day"]
) -> None:
    """Each exposure has the values of its own event, each request those of its first one, kept as a sample or not."""
    home, random, count = tmp_path_factory.mktemp("log"), np.random.default_rng(seed), 240
    log = pd.DataFrame({"user": random.integers(0, 9, count), "item": random.integers(0, 20, count)})
    log["rating"], log["time"] = random.integers(1, 6, count), 1000 + np.sort(random.integers(0, 40, count)) * 30_000
    log["device"] = random.choice(["tv", "phone", ""], count)
    log["hour"] = np.where(random.random(count) < 0.2, np.nan, random.normal(0, 1e3, count))
    log = log.drop_duplicates(["user", "item", "time"], ignore_index=True)
    columns = ColumnsConfig(request_fields=("device",), request_numbers=("hour",))
    keep = KeepConfig(train=share, valid=share, test=share)
    more: dict[str, Any] = {"columns": columns, "time_unit": unit, "min_history": least}
    config = PrepareConfig(positive_from=4.0, exposures="all", keep=keep, shards=(0, 1), **more)
    try:
        prepare_log(config, raw_log(home / "raw", log), home / "prepared")
    except UserError:  # the draw leaves a period without both labels
        reject()
    store = EventStore.open(home / "prepared")
    asked, facts = store.side("request"), store.manifest.context.request
    words = ("", *facts.fields[0].values)
    assert store.manifest.logged == {"device": len(words), "hour": 0}
    seconds, seen = {"second": 1, "day": 86_400}[unit], 0
    for split in SPLITS:
        part = Exposures.of(store, split)
        for sample, said in zip(part.samples, part.logged, strict=True):
            user, item = int(store.user_ids[sample["user"]]), int(store.item_table["item"][sample["item"]])
            own = log[log["user"] == user]
            event = own[(own["item"] == item) & (own["time"] == sample["time"])].iloc[0]
            assert (words[int(said[0])], said[1]) == (event["device"], pytest.approx(event["hour"], nan_ok=True))
            first = own[own["time"] // seconds == sample["time"] // seconds].iloc[0]
            found = asked.rows(np.array([sample["request"]]))
            np.testing.assert_array_equal(found, facts.row({"device": first["device"], "hour": first["hour"]}))
            seen += 1
    assert seen == len(log)


@pytest.mark.parametrize("name", ["user", "request"])
def test_columns_do_not_depend_on_the_shards(tmp_path: Path, name: Literal["user", "request"]) -> None:
    one, three = (_prepared(tmp_path / str(count), COLUMNS, count) for count in (1, 3))
    assert getattr(one.manifest.context, name) == getattr(three.manifest.context, name)
    for part in ("user_columns",) if name == "user" else [f"{LOGGED}_{split}" for split in SPLITS]:
        paths = [store.path / f"{part}.npy" for store in (one, three)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    np.testing.assert_array_equal(one.side(name).values, three.side(name).values)


def test_a_log_without_such_columns_is_what_it_was(tmp_path: Path) -> None:
    plain, told = _prepared(tmp_path / "plain", {}, users=None), _prepared(tmp_path / "told", COLUMNS)
    assert {"user", "request"}.isdisjoint(plain.manifest.context.facts())
    assert not list(plain.path.glob(f"{LOGGED}_*")) + list(plain.path.glob("user_*"))
    for split in SPLITS:
        np.testing.assert_array_equal(plain.samples(split), told.samples(split))
    assert plain.manifest.protocol != told.manifest.protocol


@given(st.integers(0, 10_000), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_columns_are_those_of_a_loop_over_rows(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    facts = SideColumns(
        fields=(Category(name="a", values=("x", "y", "z")), Category(name="b", values=())),
        numbers=(Number(name="n", shift=0.5, scale=2.0),),
    )
    codes = np.stack([random.integers(0, 4, rows), np.zeros(rows, np.int64)], axis=1)
    numbers = np.where(random.random((rows, 1)) < 0.3, np.nan, random.normal(0, 50, (rows, 1)))
    index = random.integers(-1, rows, rows + 2) if rows else np.full(2, -1)
    told = SideTable(facts, np.concatenate([codes, numbers], axis=1).astype(np.float32)).rows(index)
    assert told.shape == (len(index), facts.width) == (len(index), 4 + 1 + 2)
    names = ("", "x", "y", "z")
    for place, row in enumerate(index):
        known = row >= 0 and not math.isnan(numbers[row, 0])
        number = float(np.float32(numbers[row, 0])) if known else 0.0
        scaled = (math.copysign(math.log1p(abs(number)), number) - 0.5) * 2 if known else 0.0
        code = int(codes[row, 0]) if row >= 0 else 0
        expected = [*(float(code == one) for one in range(4)), 1.0, scaled, float(not known)]
        assert told[place].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        asked = {"a": names[code], "n": number if known else None}
        assert facts.row(asked)[0].tolist() == told[place].tolist()


def test_the_values_seen_most_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_columns, "MOST", 2)
    found = category("c", ["b", " a", "c", "", "d ", "d"], np.array([2, 3, 3, 9, 1, 1]))
    assert found.values == ("a", "c")
    assert found.codes(["a ", "b", "c", "", "e"]).tolist() == [1, 0, 2, 0, 0]


def test_moments_are_the_same_in_any_order() -> None:
    values = np.random.default_rng(0).normal(0, 1e4, 999)
    values[::10] = np.nan
    one, other = Number.measured("n", [values]), Number.measured("n", [values[500:][::-1], values[:500]])
    assert one == other
    logs = np.copysign(np.log1p(np.abs(values)), values)
    assert (one.shift, one.scale) == pytest.approx((np.nanmean(logs), 1 / np.nanstd(logs)), abs=1e-3)
    assert Number.measured("n", [np.full(3, 7.0)]).scale == 0
    assert Number.measured("n", [np.full(3, np.nan)]) == Number(name="n", shift=0.0, scale=0.0)


@pytest.mark.parametrize(
    ("columns", "users", "words"),
    [
        ({"user_fields": ("town",)}, USERS, ("users.csv", "town", "column is missing (there are: user_id, city, age)")),
        ({"request_fields": ("screen",)}, None, ("events.csv", "screen", "column is missing")),
        ({"user_numbers": ("age",)}, None, ("settings", "'age' is a column of a user table", "acquire.users_path")),
        ({"user_numbers": ("city",)}, USERS, ("users.csv", "line 2", "city", "is no number")),
        ({"request_numbers": ("device",)}, None, ("events.csv", "line 2", "device", "is no number")),
        ({"user_fields": ("city",)}, USERS + "1,Rome,3\n", ("users.csv", "user '1' has two rows in the user table")),
    ],
)
def test_columns_that_are_not_there_or_broken_are_one_line(
    tmp_path: Path, columns: Named, users: str | None, words: tuple[str, ...]
) -> None:
    with says(*words):
        _prepared(tmp_path, columns, users=users)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"request_fields": ("rating",)}, "known before the answer"),
        ({"request_numbers": ("timestamp",)}, "known before the answer"),
        ({"user_fields": ("age",), "user_numbers": ("age",)}, "name a column twice"),
    ],
)
def test_the_answer_is_no_column_of_a_request(columns: Named, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ColumnsConfig.model_validate(columns)


def test_a_column_of_the_request_has_words_or_numbers() -> None:
    with pytest.raises(ValueError, match="words or numbers"):
        LogColumn(4, request=True)


def test_numbers_beyond_those_of_the_store_are_its_largest() -> None:
    facts = SideColumns(numbers=(Number(name="n", shift=0.0, scale=1.0),))
    largest = math.log(np.finfo(np.float32).max)
    assert facts.row({"n": 1e300})[0].tolist() == pytest.approx([largest, 0])
    assert facts.row({"n": -1e300})[0].tolist() == pytest.approx([-largest, 0])
