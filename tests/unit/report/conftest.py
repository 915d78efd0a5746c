"""Finished runs made by hand, and the reports on them: one of two models, and one of many."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import Built, build, make, make_crowd

from hisac_lab.base.stages import Artifacts


@pytest.fixture
def inputs(tmp_path: Path) -> Artifacts:
    """Artifacts that a test may change."""
    return make(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The report of the run as it is made."""
    folder = tmp_path_factory.mktemp("run")
    return build(make(folder / "artifacts"), folder)


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The report of many models and seeds."""
    folder = tmp_path_factory.mktemp("crowd")
    return build(make_crowd(folder / "artifacts"), folder)
