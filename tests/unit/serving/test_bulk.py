"""Many users at once get what the offline evaluation gives each, a group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import bundle, bundle_of_log
from kit import CPU, says

from hisac_lab.base.artifacts import Array
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.request import Asked
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import ItemSpace
from hisac_lab.serving import bulk
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.fill import histories

TOP = 5


@pytest.fixture
def engine(model: Ranker, items: ItemSpace, store: EventStore, tmp_path: Path) -> Engine:
    """Its bundle in memory."""
    return Engine(bundle_of_log(tmp_path / "bundle", model, "hisac", items, store), "1")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups, batches and chunks that even few users and items fill."""
    for name, value in (("GROUP", 16), ("AT_ONCE", 3), ("CHUNK", 7)):
        monkeypatch.setattr(bulk, name, value)


def after_the_log(store: EventStore) -> int:
    return int(store.manifest.splits["test"].last) + store.manifest.label_delay + 1


def chances(model: Ranker, store: EventStore) -> tuple[Array, Array]:
    """Users with a history, and the evaluation's click probabilities of every item for each."""
    users = np.flatnonzero(np.diff(store.offsets))
    start, end = np.maximum(store.offsets[users], store.offsets[users + 1] - store.limit), store.offsets[users + 1]
    candidates = np.tile(np.arange(store.manifest.items), (len(users), 1))
    full, time = np.ones(candidates.shape, bool), np.full(len(users), after_the_log(store))
    requests = Requests(store, start, end, time, candidates, full.astype(np.float32), full, candidates, users)
    return users, torch.sigmoid(torch.from_numpy(score(model, Loader.of(model, requests, CPU)))).numpy()


def ranked(
    engine: Engine, people: Iterator[tuple[str, Asked]], slate: Array, time: int, seen: bool
) -> dict[str, Array]:
    """Scores of all items by user, NaN where an item is not among the best."""
    found = {}
    for best in bulk.Bulk(engine, slate, time, TOP, seen).best(people):
        for user, items, scores in zip(best.users, best.items, best.scores, strict=True):
            found[user] = np.full(len(engine.reader.number), np.nan)
            found[user][items[items >= 0]] = scores[items >= 0]
    return found


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("told", ["log", "histories"])
def test_the_best_of_all_items_are_those_of_the_evaluation(
    engine: Engine, model: Ranker, store: EventStore, seen: bool, told: str
) -> None:
    users, wanted = chances(model, store)
    time, slate = after_the_log(store), np.arange(store.manifest.items)
    if told == "log":
        people = bulk.from_log(engine, store, range(len(store.user_ids)), time)
    else:
        people = bulk.from_histories(engine, histories(store), time)
    found = ranked(engine, people, slate, time, seen)
    assert list(found) == [str(store.user_ids[user]) for user in users]
    for user, row in zip(users, wanted, strict=True):
        if not seen:
            row[np.unique(store.items[store.offsets[user] : store.offsets[user + 1]])] = np.nan
        best = np.sort(row[~np.isnan(row)])[::-1][:TOP]
        got = found[str(store.user_ids[user])]
        np.testing.assert_allclose(np.sort(got[~np.isnan(got)])[::-1], best, atol=1e-6)
        np.testing.assert_allclose(got[~np.isnan(got)], row[~np.isnan(got)], atol=1e-6)


def test_no_more_users_are_in_memory_than_a_group(engine: Engine, store: EventStore) -> None:
    time, taken = after_the_log(store), 0

    def endless() -> Iterator[tuple[str, Asked]]:
        nonlocal taken
        while True:
            taken += 1
            yield from bulk.from_log(engine, store, [0], time)

    answers = bulk.Bulk(engine, np.arange(9), time, TOP).best(endless())
    for groups in (1, 2, 3):
        next(answers)
        assert taken == groups * bulk.GROUP


def test_events_at_or_after_the_time_are_not_read_and_users_without_any_are_left_out(
    engine: Engine, store: EventStore
) -> None:
    first = int(np.asarray(store.times).min())
    people = list(bulk.from_log(engine, store, range(len(store.user_ids)), first + 1))
    empty = [user for user, asked in people if not len(asked.items)]
    groups = list(bulk.Bulk(engine, np.arange(9), first + 1, TOP).best(iter(people)))
    assert 0 < sum(best.left_out for best in groups) == len(empty) < len(people)
    assert [user for best in groups for user in best.users] == [user for user, _ in people if user not in empty]


def test_candidates_are_the_items_that_had_an_event_so_far(engine: Engine, store: EventStore) -> None:
    early = int(np.quantile(store.times, 0.02))
    seen = np.unique(store.items[np.asarray(store.times) < early])
    assert bulk.alive(engine, store, early).tolist() == seen.tolist()
    assert 0 < len(seen) < len(bulk.alive(engine, store, after_the_log(store)))


def test_a_model_that_reads_stored_instances_is_refused(tmp_path: Path) -> None:
    engine = Engine(bundle(tmp_path / "iat", "iat"), "1")
    with says("score: version 1 reads stored instances, which are not in its bundle"):
        bulk.Bulk(engine, np.arange(3), 10, TOP)
