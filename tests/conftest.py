"""Artifacts shared by all tests: the stages up to the codebook, run once per session on a made-up log."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import hisac_lab  # noqa: F401 - first of all: it sets portable arithmetic before NumPy and torch are loaded

# isort: split
import pytest
import torch
from hypothesis import settings
from kit import BACKBONE, MODELS, Stages, prepare_log
from tiny import write_movielens

from hisac_lab.base.artifacts import stage_output
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.items import load_items
from hisac_lab.models.contract import ItemSpace
from hisac_lab.sources.acquire import acquire
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize
from hisac_lab.training.train import train_model

collect_ignore = ["plugin"]  # a package from outside; tests/flow installs it and runs its tests
WIDTHS = (8, 8, 8)
# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow puts the code of each model that it loads in front, where processes of later tests would find it."""
    monkeypatch.setattr(sys, "path", sys.path.copy())


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """The stages `acquire` to `codebook` on the made-up log, by their own functions."""
    home = tmp_path_factory.mktemp("stages")
    names = ("raw", "acquire", "prepare", "embed", "tokenize", "codebook")
    made = Stages(*(home / name for name in names))
    write_movielens(made.raw)
    with stage_output(made.acquire) as out:
        acquire(AcquireConfig(path=str(made.raw)), out=out)
    # Likes alone: so few users teach a model in a few steps what these say, but not what every grade says.
    prepare_log(PrepareConfig(history="positives"), made.acquire, made.prepare)
    with stage_output(made.embed) as out:
        method: Literal["text", "cooccurrence"] = "text" if find_spec("wordllama") else "cooccurrence"
        embed(EmbedConfig(method=method), prepared=made.prepare, out=out)
    with stage_output(made.tokenize) as out:
        tokenize(TokenizeConfig(widths=WIDTHS, flat=(6,)), prepared=made.prepare, embedded=made.embed, out=out)
    with stage_output(made.codebook) as out:
        build_codebook(tokenized=made.tokenize, out=out)
    return made


@pytest.fixture(scope="session")
def store(stages: Stages) -> EventStore:
    """The event store of the made-up log."""
    return EventStore.open(stages.prepare)


@pytest.fixture(scope="session")
def items(stages: Stages) -> ItemSpace:
    """What is known of its items: embeddings, fields, codebook."""
    return load_items(prepared=stages.prepare, embedded=stages.embed, codebook=stages.codebook)


@pytest.fixture(scope="session")
def rows(store: EventStore) -> dict[str, Requests]:
    """Requests of each split, at most four candidates a row."""
    return {split: Requests.of(store, store.samples(split), 4) for split in ("train", "valid", "test")}


@pytest.fixture(scope="session")
def trained(stages: Stages, items: ItemSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with two seeds each, trained briefly, as the stage `train` leaves them."""
    home = tmp_path_factory.mktemp("trained")
    config, compute = TrainConfig(epochs=2, batch_requests=64), ComputeConfig(device="cpu")
    for name, key in (("din_50", "din-short-only"), ("hisac", "hisac")):
        for seed in (0, 1):
            with stage_output(home / f"{name}-{seed}") as out:
                train_model(
                    name,
                    MODELS[key],
                    BACKBONE,
                    config,
                    compute,
                    seed,
                    items,
                    prepared=stages.prepare,
                    out=out,
                    work=home / ".work",
                )
    return home


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with nothing in it: to make its tables takes seconds, to copy the file takes none."""
    from registered import PRODUCT, apart, store_in

    from hisac_lab.registry.store import Registry

    home = tmp_path_factory.mktemp("store")
    with apart(home), Registry.open(store_in(home), PRODUCT, home / "ledger.jsonl", home / ".work"):
        pass
    return home / "mlflow.db"
