"""No history knows its own time unit or anything later: random logs against a plain reference."""

from __future__ import annotations

import math
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
from kit import prepare_log, raw_log

from hisac_lab.base.artifacts import load_array, sha256_tree, stage_output
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig, TokenizeLimits
from hisac_lab.events import prepare as stage
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.tables.columns import UNIT_SECONDS
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize

SAMPLES = 90
DAY = 86_400
GENTLY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
CHOICES = st.builds(
    PrepareConfig,
    positive_from=st.just(4.0),
    shards=st.sampled_from([(0,), (0, 1, 2)]),
    time_unit=st.sampled_from(["second", "day"]),
    history=st.sampled_from(["auto", "positives", "all"]),
    label_delay=st.sampled_from([0, 30, 5 * 86_400]),
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
        try:
            prepare_log(config, raw_log(Path(home) / "raw", events, items), out)
        except UserError:
            reject()
        yield EventStore.open(out)


def told(store: EventStore, split: str) -> list[tuple[Any, ...]]:
    """Samples of a split by the log's own ids: user, item, time, label, history items, times and feedback; sorted.

    The feedback is as a request at the sample's time sees it.
    """
    samples = store.samples(split)
    names = item_ids(store)
    rows: list[tuple[Any, ...]] = []
    for sample, start, end in zip(samples, *store.bounds(samples), strict=True):
        feedback = Requests.of(store, samples[[len(rows)]], 1).histories().feedback
        levels = () if feedback is None else tuple(feedback[0][feedback.shape[1] - (end - start) :].tolist())
        history = tuple(names[store.items[start:end]]), tuple(store.times[start:end].tolist()), levels
        owner = store.user_ids[sample["user"]]
        rows.append((owner, names[sample["item"]], int(sample["time"]), int(sample["label"]), *history))
    return sorted(rows)


def item_ids(store: EventStore) -> Any:
    """The log's own ids of the items."""
    return store.item_table["item"].to_numpy()


def by_hand(events: pd.DataFrame, config: PrepareConfig, cut: int) -> list[tuple[Any, ...]]:
    """The same from the log, one event at a time; levels count the ratings that come before the validation period."""
    unit = UNIT_SECONDS[config.time_unit]
    assert config.positive_from is not None
    columns = (events["user"], events["item"], events["time"], events["rating"])
    trained = sorted(set(events["rating"][events["time"] < cut]))
    known = [one for one in trained if one < 4] + [4] + [one for one in trained if one >= 4][1:]
    ordered = sorted(zip(*(column.tolist() for column in columns), strict=True), key=lambda row: row[2])
    rows = []
    for user, item, time, rating in ordered:
        past = [
            (other_item, other_time, sum(one <= other_rating for one in known) or 1)
            for other, other_item, other_time, other_rating in ordered
            if other == user
            and other_time // unit < time // unit
            and (config.history != "positives" or other_rating >= config.positive_from)
        ]
        if len(past) >= config.min_history:
            items, times, levels = zip(*past[-config.history_limit :], strict=True) if past else ((), (), ())
            levels = tuple(
                0 if time - when < config.label_delay else level for when, level in zip(times, levels, strict=True)
            )
            label = int(rating >= config.positive_from)
            rows.append((str(user), str(item), time, label, tuple(map(str, items)), times, levels))
    return sorted(rows)


@given(events=logs(), config=CHOICES)
@GENTLY
def test_a_history_is_the_users_own_latest_events_strictly_before_the_time_unit(
    events: pd.DataFrame, config: PrepareConfig
) -> None:
    with prepared(events, config) as store:
        assert sorted(row for split in SPLITS for row in told(store, split)) == by_hand(
            events, config, store.manifest.cuts["valid"]
        )


@given(events=logs(), config=CHOICES)
@GENTLY
def test_a_request_is_one_user_in_one_time_unit_and_lies_in_one_split(
    events: pd.DataFrame, config: PrepareConfig
) -> None:
    unit = UNIT_SECONDS[config.time_unit]
    with prepared(events, config) as store:
        cuts, begins = store.manifest.cuts, 0.0
        seen: dict[int, tuple[int, int, str]] = {}
        for split, ends in zip(SPLITS, [cuts["valid"], cuts["test"], np.inf], strict=True):
            samples = store.samples(split)
            assert ((samples["time"] >= begins) & (samples["time"] < ends)).all()
            order = np.lexsort((samples["request"], samples["time"] // unit, samples["user"]))
            assert (order == np.arange(len(samples))).all()  # user by user, request by request, in time order
            for sample in samples:
                key = int(sample["user"]), int(sample["time"]) // unit, split
                assert seen.setdefault(int(sample["request"]), key) == key
            begins = ends
        assert len(set(seen.values())) == len(seen)


BY = st.sampled_from(["uniform", "popularity"])
EVERY_BY = st.sampled_from(["uniform", "popularity", "recent", "matched"])


@given(events=logs(), negatives=st.integers(1, 4), by=BY, seed=st.integers(0, 3))
@GENTLY
def test_sampled_negatives_were_alive_and_are_no_positives_of_that_moment(
    events: pd.DataFrame, negatives: int, by: Any, seed: int
) -> None:
    columns = ColumnsConfig(label=None)
    config = PrepareConfig(columns=columns, negatives=negatives, negatives_by=by, seed=seed, min_history=0)
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
        count = f"{len(drawn) / len(positives):.3g}"
        asked = "" if count == str(negatives) else f" ({negatives} drawn, those that repeat left out)"
        assert store.manifest.negatives == f"sampled negatives, {count} per positive{asked}, {by}, seed {seed}"


@given(events=logs(), negatives=st.integers(1, 4), by=st.sampled_from(["recent", "matched"]), config=CHOICES)
@GENTLY
def test_negatives_by_the_last_touch_are_of_the_positives_kind(
    events: pd.DataFrame, negatives: int, by: Any, config: PrepareConfig
) -> None:
    columns = ColumnsConfig(label=None)
    changes = {"columns": columns, "negatives": negatives, "negatives_by": by, "new_items": "drop", "min_history": 0}
    config = config.model_copy(update=changes | {"negatives_window": 3, "positives_per_request": 1})
    unit = UNIT_SECONDS[config.time_unit]
    touched = events.assign(start=events["time"] // unit * unit)

    def days(item: str, start: int) -> int | None:
        """Days since anybody's last touch, the 24 hours before the unit being one; None: never touched."""
        times = touched["time"][(touched["item"] == int(item)) & (touched["time"] < start)]
        return math.ceil((start - times.max()) / DAY) if len(times) else None

    with prepared(events.drop(columns="rating"), config) as store:
        pairs = zip(touched["item"].astype(str), touched["start"].tolist(), strict=True)
        assert store.manifest.positives_on_new_items == sum(days(item, start) is None for item, start in pairs)
        assert f"no positives on items new in their {config.time_unit}" in store.manifest.negatives
        for split in SPLITS:
            samples, rows = store.samples(split), item_ids(store)
            for request in np.unique(samples["request"]):
                mine = samples[samples["request"] == request]
                start = int(mine["time"][0]) // unit * unit
                (positive,) = rows[mine["item"][mine["label"] == 1]]
                age = days(positive, start)
                assert age is not None
                for other in (days(item, start) for item in rows[mine["item"][mine["label"] == 0]]):
                    assert other is not None
                    assert other <= 3 if by == "recent" else int(math.log2(other)) == int(math.log2(age))


@given(events=logs(), most=st.integers(1, 3), seed=st.integers(0, 3))
@GENTLY
def test_of_a_bulk_action_a_few_positives_stay_with_their_negatives(events: pd.DataFrame, most: int, seed: int) -> None:
    config = PrepareConfig(columns=ColumnsConfig(label=None), negatives=2, seed=seed, min_history=0)
    events = events.drop(columns="rating")
    with prepared(events, config) as store:
        whole = {split: set(told(store, split)) for split in SPLITS}
    with prepared(events, config.model_copy(update={"positives_per_request": most})) as store:
        assert store.manifest.negatives.endswith(f"at most {most} positives of a request")
        for split in SPLITS:
            rows = told(store, split)
            assert set(rows) <= whole[split]
            requests = store.samples(split)["request"]
            labels = store.samples(split)["label"]
            for request in np.unique(requests):
                own = labels[requests == request]
                assert 1 <= own.sum() <= most
                assert (own == 0).sum() <= 2 * own.sum()
            moments = {(row[0], row[2]) for row in whole[split] if row[3]}
            assert {(row[0], row[2]) for row in rows if row[3]} == moments


def _scramble(events: pd.DataFrame, cut: int) -> pd.DataFrame:
    """The same log up to the cut; after it, users see other items and like what they did not."""
    later = events["time"] >= cut
    item, rating = (events["item"] + 1) % 10, 6 - events["rating"]
    return events.assign(item=events["item"].mask(later, item), rating=events["rating"].mask(later, rating))


ITEM_TABLE = "item_id,title\n" + "".join(f"{number},item {number}\n" for number in range(10))


@given(events=logs(), config=CHOICES, labeled=st.booleans(), by=EVERY_BY)
@GENTLY
def test_the_number_of_shards_changes_no_byte(
    events: pd.DataFrame, config: PrepareConfig, labeled: bool, by: Any
) -> None:
    if not labeled:
        events = events.drop(columns="rating")
        config = config.model_copy(update={"columns": ColumnsConfig(label=None), "negatives_by": by})
    with tempfile.TemporaryDirectory() as home:
        raw = raw_log(Path(home) / "raw", events)
        hashes = set()
        for shards in ((0,), (0, 1), (0, 1, 2, 3, 4)):
            out = Path(home) / f"prepare-{len(shards)}"
            try:
                prepare_log(config.model_copy(update={"shards": shards}), raw, out)
            except UserError:
                reject()
            hashes.add(sha256_tree(out))
        assert len(hashes) == 1


@given(events=logs(), config=CHOICES)
@GENTLY
def test_training_samples_do_not_depend_on_what_comes_after_the_cut(
    events: pd.DataFrame, config: PrepareConfig
) -> None:
    with prepared(events, config, ITEM_TABLE) as store:
        cut, before = store.manifest.cuts["valid"], told(store, "train")
    with prepared(_scramble(events, cut), config, ITEM_TABLE) as store:
        assert store.manifest.cuts["valid"] == cut
        assert told(store, "train") == before


def _fitted(events: pd.DataFrame, config: PrepareConfig, method: Any) -> dict[str, Any]:
    """Everything that is fitted before a model: training samples with their negatives, embeddings, IDs, codebook."""
    with tempfile.TemporaryDirectory() as home:
        prepared, embedded, tokens, book = (Path(home) / name for name in ("prepare", "embed", "tokenize", "codebook"))
        limits = TokenizeLimits(min_use=0.0, min_occupancy=0.0, max_bucket_share=1.0)
        try:
            prepare_log(config, raw_log(Path(home) / "raw", events, ITEM_TABLE), prepared)
            with stage_output(embedded) as out:
                embed(EmbedConfig(method=method, cooccurrence_dim=4), prepared=prepared, out=out)
            with stage_output(tokens) as out:
                tokenize(TokenizeConfig(widths=(2, 2), limits=limits), prepared=prepared, embedded=embedded, out=out)
            with stage_output(book) as out:
                build_codebook(tokenized=tokens, out=out)
        except UserError:
            reject()
        return {
            "train": told(EventStore.open(prepared), "train"),
            "embeddings": load_array(embedded, "embeddings").tolist(),
            "codes": load_array(tokens, "codes").tolist(),
            "codebook": sha256_tree(book),
        }


@given(
    events=logs(), config=CHOICES, labeled=st.booleans(), by=EVERY_BY, method=st.sampled_from(["text", "cooccurrence"])
)
@GENTLY
def test_no_fitted_artifact_changes_when_everything_after_the_training_cut_is_deleted(
    events: pd.DataFrame, config: PrepareConfig, labeled: bool, by: Any, method: Any
) -> None:
    times = np.sort(events["time"].to_numpy())
    cuts = int(times[int(0.6 * len(times))]), int(times[int(0.8 * len(times))])
    update: dict[str, Any] = {"cuts": cuts, "negatives_by": by}
    if not labeled:
        events, update = events.drop(columns="rating"), update | {"columns": ColumnsConfig(label=None)}
    config = config.model_copy(update=update)
    unit = UNIT_SECONDS[config.time_unit]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "require_both_labels", lambda splits: None)  # nothing is left to validate and test on
        whole = _fitted(events, config, method)
        cut = _fitted(events[events["time"] < cuts[0] // unit * unit], config, method)
    for name, value in whole.items():
        assert cut[name] == value, name
