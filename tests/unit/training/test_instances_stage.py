"""The stage `instances`: every sample once, by weights that had not seen its label; models that read it, end to end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, DAY, Stages, says

from hisac_lab.abtest.experiment import abtest
from hisac_lab.abtest.people import Log, choose_pools, population
from hisac_lab.abtest.policies import slates
from hisac_lab.abtest.records import ABTests
from hisac_lab.base.artifacts import load_array, read_manifest, sha256_tree
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.model import BackboneConfig, ExperimentConfig, InstancesConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.evaluation.evaluate import evaluate, runs_of
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.batches import Requests
from hisac_lab.events.instances import AFTER, BEFORE, InstanceQuery, InstanceStore, InstanceView
from hisac_lab.events.records import InstancesMade
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.records import ModelFile
from hisac_lab.inference.sides import StoredInstances
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History, ItemSpace, UserState
from hisac_lab.models.iat import IATConfig
from hisac_lab.models.instance_source import InstanceSource
from hisac_lab.models.instances import Instances
from hisac_lab.training.instances import make_instances
from hisac_lab.training.source import pieces
from hisac_lab.training.train import train_model

CONFIG = InstancesConfig(order="user", dim=8, decoder=(8,), window=16, layers=1, heads=2, chunks=4)
TRAIN = TrainConfig(epochs=1, batch_requests=64)
COMPUTE = ComputeConfig(device="cpu")
IAT = IATConfig(dim=8, window=12, layers=1, heads=2)
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(stages: Stages, items: ItemSpace, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Runs the stage; keywords are settings."""

    def run(
        prepared: Path = stages.prepare,
        train: TrainConfig = TRAIN,
        backbone: BackboneConfig = BACKBONE,
        **changes: object,
    ) -> Path:
        out = tmp_path_factory.mktemp("instances")
        config = InstancesConfig.model_validate(CONFIG.model_dump() | changes)
        make_instances(config, backbone, train, COMPUTE, items, prepared=prepared, out=out)
        return out

    return run


@pytest.fixture(scope="module")
def made(make: Make) -> Path:
    """The store of these settings."""
    return make()


def _everything(made: Path) -> dict[str, np.ndarray]:
    store = InstanceStore.open(made)
    users = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))
    return {"user": users, "time": store.times, "item": store.items, "label": store.labels} | store.vectors


@pytest.mark.parametrize("order", ["temporal", "user"])
def test_the_source_model_reads_the_context_of_its_candidates(make: Make, order: str) -> None:
    told = BACKBONE.model_copy(update={"features": ("length", "popularity", "pair")})
    plain, other = (InstanceStore.open(make(order=order, backbone=backbone)) for backbone in (BACKBONE, told))
    assert np.array_equal(plain.times, other.times)
    assert np.isfinite(np.asarray(other.vectors[BEFORE], np.float32)).all()
    assert not np.array_equal(plain.vectors[BEFORE], other.vectors[BEFORE])


def test_without_an_order_no_store_is_made(make: Make) -> None:
    out = make(order="none")
    assert [path.name for path in out.iterdir()] == ["manifest.json"]
    assert read_manifest(out) == {"arithmetic": "portable", "order": "none", "digest": "none"}
    with says("holds no instances", "temporal or user"):
        InstanceStore.open(out)


@pytest.mark.parametrize("order", ["temporal", "user"])
def test_every_sample_is_stored_once_by_user_and_time(order: str, make: Make, made: Path, store: EventStore) -> None:
    out = made if order == "user" else make(order=order, precision="float32")
    found, manifest = _everything(out), read_manifest(out)
    samples = np.concatenate([store.samples(split) for split in SPLITS])
    kept = samples[np.argsort(samples["user"], kind="stable")]
    for name in ("user", "time", "item", "label"):
        np.testing.assert_array_equal(found[name], kept[name])
    same = np.diff(found["user"]) == 0
    assert (np.diff(found["time"])[same] >= 0).all()
    np.testing.assert_array_equal(load_array(out, "arrived"), kept["time"] + 3600)
    assert manifest["rows"] == ([BEFORE, AFTER] if order == "user" else [BEFORE])
    for name in manifest["rows"]:
        assert found[name].dtype == (np.float16 if order == "user" else np.float32)
        assert found[name].any(axis=1).all()
    assert (np.abs(found[BEFORE]) <= 1).all()
    assert manifest["instances"] == {split: len(store.samples(split)) for split in SPLITS}
    assert manifest["vector_bytes"] == sum(found[name].nbytes for name in manifest["rows"])
    assert not list(out.glob(".*"))


