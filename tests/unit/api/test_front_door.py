"""The front door in Python: the same bytes as the stages, results that print, messages without a settings file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit import BACKBONE, Stages, says
from tiny import make_log, make_people, write_movielens

import hisac_lab as hl
from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.model import BackboneConfig

BRIEF: dict[str, Any] = {
    "backbone": BACKBONE.model_dump(mode="json") | {"features": list(BackboneConfig().features)},
    "train": {"epochs": 1, "batch_requests": 64},
    "compute": {"device": "cpu"},
}
LIKES: dict[str, Any] = {"history": "positives"}
WIDTHS: dict[str, Any] = {"widths": [8, 8, 8], "embed_by": {"method": "cooccurrence", "cooccurrence_dim": 16}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front")


@pytest.fixture(scope="module")
def data(home: Path) -> hl.Data:
    write_movielens(home / "log")
    return hl.load("movielens-100k", path=str(home / "log"), folder=home / "made").prepare(**LIKES).tokenize(**WIDTHS)


@pytest.fixture(scope="module")
def models(data: hl.Data) -> dict[str, hl.Model]:
    return {"DIN": data.fit("din", whole_history=False, **BRIEF), "HiSAC": data.fit("hisac", agents=8, **BRIEF)}


def test_a_step_gives_the_bytes_of_its_stage(data: hl.Data, stages: Stages) -> None:
    assert sha256_tree(data.prepared) == sha256_tree(stages.prepare)


def test_what_is_there_is_not_made_again(data: hl.Data, models: dict[str, hl.Model], home: Path) -> None:
    made = {path: path.stat().st_mtime_ns for path in home.glob("made/*/*/manifest.json")}
    again = hl.load("movielens-100k", path=str(home / "log"), folder=home / "made").prepare(**LIKES).tokenize(**WIDTHS)
    assert again.fit("hisac", agents=8, **BRIEF).path == models["HiSAC"].path
    assert {path: path.stat().st_mtime_ns for path in home.glob("made/*/*/manifest.json")} == made
    assert again.fit("hisac", agents=8, seed=1, **BRIEF).path != models["HiSAC"].path


def test_steps_can_be_watched(data: hl.Data) -> None:
    seen: list[tuple[int, float]] = []
    model = data.fit("mean", seed=3, on_step=lambda step, loss: seen.append((step, loss)), **BRIEF)
    assert [step for step, _ in seen] == list(range(model.record.steps))
    assert all(0 < loss < 2 for _, loss in seen)


def test_models_are_compared_under_one_protocol(models: dict[str, hl.Model]) -> None:
    compared = hl.evaluate(models, bootstrap=20, compute={"device": "cpu"})
    table = compared.table()
    assert set(table["model"]) == {"DIN", "HiSAC"}
    assert table["auc"].is_monotonic_decreasing
    assert table.set_index("model").loc["DIN", "difference"] == 0
    assert compared.scores["HiSAC"].auc.value == pytest.approx(
        float(table["auc"][table["model"] == "HiSAC"].iloc[0]), abs=1e-4
    )
    assert str(compared).splitlines()[0].startswith(f"{compared.protocol.test_samples:,} test samples")
    assert "<table" in compared._repr_html_()
    assert repr(compared) == str(compared)
    assert list(compared.table("log_loss")["log_loss"]) == sorted(compared.table("log_loss")["log_loss"])
    with says("table(): metric", "there is no metric 'ndcg'", "auc"):
        compared.table("ndcg")


def test_ranking_leaves_out_what_was_seen_and_reads_only_the_past(data: hl.Data, models: dict[str, hl.Model]) -> None:
    user = data.users[0]
    begin, end = data.store.offsets[:2]
    names = data.items["item"].to_numpy()
    seen = set(names[np.asarray(data.store.items[begin:end])])
    ranked = models["HiSAC"].rank(user, k=5).table()
    assert list(ranked["rank"]) == [1, 2, 3, 4, 5]
    assert ranked["probability"].is_monotonic_decreasing
    assert not seen & set(ranked["item"])
    everything = models["HiSAC"].rank(user, k=10_000, seen=True).table()
    assert len(everything) == len(names)
    middle = int(data.store.times[begin + 20])
    past = np.asarray(data.store.items[begin:end])[np.asarray(data.store.times[begin:end]) < middle]
    early = models["HiSAC"].rank(user, k=len(names), at=middle).table()
    assert 0 < len(past) <= 20
    assert len(early) == len(names) - len(set(past.tolist()))
    with says("rank(): at", "has no events before 0"):
        models["HiSAC"].rank(user, at=0)
    with says("rank(): users", "there is no user 'nobody'"):
        models["HiSAC"].rank("nobody")


def test_ranking_reads_the_feedback_of_the_history(data: hl.Data, models: dict[str, hl.Model]) -> None:
    assert data.store.feedback is not None
    assert data.store.manifest.feedback is not None
    assert data.store.manifest.feedback.begins == [1, 2, 3, 4, 5]
    other = dataclasses.replace(data)
    vars(other)["store"] = dataclasses.replace(data.store, feedback=6 - np.asarray(data.store.feedback))
    for model in models.values():
        same, turned = (
            dataclasses.replace(model, data=each).rank(data.users[0], k=100, seen=True).table().set_index("item")
            for each in (data, other)
        )
        assert (same["probability"] - turned["probability"]).abs().max() > 1e-6


def test_agents_hold_the_votes_they_say(data: hl.Data, models: dict[str, hl.Model]) -> None:
    found = models["HiSAC"].agents(data.users[0])
    assert 0 < found.covered <= 1
    assert len(found.table()) <= 8
    assert found.table()["votes"].is_monotonic_decreasing
    with says("agents()", "kind din has no agents"):
        models["DIN"].agents(data.users[0])


def test_semantic_ids_stand_beside_their_items(data: hl.Data) -> None:
    table = data.semantic_ids()
    assert len(table) == len(data.items)
    assert table["semantic_id"].str.fullmatch(r"\d+-\d+-\d+").all()
    assert set(table["item"]) == set(data.items["item"])


def test_a_table_in_memory_gives_what_its_file_gives(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"who": random.integers(0, 20, 600), "what": random.integers(0, 30, 600),
                          "when": np.arange(600) * 1000, "stars": random.integers(1, 6, 600)})  # fmt: skip
    columns = {"user": "who", "item": "what", "time": "when", "label": "stars"}
    table.to_csv(tmp_path / "log.csv", index=False)
    kept = hl.load(table, columns=columns).prepare(positive_from=4)
    read = hl.load(tmp_path / "log.csv", columns=columns).prepare(positive_from=4)
    assert np.array_equal(kept.store.items, read.store.items)
    assert len(kept.users) == 20
    assert len(kept.store.items) == 600
    assert "600 events of 20 users" in repr(kept)


def test_users_and_requests_have_the_columns_that_are_named(tmp_path: Path) -> None:
    """Of a table of users in memory or in a file; a ranking is told those of its request."""
    table, _ = make_log()
    table = table.assign(device=np.where(table["time"] // 3600 % 3 == 0, "tv", "phone"))
    columns = {"user": "user", "item": "item", "time": "time"}
    named = columns | {"user_fields": ["gender"], "user_numbers": ["age"], "request_fields": ["device"]}
    make_people().to_csv(tmp_path / "people.csv", index=False)
    kept, read = (hl.load(table, users=users, columns=named) for users in (make_people(), tmp_path / "people.csv"))
    data = kept.prepare(positive_from=4)
    np.testing.assert_array_equal(
        data.store.side("user").values, read.prepare(positive_from=4).store.side("user").values
    )
    assert data.store.manifest.context.user.names == ("gender", "age")
    model = data.tokenize(**WIDTHS).fit("din", whole_history=False, **BRIEF)
    ranked = [
        model.rank(data.users[0], k=5, request=request).table()["probability"].to_numpy()
        for request in (None, {}, {"device": "radio"}, {"device": "tv"})
    ]
    np.testing.assert_array_equal(ranked[1], ranked[0])
    np.testing.assert_array_equal(ranked[2], ranked[0])
    assert (ranked[3] != ranked[0]).all()
    with says("rank(): request", "there is no column 'screen' (there are: device)"):
        model.rank(data.users[0], request={"screen": "wide"})
    with says("settings: prepare.columns.user_fields", "'gender' is a column of a user table, and there is none"):
        hl.load(table, columns=columns | {"user_fields": ["gender"]}).prepare(positive_from=4)


def test_what_lies_nowhere_is_gone_with_its_objects() -> None:
    log = hl.load(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2]}), columns={"label": None})
    place = log.workspace.path
    assert place.is_dir()
    del log
    assert not place.exists()


def test_iat_gets_its_instances(data: hl.Data) -> None:
    model = data.fit("iat", **BRIEF)
    assert model.instances is not None
    assert len(model.rank(data.users[0], k=3).table()) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda data: hl.load("movielens"), ("settings: acquire.path",)),
        (lambda data: hl.load("movie"), ("load(): dataset", "'movie'")),
        (lambda data: hl.load("nowhere.csv"), ("acquire.path", "nowhere.csv")),
        (lambda data: hl.load(3), ("load(): log", "is a int")),  # type: ignore[arg-type]
        (lambda data: hl.load("world", colums={}), ("load(): colums", "unknown key")),
        (lambda data: data.fit("hisac", agent=3), ("fit(): agent", "did you mean `agents`?")),
        (lambda data: data.fit("hisac", epochs=1), ("fit(): epochs", "of the section train", "train={'epochs': 1}")),
        (lambda data: data.fit("din", dim=8), ("fit(): dim", "of the section backbone", "backbone={'dim': 8}")),
        (lambda data: data.fit("hisca"), ("fit(): model", "there is no kind 'hisca'", "hisac")),
        (lambda data: data.fit("din", train={"epochs": 0}), ("fit(): train.epochs", "0")),
        (lambda data: data.tokenize(widths=[1000]), ("settings: tokenize.widths",)),
        (lambda data: hl.evaluate({}), ("evaluate(): models",)),
    ],
)
def test_a_wrong_call_is_one_line_that_names_no_file(
    data: hl.Data, call: Callable[[hl.Data], object], words: tuple[str, ...]
) -> None:
    with says(*words) as error:
        call(data)
    assert "params.yaml" not in str(error.value)


def test_the_simulated_world_is_a_data_set_by_name() -> None:
    world = hl.load("world", world={"preset": "tiny", "users": 60})
    assert repr(world) == "Log(world)"
    assert len(world.prepare().users) == 60
