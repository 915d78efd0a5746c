"""The code that a module runs, read from its imports."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

from hisac_lab.base.code import OURS, Package, named

MODULES = (
    "hisac_lab.cli.stages.train",
    "hisac_lab.cli.stages.report",
    "hisac_lab.models.hisac",
    "hisac_lab.base.errors",
)


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_reaches_is_what_it_imports(module: str) -> None:
    graph = grimp.build_graph("hisac_lab")
    packages = {name for name in OURS.reached([module]) if OURS.file_of(name).name == "__init__.py"}
    assert OURS.reached([module]) - packages == ({module} | graph.find_upstream_modules(module)) - packages


@pytest.fixture
def house(tmp_path: Path) -> Package:
    """Modules of a package: one imports two, inside a function, and two the room three; four stands alone."""
    (tmp_path / "three").mkdir()
    texts = {
        "one": "def run():\n    from house.two import x\n",
        "two": "from . import three\nfrom .three.deep import y\nx = 1\n",
        "three/__init__": "",
        "three/deep": "import json\nfrom ..one import run\n",
        "four": "",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    return Package("house", tmp_path)


def test_imports_are_followed_also_relative_ones_and_in_a_circle(house: Package) -> None:
    assert house.reached(["house.one"]) == {"house.one", "house.two", "house.three", "house.three.deep"}
    assert house.reached(["house.four"]) == {"house.four"}
    assert "json" in named(house, "house.three.deep")


def test_a_digest_changes_with_what_is_reached_and_nothing_else(house: Package) -> None:
    before = house.digest("house.one")
    (house.home / "four.py").write_text("x = 3\n")
    assert house.digest("house.one") == before
    (house.home / "three/deep.py").write_text("y = 2\n")
    assert house.digest("house.one") != before


def test_a_package_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("import json\n")
    alone = Package("alone", tmp_path / "alone.py")
    assert alone.reached(["alone"]) == {"alone"}
    assert alone.digest("alone")
