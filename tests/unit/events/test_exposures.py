"""Exposures beside the samples: every one is there once, in its place, with what the log says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from kit import prepare_log, raw_log

from hisac_lab.base.artifacts import sha256_file
from hisac_lab.base.errors import UserError
from hisac_lab.config.events import KeepConfig, PrepareConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.events.exposures import Exposures
from hisac_lab.events.store import LOGGED, REST, SPLITS, EventStore
from hisac_lab.sources.records import Acquired
from hisac_lab.world.simulate import simulate

RATED = PrepareConfig(positive_from=4.0)


def _log(seed: int, rows: int = 300) -> pd.DataFrame:
    """Ratings of 15 users, several at a time."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"user": random.integers(0, 15, rows), "time": 1_000 + random.integers(0, 60, rows)})
    table["item"], table["rating"] = random.integers(0, 12, rows), random.integers(1, 6, rows)
    return table.drop_duplicates(["user", "item", "time"], ignore_index=True)


def _store(home: Path, log: pd.DataFrame, name: str, config: PrepareConfig) -> EventStore:
    prepare_log(config, raw_log(home / f"{name}-raw", log), home / name)
    return EventStore.open(home / name)


@given(seed=st.integers(0, 1_000), keep=st.sampled_from([0.2, 0.6, 1.0]), least=st.integers(0, 6))
@settings(max_examples=8)
def test_samples_and_what_is_beside_them_are_every_exposure_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, keep: float, least: int
) -> None:
    """As a preparation that leaves nothing out has them: same rows, same histories, same order."""
    home, log = tmp_path_factory.mktemp("log"), _log(seed)
    share = KeepConfig(train=keep, valid=keep, test=keep)
    some = RATED.model_copy(update={"exposures": "all", "keep": share, "min_history": least})
    try:
        found = _store(home, log, "some", some)
    except UserError:  # the draw leaves a period without both labels
        reject()
    whole = _store(home, log, "whole", RATED.model_copy(update={"min_history": 0}))
    for split in SPLITS:
        one, every = Exposures.of(found, split).samples, whole.samples(split)
        for name in ("time", "end", "user", "item", "label"):
            np.testing.assert_array_equal(one[name], every[name])
        assert (np.diff(one["request"]) >= 0).all()
        assert found.manifest.exposures[split] == len(one) - len(found.samples(split))


def test_shards_do_not_change_them_and_without_the_switch_there_are_none(tmp_path: Path) -> None:
    log, share = _log(3), KeepConfig(train=0.5, valid=0.7, test=0.7)
    settings = RATED.model_copy(update={"exposures": "all", "keep": share})
    for shards in ((0,), (0, 1, 2)):
        _store(tmp_path, log, f"shards-{len(shards)}", settings.model_copy(update={"shards": shards}))
    for split in SPLITS:
        name = f"{REST}_{split}.npy"
        assert sha256_file(tmp_path / "shards-1" / name) == sha256_file(tmp_path / "shards-3" / name)
    kept = _store(tmp_path, log, "kept", settings.model_copy(update={"exposures": "kept"}))
    assert not list((tmp_path / "kept").glob(f"*{REST}*"))
    assert kept.manifest.exposures == {}
    for split in SPLITS:
        np.testing.assert_array_equal(Exposures.of(kept, split).samples, kept.samples(split))
    assert kept.manifest.protocol != EventStore.open(tmp_path / "shards-1").manifest.protocol


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, EventStore]:
    """The log of a world with scenes, and its store, of which a third of the requests are samples."""
    home = tmp_path_factory.mktemp("world")
    raw = home / "raw"
    raw.mkdir()
    facts = simulate(WorldConfig(users=8, scene=1.0), out=raw)
    Acquired(dataset="world", layout="world", files={}, **facts).save(raw)
    keep = KeepConfig(train=0.3, valid=0.5, test=0.5)
    prepare_log(PrepareConfig(keep=keep, exposures="all"), raw, home / "prepared")
    return pd.read_parquet(raw / "events"), EventStore.open(home / "prepared")


def test_what_the_log_says_of_an_exposure_stays_with_it(rich: tuple[pd.DataFrame, EventStore]) -> None:
    log, store = rich
    assert store.manifest.logged == {"position": 0, "propensity": 0, "device": 32, "placement": 32}
    parts = [Exposures.of(store, split) for split in SPLITS]
    assert sum(len(part) for part in parts) == len(log)
    by_place = log.set_index(["user", "time", "item"])
    for part in parts:
        ids = store.user_ids[part.samples["user"]].astype(int)
        numbers = store.item_table["item"].to_numpy()[part.samples["item"]].astype(int)
        said = by_place.loc[list(zip(ids, part.samples["time"], numbers, strict=True))]
        np.testing.assert_array_equal(part.samples["label"], said["click"])
        for column, name in enumerate(store.manifest.logged):
            np.testing.assert_array_equal(part.logged[:, column], said[name].to_numpy(np.float32))


def test_histories_and_samples_do_not_hold_it(rich: tuple[pd.DataFrame, EventStore]) -> None:
    """Logged columns stand in files of their own, and truth is not beside the rest; rankers are told none of them."""
    _, store = rich
    beside = {path.stem for path in store.path.glob(f"*_{REST}_train.npy")}
    assert beside == {f"{LOGGED}_{REST}_train"}
    assert len(store.logged("train")) == len(store.samples("train"))
    assert not store.manifest.context.request.names
