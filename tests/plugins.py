"""Distributions as pip would install them: a package beside its metadata, in a folder that is put on the path."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

PLUGIN = Path(__file__).with_name("plugin")


def install(project: Path, home: Path) -> Path:
    """Installs a project with a `src` folder into `home`."""
    facts = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    shutil.copytree(project / "src", home, dirs_exist_ok=True)
    return write_metadata(home, facts["name"], facts["version"], facts["entry-points"], facts["dependencies"])


def write_metadata(
    home: Path, name: str, version: str, points: Mapping[str, Mapping[str, str]], needs: list[str] | None = None
) -> Path:
    """Writes what `importlib.metadata` reads of a distribution; `points` are entry points by group and name."""
    info = home / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs or [])]) + "\n")
    text = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(text))
    return home
