"""One finished tiny project per session; every scenario starts from a copy of it."""

from __future__ import annotations

import fcntl
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from forkserver import forkserver
from lab import ROOT, Lab, nothing_left

LONG = (
    "a_day_computes",
    "t8_killed",
    "simulated_world",
    "t2_",
    "package_from_outside",
    "t12_",
    "whole_graph",
    "model_of_the_readme",
)
"""Tests of a minute or more, which begin first: at the end no worker waits for the other."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here runs the real graph; a second worker begins with what waits for no finished project."""
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.flow)
    items.sort(key=lambda item: not any(f"_{name}" in item.name for name in LONG))
    apart = [item for item in items if "base" not in getattr(item, "fixturenames", ())]
    waiting = [item for item in items if item not in apart]
    half = len(items) // 2  # worksteal gives each of two workers one half of the list
    items[:] = [*waiting[:half], *apart, *waiting[half:]]


@pytest.fixture(scope="session", autouse=True)
def _commands_fork() -> Iterator[None]:
    """Commands of a lab do not load their libraries anew."""
    sources = itertools.chain((ROOT / "src").rglob("*.py"), (ROOT / "workflow").glob("*.py"))
    home = tempfile.TemporaryDirectory()  # not pytest's: the path of a socket is short
    with home, forkserver(Path(home.name) / "bin", sources) as commands, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lab, "commands", commands)
        yield


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Lab:
    """A project run once by Snakemake on two cores, committed with its dvc.lock; workers share it."""
    home = tmp_path_factory.getbasetemp()
    home = home if worker_id == "master" else home.parent
    with (home / "base.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        lab = Lab(home / "base")
        if not (home / "base.done").exists():
            lab = Lab.found(home / "base")
            computed = lab.snakemake("--cores", "2")
            assert {"train@hisac-0", "report"} <= set(computed)
            lab.one_process("sweep")  # it had two, and that is enough
            lab.commit("first run")
            (home / "base.done").touch()
        return lab


@pytest.fixture
def lab(base: Lab, tmp_path: Path) -> Lab:
    """A copy of the finished project."""
    return base.copy(tmp_path / "lab")
