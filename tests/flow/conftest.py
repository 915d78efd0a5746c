"""One finished tiny project per session; every scenario starts from a copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here runs the real graph."""
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.flow)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A project run once by Snakemake on two cores, committed with its dvc.lock."""
    lab = Lab.found(tmp_path_factory.mktemp("base") / "lab")
    computed = lab.snakemake("--cores", "2")
    assert "train@hisac-0" in computed
    assert "report" in computed
    lab.commit("first run")
    return lab


@pytest.fixture
def lab(base: Lab, tmp_path: Path) -> Lab:
    """A copy of the finished project."""
    return base.copy(tmp_path / "lab")
