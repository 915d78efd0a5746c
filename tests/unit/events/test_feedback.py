"""Levels of the feedback: from the training period alone, kept with every event, unknown until they have arrived."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import make_requests, prepare_log, raw_log

from hisac_lab.base.artifacts import load_array, sha256_file, stage_output
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.feedback import MOST, UNKNOWN, Levels
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.sources.records import Acquired
from hisac_lab.world.simulate import simulate

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
GENTLY = settings(max_examples=60)
START = 1_500_000_000


def _log(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Events of thirty users in time order, with a rating of one to five."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": random.integers(0, 30, rows),
            "item": random.integers(0, 25, rows),
            "rating": random.integers(1, 6, rows),
            "time": START + 1_000 * np.arange(rows),
        }
    )


def _store(home: Path, log: pd.DataFrame, name: str = "made", **changes: Any) -> EventStore:
    raw = raw_log(home / f"raw-{name}", log)
    prepare_log(PrepareConfig(**({"positive_from": 4.0} | changes)), raw, home / name)
    return EventStore.open(home / name)


@given(values=st.lists(NUMBERS, min_size=1, max_size=MOST, unique=True), place=st.integers(0, MOST - 1))
@GENTLY
def test_of_few_values_each_is_a_level(values: list[float], place: int) -> None:
    rising = sorted(values)
    threshold = rising[place % len(rising)]
    levels = Levels.cut(np.array(values * 3), threshold)
    assert levels.begins == rising
    assert levels.codes(np.array(rising)).tolist() == list(range(1, len(rising) + 1))
    assert levels.positive == levels.codes(np.array([threshold]))[0]


@given(seed=st.integers(0, 999), size=st.integers(17, 3_000), threshold=st.floats(-2, 2))
@GENTLY
def test_many_values_are_shared_evenly_and_no_level_has_positives_and_negatives(
    seed: int, size: int, threshold: float
) -> None:
    values = np.random.default_rng(seed).normal(size=size)
    levels = Levels.cut(values, threshold)
    codes = levels.codes(values)
    assert len(levels) <= MOST + 1
    assert levels.begins == sorted(set(levels.begins))
    assert (codes[np.argsort(values)] == np.sort(codes)).all()
    assert ((codes >= levels.positive) == (values >= threshold)).all()
    counts = np.sort(np.bincount(codes))
    assert counts[-3:].max() <= 2 * -(-size // MOST) + 1  # two neighbors of the threshold may have become one


@given(values=st.lists(NUMBERS, max_size=40), later=NUMBERS, threshold=NUMBERS)
@GENTLY
def test_a_value_that_comes_later_has_a_level_of_its_own_sign(
    values: list[float], later: float, threshold: float
) -> None:
    levels = Levels.cut(np.array(values), threshold)
    (code,) = levels.codes(np.array([later]))
    assert 1 <= code <= len(levels)
    if later >= threshold or levels.positive > 1:
        assert (code >= levels.positive) == (later >= threshold)


def test_what_is_not_there_is_unknown_and_words_stand_for_their_numbers() -> None:
    levels = Levels(begins=[0.0, 1.0], positive=2, words={"No": 0.0, "yes": 1.0})
    numbers = [levels.number(value) for value in ("YES", " no", None, 1, np.nan)]
    assert levels.codes(np.array(numbers)).tolist() == [2, 1, UNKNOWN, 2, UNKNOWN]
    with pytest.raises(KeyError):
        levels.number("perhaps")
    assert Levels(begins=[0.0], positive=1).number("3.5") == 3.5


def test_levels_come_from_the_training_period_alone(tmp_path: Path) -> None:
    log = _log()
    log["rating"] = np.random.default_rng(1).normal(size=len(log)).round(3)
    plain = _store(tmp_path, log, "plain", positive_from=0.2)
    cut = plain.manifest.cuts["valid"]
    assert plain.manifest.feedback == Levels.cut(log["rating"][log["time"] < cut].to_numpy(), 0.2)
    changed = log.assign(rating=log["rating"].where(log["time"] < cut, log["rating"] * 5 + 0.1))
    assert _store(tmp_path, changed, "changed", positive_from=0.2).manifest.feedback == plain.manifest.feedback


@pytest.mark.parametrize(("history", "kept"), [("auto", "all"), ("all", "all"), ("positives", "positives")])
def test_every_event_of_a_history_carries_its_own_level(tmp_path: Path, history: str, kept: str) -> None:
    log = _log()
    store = _store(tmp_path, log, history=history)
    names = store.item_table["item"].to_numpy()
    users = np.repeat(store.user_ids, np.diff(store.offsets))
    assert store.feedback is not None
    found = zip(users, names[store.items], store.times.tolist(), store.feedback.tolist(), strict=True)
    wanted = log if kept == "all" else log[log["rating"] >= 4]
    assert sorted(found) == sorted(
        (str(row.user), str(row.item), row.time, row.rating) for row in wanted.itertuples(index=False)
    )


def test_feedback_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    one, three = (_store(tmp_path, _log(), f"{count}", shards=tuple(range(count))) for count in (1, 3))
    assert sha256_file(one.path / "history_feedback.npy") == sha256_file(three.path / "history_feedback.npy")


def test_the_kind_of_an_event_is_its_level(tmp_path: Path) -> None:
    kinds = {"view": 0.0, "cart": 1.0, "purchase": 2.0}
    log = _log()
    log["rating"] = np.array([*kinds])[log["rating"] % 3]
    columns = ColumnsConfig(label_values=kinds)
    store = _store(tmp_path, log, columns=columns, positive_from=2.0)
    assert store.manifest.feedback == Levels(begins=[0.0, 1.0, 2.0], positive=3, words=kinds)
    assert store.feedback is not None
    counted = log["rating"].value_counts()
    assert np.bincount(store.feedback)[1:].tolist() == [counted[kind] for kind in kinds]


def test_events_of_a_simulated_world_are_clicks_and_exposures(tmp_path: Path) -> None:
    with stage_output(tmp_path / "raw") as out:
        facts = simulate(WorldConfig(users=10), out=out)
        Acquired(dataset="world", layout="world", files={}, **facts).save(out)
    prepare_log(PrepareConfig(), tmp_path / "raw", tmp_path / "made")
    store = EventStore.open(tmp_path / "made")
    clicks = pd.read_parquet(tmp_path / "raw" / "events")["click"]
    assert store.manifest.feedback == Levels(begins=[0.0, 1.0], positive=2, words=None)
    assert store.feedback is not None
    assert np.bincount(store.feedback).tolist() == [0, (clicks == 0).sum(), (clicks == 1).sum()]


def test_a_log_without_feedback_is_prepared_as_before(tmp_path: Path) -> None:
    log = _log().drop(columns="rating")
    folders = []
    for history in ("auto", "positives"):
        store = _store(tmp_path, log, history, columns=ColumnsConfig(label=None), positive_from=None, history=history)
        assert store.feedback is None
        assert store.manifest.feedback is None
        folders.append({path.name: sha256_file(path) for path in store.path.iterdir()})
    assert folders[0] == folders[1]
    assert "history_feedback.npy" not in folders[0]
    requests = Requests.of(store, store.samples("test"), 4)
    assert requests.histories().feedback is None


@given(delay=st.integers(0, 10**7), seed=st.integers(0, 20))
@GENTLY
def test_feedback_is_unknown_until_it_has_arrived(delay: int, seed: int) -> None:
    unread: dict[str, Any] = {"label_delay": delay}
    plain = make_requests(seed=seed)
    store = dataclasses.replace(plain.store, manifest=Prepared.model_construct(**unread))
    found = dataclasses.replace(plain, store=store).histories()
    assert found.feedback is not None
    assert store.feedback is not None
    for row in range(len(plain)):
        wanted = [
            int(store.feedback[at]) if store.times[at] + delay <= plain.time[row] else UNKNOWN
            for at in range(plain.start[row], plain.end[row])
        ]
        assert found.feedback[row][found.mask[row]].tolist() == wanted
    assert (found.feedback[~found.mask] == UNKNOWN).all()


def test_the_protocol_tells_the_delay_and_which_events_a_history_has(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "auto": {}, "all": {"history": "all"}, "positives": {"history": "positives"}, "late": {"label_delay": 60},
    }  # fmt: skip
    stores = {name: _store(tmp_path, _log(), name, **change) for name, change in changes.items()}
    protocols = {name: store.manifest.protocol for name, store in stores.items()}
    assert protocols["auto"] == protocols["all"]
    assert len(set(protocols.values())) == 3
    assert stores["late"].manifest.label_delay == 60
    assert load_array(stores["late"].path, "history_feedback").all()  # it hides when it is read, not when it is kept


def test_the_voters_of_a_user_are_the_newest_events_that_are_not_known_to_be_negative(tmp_path: Path) -> None:
    store = _store(tmp_path, _log(), history_limit=12)
    feedback = np.asarray(store.feedback).copy()
    feedback[::7] = UNKNOWN
    store = dataclasses.replace(store, feedback=feedback)
    for user in range(len(store.offsets) - 1):
        newest = list(range(store.offsets[user], store.offsets[user + 1]))[-12:]
        liked = [place for place in newest if feedback[place] in (UNKNOWN, 4, 5)]
        places, silent = store.voters(user, "positives")
        assert (places.tolist(), silent) == (liked, len(newest) - len(liked))
        assert store.voters(user, "all")[0].tolist() == newest
        assert dataclasses.replace(store, feedback=None).voters(user, "positives")[0].tolist() == newest
