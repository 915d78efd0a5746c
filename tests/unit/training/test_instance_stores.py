"""Stores of every logged exposure, of both orders, with columns of the log, in one basis."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit import BACKBONE, CPU, Stages, prepare_log, says

from hisac_lab.base.artifacts import stage_output
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.events import KeepConfig, PrepareConfig
from hisac_lab.config.model import InstancesConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.exposures import Exposures
from hisac_lab.events.instances import BEFORE, ORDERS, InstanceQuery, InstanceStore
from hisac_lab.events.records import InstancesMade
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.iat import IATConfig
from hisac_lab.sources.records import Acquired
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize
from hisac_lab.training.instances import make_instances
from hisac_lab.world import scene
from hisac_lab.world.simulate import simulate

CONFIG = InstancesConfig(order="user", dim=8, decoder=(8,), window=16, layers=1, heads=2, chunks=4)
IAT = IATConfig(dim=8, window=12, layers=1, heads=2)
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(items: ItemSpace, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Runs the stage on a prepared log; keywords are settings."""

    def run(prepared: Path, known: ItemSpace = items, **changes: object) -> Path:
        out = tmp_path_factory.mktemp("instances")
        config = InstancesConfig.model_validate(CONFIG.model_dump() | changes)
        train = TrainConfig(epochs=1, batch_requests=64)
        make_instances(config, BACKBONE, train, ComputeConfig(device="cpu"), known, prepared=prepared, out=out)
        return out

    return run


def _everything(made: Path) -> dict[str, np.ndarray]:
    store = InstanceStore.open(made)
    users = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))
    return {"user": users, "time": store.times, "item": store.items, "label": store.labels} | store.vectors


