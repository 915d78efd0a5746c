"""With untouched gates a newcomer's first model is promoted, and a second that is no better is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from days import Day, judge, learn, prepare_day
from kit import BACKBONE
from registered import opened

from hisac_lab.abtest.records import NO_VERDICT, ABTests
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.promotion import PromotionConfig

DAY = 86_400
VOTES = PrepareConfig(positive_from=1.0, columns=ColumnsConfig(text=("title",), fields=("topic",)))
TOUCHES = PrepareConfig(time_unit="day", columns=ColumnsConfig(label=None, text=("title",), fields=("topic",)))
TOPICS = 6


def votes(users: int = 50, days: int = 80, items: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Votes for and against items that live one day: no item of the test is in the training, its topic is.

    A user votes on every second day, on all items of it, for the topics that they like.
    """
    random = np.random.default_rng(0)
    topic = random.integers(TOPICS, size=days * items)
    taste = random.normal(0, 2.5, (users, TOPICS))
    rows = []
    for day in range(days):
        for user in np.flatnonzero(random.random(users) < 0.5):
            asked = np.arange(day * items, (day + 1) * items)
            likes = random.random(items) < 1 / (1 + np.exp(-taste[user, topic[asked]]))
            time = 1_500_000_000 + day * DAY + int(random.integers(DAY // 2))
            ratings = np.where(likes, 1, -1)
            rows.append(pd.DataFrame({"user": user, "item": asked, "rating": ratings, "time": time}))
    events = pd.concat(rows, ignore_index=True)
    names = [f"topic {number}" for number in topic]
    return events, pd.DataFrame({"item": np.arange(len(topic)), "title": names, "topic": names})


def touches(users: int = 50, days: int = 80, files: int = 120) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Touches of files, as the log of a project has them: no refusals, all of a day at once, the same files again.

    A user works on every second day, mostly on files of the two parts that are theirs, some files far more than others.
    """
    random = np.random.default_rng(0)
    part = random.integers(TOPICS, size=files)
    busy = 1 / (1 + random.permutation(files))
    taste = np.full((users, TOPICS), 0.1)
    for row in taste:
        row[random.choice(TOPICS, 2, replace=False)] = 1.0
    rows = []
    for day in range(days):
        for user in np.flatnonzero(random.random(users) < 0.5):
            chance = busy**0.5 * taste[user, part]
            touched = random.choice(files, 3, replace=False, p=chance / chance.sum())
            rows.append(pd.DataFrame({"user": user, "item": touched, "time": 1_500_000_000 // DAY * DAY + day * DAY}))
    events = pd.concat(rows, ignore_index=True)
    names = [f"part {number}" for number in part]
    return events, pd.DataFrame({"item": np.arange(files), "title": names, "topic": names})


LOGS = {"votes": (votes, VOTES), "touches": (touches, TOUCHES)}


@pytest.fixture(scope="module", params=LOGS)
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """A board of two models of one kind: the second learned less."""
    log, config = LOGS[request.param]
    made = prepare_day(tmp_path_factory.mktemp(request.param) / "made", *log(), config)
    features = BACKBONE.model_copy(update={"features": ("length", "popularity", "item_rate", "rate")})
    backbone = features if config is VOTES else BACKBONE
    learn(made, "first", epochs=6, batch=32, backbone=backbone)
    learn(made, "second", epochs=2, batch=64, backbone=backbone)
    return judge(made, "popularity", "first", "second")


def test_items_of_votes_never_return_and_touched_files_do(day: Day) -> None:
    train, test = (set(day.store.samples(split)["item"].tolist()) for split in ("train", "test"))
    if day.store.manifest.feedback is None:
        assert day.store.manifest.negatives != "real exposures"
        assert len(test - train) < len(test) / 10
    else:
        assert len(train & test) <= 4  # those of the day that the cut falls on


def test_the_test_judges_or_says_why_not(day: Day) -> None:
    found = ABTests.open(day.made.abtest)
    assert found.evidence == "fitted"
    for test in found.tests.values():
        assert (test.verdict == NO_VERDICT) == bool(found.reason)


def test_the_first_is_promoted_and_the_second_refused_in_a_line_for_each_gate(
    day: Day, empty_store: Path, tmp_path: Path
) -> None:
    untouched = PromotionConfig()
    with opened(empty_store, tmp_path) as registry:
        owner = registry.client.create_run(registry.experiment).info.run_id
        for name in day.models:
            registry.versions.register(day.made.bundle(name), day.digest(name), owner)
        first = registry.promoter.promote("first", None, untouched)
        second = registry.promoter.promote("second", None, untouched)
    assert first.failed == [], first.gates
    assert first.gates[0].says.startswith("AUC less that of popularity is +")
    assert not second.promoted
    assert "abtest" in second.failed
    assert second.gates[0].says.startswith("AUC less that of the champion, first is ")
    assert len(second.gates) == len(first.gates)
    assert not any("\n" in gate.says for gate in second.gates)
