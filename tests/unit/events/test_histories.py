"""No history knows its own time unit or anything later: random logs against a plain reference."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from kit import raw_log

from hisac_lab.base.errors import UserError
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.events.prepare import UNIT_SECONDS, prepare
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.tokens.embeddings import cooccurrence_vectors

SAMPLES = 90
GENTLY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
CHOICES = st.builds(
    PrepareConfig,
    time_unit=st.sampled_from(["second", "day"]),
    history=st.sampled_from(["positives", "all"]),
    history_limit=st.integers(1, 12),
    min_history=st.integers(0, 3),
    train_share=st.sampled_from([0.5, 0.7]),
    valid_share=st.sampled_from([0.15, 0.25]),
)


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    """Events of a few users, in any order; the shorter the span the more of them share a second or a day."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    span = draw(st.sampled_from([60, 2_000, 20 * 86_400]))
    users, items = draw(st.integers(1, 5)), draw(st.integers(3, 9))
    events = pd.DataFrame(
        {
            "user": random.integers(0, users, SAMPLES),
            "item": random.integers(0, items, SAMPLES),
            "rating": random.integers(1, 6, SAMPLES),
            "time": 86_400 * 5_000 + random.integers(0, span, SAMPLES),
        }
    )
    return events.drop_duplicates(["user", "item", "time"], ignore_index=True)


@contextmanager
def prepared(events: pd.DataFrame, config: PrepareConfig, items: str | None = None) -> Iterator[EventStore]:
    """The stage's output for these events; a log too poor for three splits is no example."""
    with tempfile.TemporaryDirectory() as home:
        out = Path(home) / "prepare"
        out.mkdir()
        try:
            prepare(config, raw_log(Path(home) / "raw", events, items), out)
        except UserError:
            reject()
        yield EventStore.open(out)


def told(store: EventStore, split: str) -> list[tuple[Any, ...]]:
    """Samples of a split by the log's own ids: user, item, time, label, history items, history times; sorted."""
    samples = store.samples(split)
    item_ids = store.item_table["item"].to_numpy()
    rows = []
    for sample, start, end in zip(samples, *store.bounds(samples), strict=True):
        history = tuple(item_ids[store.items[start:end]]), tuple(store.times[start:end].tolist())
        owner = store.user_ids[sample["user"]]
        rows.append((owner, item_ids[sample["item"]], int(sample["time"]), int(sample["label"]), *history))
    return sorted(rows)


def by_hand(events: pd.DataFrame, config: PrepareConfig) -> list[tuple[Any, ...]]:
    """The same from the log, one event at a time."""
    unit = UNIT_SECONDS[config.time_unit]
    ordered = [(row.user, row.item, row.time, int(row.rating >= config.positive_from)) for row in events.itertuples()]
    ordered = sorted(ordered, key=lambda row: row[2])
    rows = []
    for user, item, time, label in ordered:
        past = [
            (other_item, other_time)
            for other, other_item, other_time, other_label in ordered
            if other == user and other_time // unit < time // unit and (config.history == "all" or other_label)
        ]
        if len(past) >= config.min_history:
            items, times = zip(*past[-config.history_limit :], strict=True) if past else ((), ())
            rows.append((str(user), str(item), time, label, tuple(map(str, items)), times))
    return sorted(rows)


@given(events=logs(), config=CHOICES)
@GENTLY
def test_a_history_is_the_users_own_latest_events_strictly_before_the_time_unit(
    events: pd.DataFrame, config: PrepareConfig
) -> None:
    with prepared(events, config) as store:
        assert sorted(row for split in SPLITS for row in told(store, split)) == by_hand(events, config)


@given(events=logs(), config=CHOICES)
@GENTLY
def test_a_request_is_one_user_in_one_time_unit_and_lies_in_one_split(
    events: pd.DataFrame, config: PrepareConfig
) -> None:
    unit = UNIT_SECONDS[config.time_unit]
    with prepared(events, config) as store:
        cuts, begins = store.manifest["cuts"], 0
        seen: dict[int, tuple[int, int, str]] = {}
        for split, ends in zip(SPLITS, [cuts["valid"], cuts["test"], np.inf], strict=True):
            samples = store.samples(split)
            assert ((samples["time"] >= begins) & (samples["time"] < ends)).all()
            assert (np.diff(samples["time"]) >= 0).all()
            for sample in samples:
                key = int(sample["user"]), int(sample["time"]) // unit, split
                assert seen.setdefault(int(sample["request"]), key) == key
            begins = ends
        assert len(set(seen.values())) == len(seen)


@given(events=logs(), negatives=st.integers(1, 4), seed=st.integers(0, 3))
@GENTLY
def test_sampled_negatives_were_alive_and_are_no_positives_of_that_moment(
    events: pd.DataFrame, negatives: int, seed: int
) -> None:
    config = PrepareConfig(columns=ColumnsConfig(label=None), negatives=negatives, seed=seed, min_history=0)
    first = events.groupby("item")["time"].min()
    clicks = {(str(row.user), str(row.item), row.time) for row in events.itertuples()}
    with prepared(events.drop(columns="rating"), config) as store:
        rows = [row for split in SPLITS for row in told(store, split)]
        positives = [row[:3] for row in rows if row[3]]
        drawn = [row[:3] for row in rows if not row[3]]
        assert sorted(positives) == sorted(clicks)
        assert not clicks & set(drawn)
        assert len(drawn) <= negatives * len(positives)
        assert all(time >= first[int(item)] for _, item, time in drawn)
        assert store.manifest["negatives"] == f"sampled negatives, {negatives} per positive"


def _scramble(events: pd.DataFrame, cut: int) -> pd.DataFrame:
    """The same log up to the cut; after it, users see other items and like what they did not."""
    later = events["time"] >= cut
    item, rating = (events["item"] + 1) % 10, 6 - events["rating"]
    return events.assign(item=events["item"].mask(later, item), rating=events["rating"].mask(later, rating))


ITEM_TABLE = "item_id,title\n" + "".join(f"{number},item {number}\n" for number in range(10))


@given(events=logs(), config=CHOICES)
@GENTLY
def test_training_samples_do_not_depend_on_what_comes_after_the_cut(
    events: pd.DataFrame, config: PrepareConfig
) -> None:
    with prepared(events, config, ITEM_TABLE) as store:
        cut, before = store.manifest["cuts"]["valid"], told(store, "train")
    with prepared(_scramble(events, cut), config, ITEM_TABLE) as store:
        assert store.manifest["cuts"]["valid"] == cut
        assert told(store, "train") == before


@pytest.mark.parametrize("keep", ["nothing", "other items"])
def test_the_cooccurrence_embedding_does_not_depend_on_what_comes_after_the_cut(store: EventStore, keep: str) -> None:
    config = EmbedConfig(method="cooccurrence", cooccurrence_dim=8)
    past = np.asarray(store.times) < store.manifest["cuts"]["valid"]
    assert past.any()
    assert not past.all()
    whole = cooccurrence_vectors(config, store)
    if keep == "nothing":
        offsets = np.r_[0, np.cumsum(past)][store.offsets]
        other = dataclasses.replace(store, items=store.items[past], times=store.times[past], offsets=offsets)
    else:
        other = dataclasses.replace(store, items=np.where(past, store.items, 0))
    np.testing.assert_array_equal(cooccurrence_vectors(config, other), whole)
    everything = dataclasses.replace(store, manifest=store.manifest | {"cuts": {"valid": 1 << 40}})
    assert not np.allclose(cooccurrence_vectors(config, everything), whole)  # the cut is what makes the difference