@pytest.fixture(scope="module")
def all_exposures(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the stages, of which half of the requests are samples and every exposure is kept beside."""
    out = tmp_path_factory.mktemp("all") / "prepared"
    keep = KeepConfig(train=0.5, valid=0.6, test=0.6)
    prepare_log(PrepareConfig(history="positives", keep=keep, exposures="all"), stages.acquire, out)
    return out


@pytest.fixture(scope="module")
def both(make: Make, all_exposures: Path) -> Path:
    """Two stores of all exposures."""
    return make(all_exposures, order="both", basis="last", precision="float32")


@pytest.mark.parametrize("order", ORDERS)
def test_a_store_holds_every_logged_exposure(order: str, both: Path, all_exposures: Path) -> None:
    store = EventStore.open(all_exposures)
    found = _everything(both / order)
    parts = [Exposures.of(store, split).samples for split in SPLITS]
    every = np.concatenate(parts)
    every = every[np.argsort(every["user"], kind="stable")]
    for name in ("user", "time", "item", "label"):
        np.testing.assert_array_equal(found[name], every[name])
    assert found[BEFORE].any(axis=1).all()
    assert len(every) > 1.5 * sum(len(store.samples(split)) for split in SPLITS)
    assert InstancesMade.open(both / order).instances == {
        split: len(part) for split, part in zip(SPLITS, parts, strict=True)
    }


def test_each_model_reads_the_store_it_names(both: Path, all_exposures: Path, items: ItemSpace) -> None:
    rows = Requests.of(EventStore.open(all_exposures), EventStore.open(all_exposures).samples("test"), 4)
    for order, read in ((None, "user"), ("user", "user"), ("temporal", "temporal")):
        model = build(IAT.model_copy(update={"order": order}), BACKBONE, items, 0)
        loader = Loader.of(model, rows, CPU, both)
        past = loader.batch(np.arange(5)).history.instances
        assert past is not None
        plain = InstanceStore.open(both / read).fetch(rows.user[:5], rows.time[:5], InstanceQuery(IAT.window, IAT.dim))
        np.testing.assert_array_equal(past.vectors.numpy(), plain.vectors)
        assert loader.digests == {"instances": InstancesMade.open(both).digest}
    other = build(IAT.model_copy(update={"order": "user"}), BACKBONE, items, 0)
    with says("instances.order", "holds instances of temporal order, not user", "both"):
        Loader.of(other, rows, CPU, both / "temporal")


def test_a_chunk_is_turned_as_a_whole_toward_the_last_weights(both: Path, make: Make, all_exposures: Path) -> None:
    """Distances inside a chunk stay, later vectors are not turned."""
    own = make(all_exposures, order="temporal", precision="float32")
    before, after = (InstanceStore.open(path) for path in (own, both / "temporal"))
    one, two = (np.asarray(store.vectors[BEFORE], np.float64) for store in (before, after))
    moved = (one != two).any(axis=1)
    assert not moved[before.times >= EventStore.open(all_exposures).samples("valid")["time"].min()].any()
    assert moved.mean() > 0.4
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1), rtol=1e-4)
    chunk = np.flatnonzero(moved)[np.argsort(before.times[moved], kind="stable")][:40]
    np.testing.assert_allclose(one[chunk] @ one[chunk].T, two[chunk] @ two[chunk].T, atol=1e-4)
    explained = InstancesMade.open(both / "temporal").explained
    assert explained == InstancesMade.open(own).explained
    assert len(explained) == CONFIG.chunks
    assert all(share is not None and share <= 1 for share in explained)


def test_a_column_that_the_log_has_not_is_refused(make: Make, stages: Stages) -> None:
    with says("settings", "instances.logged", "no column 'mood'", "it has none"):
        make(stages.prepare, logged=("mood",))


def test_the_source_has_features_and_a_tower_of_its_own(make: Make, stages: Stages, both: Path) -> None:
    out = make(stages.prepare, features=("length", "popularity"), tower=(24, 16))
    model, _ = load_model(out / "source")
    assert model.backbone.tower == (24, 16)
    assert model.context_columns.item_names[0] == "popularity"
    assert load_model(both / "user" / "source")[0].backbone.tower == BACKBONE.tower


@pytest.mark.parametrize("order", ORDERS)
def test_no_vector_depends_on_a_later_label_of_any_exposure(
    order: str, make: Make, all_exposures: Path, tmp_path: Path
) -> None:
    """Labels of samples, and of exposures that are none, from some moment on may be anything."""
    store = EventStore.open(all_exposures)
    moment = int(np.quantile(store.samples("train")["time"], 0.6))
    other = tmp_path / "other"
    shutil.copytree(all_exposures, other)
    for path in [*other.glob("samples_*.npy"), *other.glob("rest_*.npy")]:
        rows = np.load(path)
        late = rows["time"] >= moment
        rows["label"][late] = 1 - rows["label"][late]
        np.save(path, rows)
    one, two = (_everything(make(path, order=order, label_delay=0)) for path in (all_exposures, other))
    early = one["time"] < moment
    np.testing.assert_array_equal(one[BEFORE][early], two[BEFORE][early])
    assert (one[BEFORE][~early] != two[BEFORE][~early]).any()


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ItemSpace]:
    """The prepared log of a small world with scenes, and its items."""
    home = tmp_path_factory.mktemp("world")
    raw, prepared, embedded, tokens, book = (home / name for name in ("raw", "prepare", "embed", "tokens", "book"))
    with stage_output(raw) as out:
        facts = simulate(WorldConfig(users=20, scene=2.0), out=out)
        Acquired(dataset="world", layout="world", files={}, **facts).save(out)
    keep = KeepConfig(train=0.3, valid=0.5, test=0.5)
    prepare_log(PrepareConfig(keep=keep, exposures="all"), raw, prepared)
    with stage_output(embedded) as out:
        embed(EmbedConfig(method="supplied"), prepared=prepared, out=out)
    with stage_output(tokens) as out:
        tokenize(TokenizeConfig(widths=(8, 4)), prepared=prepared, embedded=embedded, out=out)
    with stage_output(book) as out:
        build_codebook(tokenized=tokens, out=out)
    return prepared, load_items(prepared=prepared, embedded=embedded, codebook=book)


def _scene_told(store: InstanceStore) -> float:
    """How often a linear map of half of the test vectors tells the scene of the other half."""
    late = store.times >= np.quantile(store.times, 0.8)
    rows = np.c_[np.asarray(store.vectors[BEFORE][late], np.float64), np.ones(int(late.sum()))]
    scenes = scene.of_times(store.times[late])
    half = np.arange(len(rows)) % 2 == 0
    weights = np.linalg.lstsq(rows[half], np.eye(scene.SCENES)[scenes[half]], rcond=None)[0]
    return float(((rows[~half] @ weights).argmax(axis=1) == scenes[~half]).mean())


@pytest.mark.parametrize("order", ORDERS)
def test_an_instance_holds_what_the_log_says_of_the_scene(order: str, make: Make, rich: tuple[Path, ItemSpace]) -> None:
    """Items and events do not tell the scene, and neither do vectors of a source that reads no columns."""
    told, untold = (make(*rich, order=order, chunks=2, logged=logged) for logged in (None, ()))
    assert InstancesMade.open(told).logged == ["device", "placement", "position", "propensity"]
    assert InstancesMade.open(untold).logged == []
    known, unknown = (_scene_told(InstanceStore.open(path)) for path in (told, untold))
    assert unknown < 0.45
    assert known > unknown + 0.1
