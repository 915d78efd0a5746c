"""Further answers of exposures and their weights: from the columns of a log to batches, against a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit import prepare_log, raw_log, says

from hisac_lab.base.errors import UserError
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.ingest import ingest
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.sources.records import Acquired

TASKS = {"bought": "is_buy", "liked": "is_like"}


def _log(seed: int = 0, count: int = 300, step: int = 7) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    log = pd.DataFrame({"user": random.integers(0, 12, count), "item": random.integers(0, 30, count)})
    log["rating"], log["time"] = random.integers(1, 6, count), 1000 + step * np.arange(count)
    log["is_buy"] = random.integers(0, 2, count)
    log["is_like"] = np.where(random.random(count) < 0.3, np.nan, random.integers(0, 2, count))
    log["worth"] = random.integers(0, 5, count)
    return log


def _prepared(place: Path, log: pd.DataFrame, config: PrepareConfig) -> EventStore:
    prepare_log(config, raw_log(place / "raw", log), place / "prepared")
    return EventStore.open(place / "prepared")


def test_each_sample_has_the_answers_and_the_weight_of_its_own_event(tmp_path: Path) -> None:
    log = _log()
    store = _prepared(tmp_path, log, PrepareConfig(positive_from=4.0, tasks=TASKS, weight="worth"))
    assert store.tasks == ("bought", "liked")
    event: dict[Any, Any] = {(str(row.user), row.time): row for row in log.itertuples()}
    items = store.item_table["item"]
    for split in SPLITS:
        samples, answers, weights = (
            store.samples(split),
            store.answers(split, ["liked", "bought"]),
            store.weights(split),
        )
        assert weights is not None
        for sample, (liked, bought), weight in zip(samples, answers, weights, strict=True):
            row = event[store.user_ids[sample["user"]], sample["time"]]
            assert (str(row.item), row.is_buy, row.worth) == (items[sample["item"]], bought, weight)
            assert (np.isnan(liked) and np.isnan(row.is_like)) or liked == row.is_like


def test_rows_of_a_batch_carry_them_and_padding_knows_none(tmp_path: Path) -> None:
    config = PrepareConfig(positive_from=4.0, tasks=TASKS, weight="worth", time_unit="day")
    store = _prepared(tmp_path, _log(step=2000), config)
    requests = Requests.to_learn(store, "train", 3, ("bought",))
    answers, weights, index = store.answers("train", ("bought",)), store.weights("train"), np.array([4, 0, 2])
    told, weighed = requests.take(index).answered(np.arange(3)), requests.weighted(index)
    assert told is not None
    assert weighed is not None
    assert weights is not None
    real = requests.mask[index]
    assert np.array_equal(told[real], answers[requests.sample[index][real]])
    assert np.isnan(told[~real]).all()
    assert (weighed[~real] == 0).all()
    assert np.array_equal(weighed[real], weights[requests.sample[index][real]])
    assert requests.weight_of(index) == weights[requests.sample[index][real]].sum()


def test_later_samples_keep_their_own_answers(tmp_path: Path) -> None:
    store = _prepared(tmp_path, _log(), PrepareConfig(positive_from=4.0, tasks=TASKS))
    times = store.samples("train")["time"]
    since = int(np.median(times))
    late = Requests.to_learn(store, "train", 4, ("bought",), since)
    assert late.answers is not None
    assert late.weights is None
    assert np.array_equal(late.answers[:, 0], store.answers("train", ("bought",))[times >= since, 0])


def test_nobody_saw_a_drawn_negative(tmp_path: Path) -> None:
    config = PrepareConfig(columns=ColumnsConfig(label=None), tasks={"bought": "is_buy"}, weight="worth")
    store = _prepared(tmp_path, _log().drop(columns="rating"), config)
    label, bought = store.samples("train")["label"], store.answers("train", ("bought",))[:, 0]
    assert (label == 0).any()
    assert np.isnan(bought[label == 0]).all()
    assert not np.isnan(bought[label == 1]).any()


def test_shuffled_labels_leave_no_answer_that_tells_them(tmp_path: Path) -> None:
    store = _prepared(tmp_path, _log(), PrepareConfig(positive_from=4.0, tasks=TASKS))
    assert Requests.to_learn(store, "train", 4, ("bought",)).shuffled(0).answers is None


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        ({"tasks": {"bought": "sold"}}, "sold", "column is missing"),
        ({"tasks": {"bought": "rating"}}, "rating", "above 1"),
        ({"weight": "minus"}, "minus", "below 0"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(
    tmp_path: Path, change: dict[str, object], place: str, value: str
) -> None:
    log = _log()
    log["minus"] = -1
    with pytest.raises(UserError) as error:
        _prepared(tmp_path, log, PrepareConfig.model_validate({"positive_from": 4.0, **change}))
    assert place in str(error.value)
    assert value in str(error.value) or "1" in str(error.value)


def test_an_answer_that_was_not_prepared_is_named(tmp_path: Path) -> None:
    store = _prepared(tmp_path, _log(), PrepareConfig(positive_from=4.0, tasks={"bought": "is_buy"}))
    with says("backbone.tasks.liked", "there are: bought", "prepare.tasks"):
        store.answers("train", ("liked",))


def test_a_layout_without_such_columns_says_so(tmp_path: Path) -> None:
    raw = raw_log(tmp_path / "raw", _log())
    Acquired.open(raw).model_copy(update={"layout": "movielens-official"}).save(raw)
    for name, text in {"u.data": "1\t1\t5\t1000\n", "u.item": "1|Film|||" + "|0" * 20 + "\n"}.items():
        (raw / name).write_text(text)
    with says("prepare.tasks.bought", "movielens-official", "no such column"):
        ingest(PrepareConfig(tasks={"bought": "is_buy"}), raw=raw, out=tmp_path)
