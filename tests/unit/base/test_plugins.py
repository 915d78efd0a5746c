"""What other distributions bring by entry points, and one clear line where one cannot be used."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit import says
from plugins import PLUGIN, install, write_metadata

from hisac_lab.base import plugins
from hisac_lab.base.plugins import MODELS, QUANTIZERS, SOURCES

Bring = Callable[..., None]


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bring]:
    """Puts a distribution with entry points of one group on the path: `bring(group, name, **points)`."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(group: str, distribution: str, **points: str) -> None:
        write_metadata(tmp_path, distribution, "1.0", {group: points})
        plugins.points.cache_clear()

    yield write
    plugins.points.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(group: str, taken: tuple[str, ...] = ()) -> dict[str, object]:
    return plugins.load(group, taken, lambda name, value: None if callable(value) else "is no function")


def test_nothing_is_brought_unless_something_is_installed() -> None:
    assert all(plugins.names(group) == () for group in plugins.GROUPS)
    assert load(MODELS) == plugins.origin(MODELS, "hisac") == {}
    assert plugins.luggage(MODELS, "hisac", Path("nowhere")) == ([], [])


def test_what_is_brought_is_loaded_and_its_origin_known(bring: Bring) -> None:
    bring(MODELS, "my-models", mine="json:dumps")
    bring(SOURCES, "my-log", theirs="json:loads")
    assert list(load(MODELS)) == ["mine"]
    assert plugins.origin(MODELS, "mine") == {"package": "my-models==1.0"}
    assert plugins.names(SOURCES) == ("theirs",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_package:Model", "cannot be imported (ModuleNotFoundError: No module named 'no_such_package')"),
        ("json:Model", "cannot be imported (AttributeError"),
        ("broken_package:Model", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("json:__name__", "json:__name__ is no function"),
    ],
)
def test_what_cannot_be_used_is_one_line(bring: Bring, tmp_path: Path, value: str, words: str) -> None:
    (tmp_path / "broken_package.py").write_text("1 / 0\n")
    bring(MODELS, "my-models", mine=value)
    with says("package my-models==1.0", "entry point mine of hisac_lab.models", words, "fix or uninstall the package"):
        load(MODELS)


def test_a_name_is_nobodys_twice(bring: Bring) -> None:
    bring(QUANTIZERS, "my-codes", random="json:dumps")
    with says("package my-codes==1.0", "entry point random", "hisac-lab has a 'random' too", "rename it"):
        load(QUANTIZERS, ("random",))
    bring(QUANTIZERS, "other-codes", random="json:loads")
    with says("package other-codes==1.0", "my-codes==1.0 has a 'random' too"):
        load(QUANTIZERS)


def test_the_digest_is_of_the_code_and_needs_no_import(bring: Bring, tmp_path: Path) -> None:
    code = tmp_path / "broken_package.py"
    code.write_text("1 / 0\n")
    bring(MODELS, "my-models", mine="broken_package:Model")
    (point,) = plugins.points(MODELS)
    before = plugins.digest(point)
    code.write_text("2 / 0\n")
    assert plugins.digest(point) != before
    bring(SOURCES, "my-log", lost="no_such_package:LOG")
    with says("package my-log==1.0", "there is no package 'no_such_package'"):
        plugins.digest(plugins.points(SOURCES)[0])


def test_a_served_model_takes_its_package_metadata_and_requirements_along(bring: Bring, tmp_path: Path) -> None:
    install(PLUGIN, tmp_path)
    plugins.points.cache_clear()
    paths, needs = plugins.luggage(MODELS, "peak", tmp_path / "folder")
    assert [path.name for path in paths] == ["shop_models", "shop_models-1.2.dist-info"]
    assert "peak = shop_models.peak:PeakBranch" in (paths[1] / "entry_points.txt").read_text()
    assert needs == ["numpy>=2"]


def test_the_documentation_names_the_entry_points_of_the_package_of_the_tests() -> None:
    page = (PLUGIN.parents[1] / "docs/howto/add_package.md").read_text()
    shown = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["project"]
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    assert shown["entry-points"] == project["entry-points"]
