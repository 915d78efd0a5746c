"""A finished run whose models have weights and bundles: what the registry reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished import edit, make
from kit import EVERY, lively, make_items
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from hisac_lab.base.artifacts import MANIFEST, sha256_file, sha256_tree, stage_output
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli.params import defaults
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.inference.bundle import save_model
from hisac_lab.models.contract import ItemSpace
from hisac_lab.registry.bundle import build_bundles
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.store import Registry

KINDS = {"base": "din-short-only", "new": "hisac"}
"""Models of the run, the control first, and their small settings in `kit.EVERY`."""
PRODUCT = "ranker"
PAIRS = [{"one": "new", "other": "base", "difference": 0.01, "interval": [0.007, 0.013], "p": 0.004}]

SETTINGS = yaml.safe_load(defaults())
space = cache(make_items)


def finish(root: Path) -> Artifacts:
    """Artifacts of a finished run with two models of one seed, their weights drawn, their bundles made."""
    made, items = make(root), space()
    edit(made.codebook / MANIFEST, digest=items.codebook.digest)
    for name in KINDS:
        write_weights(made, name, 0, items)
    edit(made.evaluate / "metrics.json", pairs=PAIRS)
    register(made)
    return made


def write_weights(made: Artifacts, name: str, seed: int, items: ItemSpace) -> None:
    """What a training run leaves of its model."""
    key = KINDS[name]
    save_model(made.run(name, seed), lively(key, items, seed), EVERY[key], items)


def register(made: Artifacts) -> None:
    """The stage `register`."""
    with stage_output(made.register) as out:
        build_bundles(ExperimentConfig(models=tuple(KINDS), seeds=(0,)), made, out=out)


def with_evidence(bundle: Path, **changes: Any) -> str:
    """Changes the evidence in a bundle; gives the bundle's new digest."""
    edit(bundle / Evidence.FILE, **changes)
    return sha256_tree(bundle)


def store_in(folder: Path) -> MLflowConfig:
    """Settings of a store in this folder."""
    return MLflowConfig(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment="tests")


def write_params(folder: Path, uri: str | None = None, **promotion: float) -> None:
    """params.yaml with a store in this folder, or at this address; the made-up run has no log to replay."""
    mlflow = SETTINGS["mlflow"] | store_in(folder).model_dump() | ({} if uri is None else {"tracking_uri": uri})
    settings = SETTINGS | {"mlflow": mlflow, "promotion": SETTINGS["promotion"] | {"replay_requests": 0} | promotion}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))


def where(folder: Path) -> tuple[MLflowConfig, str, Path]:
    """Settings of a store in this folder, the product, and the ledger beside it."""
    return store_in(folder), PRODUCT, folder / "ledger.jsonl"


@contextmanager
def opened(empty: Path, folder: Path) -> Iterator[Registry]:
    """Opens a copy of a store alone in a folder; what MLflow sets in this process ends with the block."""
    if not (folder / "mlflow.db").exists():
        copy_store(empty.parent, folder)
    with apart(folder), Registry.open(*where(folder), folder / ".work") as registry:
        yield registry


def copy_store(home: Path, folder: Path) -> None:
    """Copies an MLflow store, its files and its ledger, as far as they are there."""
    shutil.copyfile(home / "mlflow.db", folder / "mlflow.db")
    if (home / "mlruns").exists():
        shutil.copytree(home / "mlruns", folder / "mlruns")
    if (home / "ledger.jsonl").exists():
        shutil.copyfile(home / "ledger.jsonl", folder / "ledger.jsonl")


@contextmanager
def apart(folder: Path) -> Iterator[None]:
    """Works in a folder, where MLflow keeps its files; takes back what MLflow sets and remembers in this process."""
    _artifact_repos_cache.clear()  # by a run's identifier, which copies of a store share
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
            patch.setenv(name, "")
            patch.delenv(name)
        yield


def add_foreign(registry: Registry, source: Path) -> None:
    """Registers a model that comes from no bundle, with a champion, as others may on a shared server."""
    registry.client.create_registered_model("foreign")
    registry.client.create_model_version("foreign", str(source))
    registry.client.set_registered_model_alias("foreign", "champion", "1")


def listing(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path."""
    return {str(path): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
