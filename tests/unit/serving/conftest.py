"""A small model behind the server, and its stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundles import bundle, reader_of_all
from fastapi.testclient import TestClient

from hisac_lab.config.serve import ServeConfig
from hisac_lab.events.batches import Requests
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import ItemSpace
from hisac_lab.serving.app import make_app
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.service import Service
from hisac_lab.serving.states import SQLiteStates


@pytest.fixture(scope="session")
def hisac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of HiSAC."""
    return bundle(tmp_path_factory.mktemp("bundles") / "hisac", "hisac")


@pytest.fixture(scope="session")
def model(items: ItemSpace, rows: dict[str, Requests]) -> Ranker:
    """A model that reads all features, those of items, pairs, users and feedback, on the log of `store`."""
    return reader_of_all(items, rows["train"])


@pytest.fixture
def states(tmp_path: Path) -> SQLiteStates:
    """An empty store."""
    return SQLiteStates(tmp_path / "states.db")


@pytest.fixture
def service(hisac: Path, states: SQLiteStates) -> Service:
    """HiSAC over an empty store, at a clock that stands at 1,000,000; states are fresh for 300 s."""
    return Service(Engine(hisac, "1"), states, 300, 100, now=lambda: 1_000_000.0)


@pytest.fixture
def ask(service: Service) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of the server with given settings."""
    open_clients = list[TestClient]()

    def client(**settings: object) -> TestClient:
        made = TestClient(make_app(ServeConfig.model_validate(settings), service), raise_server_exceptions=False)
        open_clients.append(made)
        return made.__enter__()

    yield client
    for made in open_clients:
        made.__exit__(None, None, None)
