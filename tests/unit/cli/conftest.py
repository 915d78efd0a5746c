"""A project folder with a finished run, mirrored into MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from registered import apart, finish, write_params

from hisac_lab.cli import registry


@pytest.fixture(scope="session")
def synced(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a finished run, mirrored."""
    home = tmp_path_factory.mktemp("project")
    finish(home / "artifacts")
    shutil.copyfile(empty_store, home / "mlflow.db")
    (home / "dvc.yaml").write_text("stages:\n  prepare: {}\n  report: {}\n")
    write_params(home)
    with apart(home):
        registry.sync()
    return home


@pytest.fixture
def project(synced: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, which is the current folder."""
    home = tmp_path / "project"
    shutil.copytree(synced, home)
    write_params(home)
    with apart(home):
        yield home
