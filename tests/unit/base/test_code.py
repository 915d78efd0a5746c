"""The code that a module runs, read from its imports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from hisac_lab.base import code

MODULES = (
    "hisac_lab.cli.stages.train",
    "hisac_lab.cli.stages.report",
    "hisac_lab.models.hisac",
    "hisac_lab.base.errors",
)


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_reaches_is_what_it_imports(module: str) -> None:
    graph = grimp.build_graph("hisac_lab")
    packages = {name for name in code.reached([module]) if code.file_of(name).name == "__init__.py"}
    assert code.reached([module]) - packages == ({module} | graph.find_upstream_modules(module)) - packages


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three modules: one imports two, inside a function; three stands alone."""
    for name, text in (("one", "def run():\n    from hisac_lab.two import x\n"), ("two", "x = 1\n"), ("three", "")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(code, "HOME", tmp_path)
    code.imports.cache_clear()
    yield tmp_path
    code.imports.cache_clear()


def test_a_digest_changes_with_what_is_reached_and_nothing_else(house: Path) -> None:
    before = code.digest("hisac_lab.one")
    assert code.reached(["hisac_lab.one"]) == {"hisac_lab.one", "hisac_lab.two"}
    (house / "three.py").write_text("x = 3\n")
    assert code.digest("hisac_lab.one") == before
    (house / "two.py").write_text("x = 2\n")
    assert code.digest("hisac_lab.one") != before