def test_the_stage_gives_the_same_bytes_again(make: Make, made: Path) -> None:
    again, other = make(), make(seed=1)
    assert sha256_tree(again) == sha256_tree(made)
    assert len({InstancesMade.open(out).digest for out in (made, again)}) == 1
    assert InstancesMade.open(other).digest != InstancesMade.open(made).digest


def test_the_curve_says_how_well_unseen_instances_are_ranked(make: Make) -> None:
    out = make(train=TrainConfig(epochs=6, batch_requests=16), chunks=8)
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    assert [point.get("chunk") for point in curve] == [*range(8), None]
    assert curve[-1]["split"] == "valid"
    auc = InstancesMade.open(out).source_valid_auc
    assert auc is not None
    assert curve[-1]["auc"] == auc > 0.6
    assert np.mean([point["log_loss"] for point in curve[-3:]]) < curve[0]["log_loss"]


def _other_log(prepared: Path, home: Path, change: Callable[[str, np.ndarray], None]) -> Path:
    """The prepared log with some arrays changed in place."""
    shutil.copytree(prepared, home)
    for path in home.glob("*.npy"):
        values = np.load(path)
        change(path.stem, values)
        np.save(path, values)
    return home


@pytest.mark.parametrize("order", ["temporal", "user"])
@pytest.mark.parametrize("delay", [0, 25 * DAY])
def test_no_vector_depends_on_its_own_or_a_later_label(
    order: str, delay: int, make: Make, stages: Stages, store: EventStore, tmp_path: Path
) -> None:
    """Labels that arrive from some moment on may be anything: vectors of before stay as they are, bit by bit."""
    moment = int(np.quantile(store.samples("train")["time"], 0.6))

    def flip(name: str, values: np.ndarray) -> None:
        if name.startswith("samples_"):
            late = values["time"] + delay >= moment
            values["label"][late] = 1 - values["label"][late]

    other = _other_log(stages.prepare, tmp_path / "other", flip)
    one, two = (_everything(make(path, order=order, label_delay=delay)) for path in (stages.prepare, other))
    early = one["time"] < moment
    names = (BEFORE, AFTER) if order == "user" else (BEFORE,)
    for name in names:
        np.testing.assert_array_equal(one[name][early], two[name][early])
        assert (one[name][~early] != two[name][~early]).any()


def test_nothing_after_the_training_period_touches_its_vectors(
    make: Make, made: Path, stages: Stages, store: EventStore, tmp_path: Path
) -> None:
    """Nor does a label of validation or test touch any vector."""
    end = int(store.samples("valid")["time"].min())
    times, count = np.asarray(store.times), int(store.manifest.items)

    def change(name: str, values: np.ndarray) -> None:
        if name == "history_items":
            values[times >= end] = (values[times >= end] + 1) % count
        if name in ("samples_valid", "samples_test"):
            values["item"] = (values["item"] + 1) % count
            values["label"] = 1 - values["label"]

    def labels(name: str, values: np.ndarray) -> None:
        if name in ("samples_valid", "samples_test"):
            values["label"] = 1 - values["label"]

    one = _everything(made)
    two = _everything(make(_other_log(stages.prepare, tmp_path / "all", change)))
    three = _everything(make(_other_log(stages.prepare, tmp_path / "labels", labels)))
    early = one["time"] < end
    for name in (BEFORE, AFTER):
        np.testing.assert_array_equal(one[name][early], two[name][early])
        assert (one[name][~early] != two[name][~early]).any(axis=1).mean() > 0.9
        np.testing.assert_array_equal(one[name], three[name])


