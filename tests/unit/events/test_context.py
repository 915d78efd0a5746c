"""Context of candidates: each column as a loop over the raw log gives it, and nothing from its time unit on."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import prepare_log, raw_log

from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.events import prepare as stage
from hisac_lab.events.batches import Requests
from hisac_lab.events.context import PRIOR, ContextColumns
from hisac_lab.events.context import given as given_by
from hisac_lab.events.feedback import Levels
from hisac_lab.events.records import EXPOSURES, POSITIVES, ContextFacts
from hisac_lab.events.series import DAY, ItemSeries
from hisac_lab.events.side_columns import Number, SideColumns
from hisac_lab.events.store import SPLITS, EventStore

GENTLY = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
ALL = BackboneConfig().features
HALF_LIVES = (0.5, 7.0)
START = 10**9 // DAY * DAY
Row = tuple[int, int, float, int]
"""An event of a log: user, item, rating, time."""


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    """Events of three users on five items in twelve days, many of them in one second; no user repeats one."""
    moments = st.integers(0, 60).map(lambda place: START + place * DAY // 5)
    event = st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from([1.0, 3.0, 5.0]), moments)
    rows = draw(st.lists(event, min_size=30, max_size=60, unique_by=lambda row: (row[0], row[1], row[3])))
    return [*rows, (0, 0, 5.0, START), (0, 1, 1.0, START)]


def prepared(rows: list[Row], home: Path, **changes: Any) -> EventStore:
    log = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    if "columns" in changes:
        log = log.drop(columns="rating")
    else:
        changes["positive_from"] = 4.0
    config = PrepareConfig.model_validate({"half_lives": HALF_LIVES, "min_history": 0, **changes}, strict=False)
    config = config.model_copy(update={"duplicates": "drop"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "require_both_labels", lambda splits: None)
        prepare_log(config, raw_log(home / "raw", log), home / "out")
    return EventStore.open(home / "out")


def columns_of(store: EventStore) -> ContextColumns:
    return ContextColumns.of(ALL, store.manifest.context, store.manifest.feedback)


def series_of(store: EventStore) -> dict[str, ItemSeries]:
    return {name: ItemSeries.open(store.path, name, HALF_LIVES) for name in store.manifest.context.series}


def fading(ages: list[int]) -> list[float]:
    """How many there are, then the same less with age."""
    return [float(len(ages)), *(sum(2.0 ** (-age / (days * DAY)) for age in ages) for days in HALF_LIVES)]


def since(ages: list[int]) -> list[float]:
    return [math.log1p(min(ages) / DAY), 0.0] if ages else [0.0, 1.0]


def brute(rows: list[Row], store: EventStore, user: int, item: int, time: int, delay: int) -> list[float]:
    """All columns of one candidate, from the rows of the log."""
    facts, labeled = store.manifest.context, store.manifest.feedback is not None
    begin = time // facts.unit * facts.unit
    liked = [begin - when - delay for _, which, rating, when in rows
             if which == item and when + delay < begin and (rating >= 4 or not labeled)]  # fmt: skip
    found = [*since(liked), *(math.log1p(number) for number in fading(liked))]
    if labeled:
        shown = [begin - when for _, which, _, when in rows if which == item and when < begin]
        rates = zip(fading(liked), fading(shown), strict=True)
        found += [(up + PRIOR * facts.share) / (all_ + PRIOR) for up, all_ in rates]
    own = [(time - when, rating) for who, which, rating, when in rows if (who, which) == (user, item) and when < begin]
    known = [(age, rating) for age, rating in own if age >= delay]
    kinds = [[age for age, _ in own]]
    if labeled:
        kinds += [[age for age, rating in known if rating >= 4], [age for age, rating in known if rating < 4]]
    for ages in kinds:
        found += [*(math.log1p(number) for number in fading(ages)), *since(ages)]
    return found


@pytest.mark.parametrize("labeled", [True, False])
@given(rows=logs(), unit=st.sampled_from(["second", "day"]), delay=st.sampled_from([0, 1, DAY // 5, 2 * DAY]))
@GENTLY
def test_every_column_is_that_of_a_loop_over_the_log(labeled: bool, rows: list[Row], unit: str, delay: int) -> None:
    rows = list({(row[0], row[1], row[3]): row for row in reversed(rows)}.values())
    changes: dict[str, Any] = {"time_unit": unit, "label_delay": delay if labeled else 0}
    if not labeled:
        changes |= {"columns": ColumnsConfig(label=None), "negatives": 1}
        delay = 0
    with tempfile.TemporaryDirectory() as home:
        store = prepared(rows, Path(home), **changes)
        columns, series = columns_of(store), series_of(store)
        items = store.item_table["item"].astype(int).to_numpy()
        for split in SPLITS:
            samples = store.samples(split)
            if not len(samples):
                continue
            asked = Requests.of(store, samples, 3)
            found = columns.of_request(series, asked.histories(), asked.candidates, asked.time)
            assert found.shape == (*asked.candidates.shape, len(columns.names))
            for row, column in zip(*np.nonzero(asked.mask), strict=True):
                user = int(store.user_ids[asked.user[row]])
                item, time = int(items[asked.candidates[row, column]]), int(asked.time[row])
                wanted = brute(rows, store, user, item, time, delay)
                np.testing.assert_allclose(found[row, column], wanted, rtol=1e-5, atol=1e-6)


@given(rows=logs(), delay=st.sampled_from([0, DAY // 2]), moment=st.integers(1, 12))
@GENTLY
def test_neither_later_events_nor_labels_that_have_not_arrived_change_the_items_columns(
    rows: list[Row], delay: int, moment: int
) -> None:
    time = START + moment * DAY
    other = [(user, item, 6.0 - rating if when + delay >= time else rating, when) for user, item, rating, when in rows]
    other += [(2, item, 5.0, time + item) for item in range(5)]
    found = []
    with tempfile.TemporaryDirectory() as home:
        for name, log in (("one", [*rows, *((1, item, 1.0, START + 13 * DAY) for item in range(5))]), ("other", other)):
            (Path(home) / name).mkdir()
            store = prepared(log, Path(home) / name, label_delay=delay)
            assert store.item_table["item"].tolist() == [str(item) for item in range(5)]
            facts = store.manifest.context.model_copy(update={"share": 0.5})
            columns = ContextColumns.of(ALL, facts, None)
            found.append(columns.of_items(series_of(store), np.arange(5)[None], np.array([time])))
    assert np.array_equal(found[0], found[1])


def test_features_that_the_data_cannot_give_are_left_out() -> None:
    labeled = ContextFacts(half_lives=(1.0,), series=(POSITIVES, EXPOSURES))
    clicks, untimed = ContextFacts(half_lives=(1.0,), series=(POSITIVES,)), ContextFacts()
    levels = Levels(begins=[0.0, 1.0], positive=2)
    sides = SideColumns(numbers=(Number(name="age", shift=0.0, scale=1.0),))
    whole = labeled.model_copy(update={"user": sides, "request": sides})
    assert given_by(ALL, whole, levels) == ALL
    assert set(ALL) - set(given_by(ALL, labeled, levels)) == {"user", "request"}
    assert set(ALL) - set(given_by(ALL, clicks, None)) == {"user", "request", "rate", "item_rate"}
    left_out = {"user", "request", "item_recency", "popularity", "item_rate"}
    assert set(ALL) - set(given_by(ALL, untimed, levels)) == left_out
    assert ContextColumns.of(ALL, labeled, levels).names == (
        "item_days", "item_never", "popularity", "popularity_1d", "item_rate", "item_rate_1d",
        "pair", "pair_1d", "pair_days", "pair_never",
        "pair_positive", "pair_positive_1d", "pair_positive_days", "pair_positive_never",
        "pair_negative", "pair_negative_1d", "pair_negative_days", "pair_negative_never",
    )  # fmt: skip
    assert ContextColumns.of(ALL, untimed, None).names == ("pair", "pair_days", "pair_never")
    assert ContextColumns.of(("length", "day"), labeled, levels).names == ()
