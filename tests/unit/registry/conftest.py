"""A registry of its own for each test, and bundles to fill it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from registered import finish, opened

from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.store import Registry


@pytest.fixture(scope="session")
def run_made(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """A finished run that no test may change."""
    return finish(tmp_path_factory.mktemp("finished") / "artifacts")


@pytest.fixture
def run(run_made: Artifacts, tmp_path: Path) -> Artifacts:
    """The finished run, for a test to change."""
    return Artifacts(Path(shutil.copytree(run_made.root, tmp_path / "artifacts")))


@pytest.fixture
def registry(empty_store: Path, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry; its ledger is `ledger.jsonl` in the test's folder."""
    with opened(empty_store, tmp_path) as registry:
        yield registry