def test_rows_after_the_transformer_know_what_was_before_and_not_the_same_second(made: Path) -> None:
    """By the frozen weights of the end: the stored row of a test instance is the one a stream would compute."""
    model, _ = load_model(made / "source")
    assert isinstance(model, InstanceSource)
    store, places = InstanceStore.open(made), []
    for user in range(5):
        begin, end = int(store.offsets[user]), int(store.offsets[user + 1])
        if end - begin > 1:
            places.append((user, end - 1))
    assert len(places) > 3
    for user, place in places:
        query = InstanceQuery(CONFIG.window - 1, CONFIG.dim)
        past = Instances.of(store.fetch(np.array([user]), store.times[[place]], query))
        one = torch.ones(1, 1, dtype=torch.int64)
        state = model.encode(History(one, one, one.bool(), instances=past))
        row = torch.from_numpy(store.vectors[BEFORE][place].astype(np.float32))[None, None]
        found = model.after(UserState(state.tensors), row)[0, 0]
        np.testing.assert_allclose(found.detach().numpy(), store.vectors[AFTER][place].astype(np.float32), atol=0.01)


def test_learning_reads_what_is_stored_before_a_piece(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Instances] = []
    whole = InstanceSource.score_users

    def watched(model: InstanceSource, *given: Any) -> torch.Tensor:
        seen.append(given[5])
        return whole(model, *given)

    monkeypatch.setattr(InstanceSource, "score_users", watched)
    make()
    assert any(past.mask.any() for past in seen)
    assert not any(past.vectors.requires_grad for past in seen)
    for past in seen:
        assert past.mask.shape[1] < CONFIG.window
        assert (past.ages[past.mask] > 0).all()
        assert past.vectors[past.mask].any(dim=1).all()


def test_pieces_are_of_one_user_and_no_longer_than_the_window() -> None:
    random = np.random.default_rng(0)
    users, sizes = np.sort(random.integers(0, 6, 80)), random.integers(1, 5, 80)
    starts = pieces(users, sizes, 9)
    for begin, end in zip(starts, [*starts[1:], 80], strict=True):
        assert len(set(users[begin:end])) == 1
        assert sizes[begin:end].sum() <= 9
        if end < 80 and users[end] == users[begin]:
            assert sizes[begin : end + 1].sum() > 9
    assert len(pieces(users[:0], sizes[:0], 9)) == 0
    assert pieces(np.zeros(2, int), np.array([7, 7]), 4).tolist() == [0, 1]


@pytest.fixture(scope="module")
def trained(stages: Stages, items: ItemSpace, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads the store and one that does not, as the stage `train` leaves them."""
    home = tmp_path_factory.mktemp("trained")
    for name, config in (("iat", IAT), ("shuffled", IAT.model_copy(update={"instances": "shuffled"}))):
        out = home / f"{name}-0"
        out.mkdir()
        train_model(
            name,
            config,
            BACKBONE,
            TRAIN,
            COMPUTE,
            0,
            items,
            prepared=stages.prepare,
            out=out,
            work=home / ".work",
            instances=made,
        )
    return home


def _scored(run: Path, rows: Requests, made: InstanceStore) -> np.ndarray:
    model, _ = load_model(run)
    reads = model.reads
    assert reads is not None
    return score(model, Loader(rows, CPU, (StoredInstances(InstanceView(made, reads)),)))


def _changed(made: InstanceStore, where: np.ndarray, what: str) -> InstanceStore:
    if what == "label":
        return dataclasses.replace(made, labels=np.where(where, 1 - made.labels, made.labels))
    items = np.where(where, (made.items + 1) % 50, made.items)
    vectors = {name: np.where(where[:, None], 0.3, rows) for name, rows in made.vectors.items()}
    return dataclasses.replace(made, items=items, vectors=vectors)


def test_a_label_is_invisible_until_it_arrived_and_an_instance_until_it_was(
    trained: Path, made: Path, rows: dict[str, Requests]
) -> None:
    """End to end: what had not arrived at a request changes no score of it; what had, does."""
    test, store = rows["test"], InstanceStore.open(made)
    moment = int(np.median(test.time))
    test = test.take(np.flatnonzero(test.time <= moment))
    plain = _scored(trained / "iat-0", test, store)
    now = {"label": store.arrived >= moment, "instance": store.times >= moment}
    for what, late in now.items():
        assert late.any()
        assert (~late).any()
        np.testing.assert_array_equal(_scored(trained / "iat-0", test, _changed(store, late, what)), plain)
        assert (_scored(trained / "iat-0", test, _changed(store, ~late, what)) != plain).mean() > 0.5


def test_a_request_never_reads_itself(made: Path, rows: dict[str, Requests], items: ItemSpace) -> None:
    model = build(IAT, BACKBONE, items, 0)
    for split in SPLITS:
        loader = Loader.of(model, rows[split], CPU, made)
        past = loader.batch(np.arange(len(loader))).history.instances
        assert past is not None
        assert past.mask.any()
        assert (past.ages[past.mask] > 0).all()


def test_a_saved_model_scores_and_refuses_another_store(
    trained: Path, made: Path, make: Make, rows: dict[str, Requests]
) -> None:
    run = trained / "iat-0"
    assert ModelFile.open(run).instances == InstancesMade.open(made).digest
    model, config = load_model(run, instances=made)
    assert config == IAT
    scores = score(model, Loader.of(model, rows["test"], CPU, made))
    assert scores.std() > 0
    assert not np.array_equal(scores, _scored(trained / "shuffled-0", rows["test"], InstanceStore.open(made)))
    with says("model.json", "instances", "trained with instance store", "train it again"):
        load_model(run, instances=make(seed=1))
    with says("model.json", "instances", "none"):
        load_model(run, instances=make(order="none"))
    with says("no stored instances", "stage instances"):
        Loader.of(model, rows["test"], CPU)


def test_rows_after_the_transformer_are_refused_where_there_is_none(
    make: Make, items: ItemSpace, rows: dict[str, Requests]
) -> None:
    model = build(IAT.model_copy(update={"stored": "after"}), BACKBONE, items, 0)
    with says("instances.order", "holds no rows 'after'", "user"):
        Loader.of(model, rows["test"], CPU, make(order="temporal"))


def test_evaluation_and_ab_test_feed_the_model(trained: Path, made: Path, stages: Stages, tmp_path: Path) -> None:
    experiment = ExperimentConfig(models=("iat", "shuffled"), seeds=(0,))
    for name in ("evaluate", "abtest"):
        (tmp_path / name).mkdir()
    config = EvaluateConfig(reference="iat", bootstrap=20)
    out = tmp_path / "evaluate"
    evaluate(
        config,
        COMPUTE,
        prepared=stages.prepare,
        runs=runs_of(trained, experiment),
        out=out,
        timings=tmp_path / "timings.json",
        instances=made,
    )
    found = Scores.open(out).models
    assert found["iat"].cost.encode_macs > 0
    assert found["iat"].auc.value != found["shuffled"].auc.value
    test = ABTestConfig(control="iat", users=100, visits=2, pool=10, slate=3, world_dim=4, aa_tests=20)
    abtest(
        test,
        experiment,
        COMPUTE,
        prepared=stages.prepare,
        trained=trained,
        evaluated=out,
        out=tmp_path / "abtest",
        instances=made,
    )
    assert "shuffled" in ABTests.open(tmp_path / "abtest").tests
    store = EventStore.open(stages.prepare)
    people, pools = choose_pools(Log.of(store), population(store.samples("test")), test, True)
    with says("no stored instances"):
        slates(trained / "iat-0", store, people, pools, 3, CPU)
