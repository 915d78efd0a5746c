"""What other distributions bring: models, sources of data, quantizers, each by an entry point.

The name of an entry point is the word that the settings use: a kind of model, a data set, a method of `tokenize`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hisac_lab.base.artifacts import digest_of, sha256_file, write_file
from hisac_lab.base.code import Package
from hisac_lab.base.errors import UserError

MODELS, SOURCES, QUANTIZERS = GROUPS = ("hisac_lab.models", "hisac_lab.sources", "hisac_lab.quantizers")
SELF = "hisac-lab"


@cache
def points(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, sorted by name."""
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, point.value)))


def names(group: str) -> tuple[str, ...]:
    """What the group brings, by name; nothing is imported."""
    return tuple(dict.fromkeys(point.name for point in points(group)))


def load(group: str, reserved: Collection[str], fault: Callable[[str, Any], str | None]) -> dict[str, Any]:
    """Imports what a group brings, by name.

    Args:
        group: One of `GROUPS`.
        reserved: Names that are this package's own.
        fault: Told a name and what was imported, says what is wrong with it, or None.

    Raises:
        UserError: A name is taken, an entry point cannot be imported, or what it names has a fault.
    """
    loaded: dict[str, Any] = {}
    for point in points(group):
        if point.name in reserved or point.name in loaded:
            others = [package(one) for one in points(group) if one.name == point.name and one != point]
            holder = others[0] if point.name not in reserved else SELF
            raise _refuse(point, f"{holder} has a {point.name!r} too", "rename it in one, or uninstall one")
        try:
            value = point.load()
        except Exception as error:
            what = f"{point.value} cannot be imported ({type(error).__name__}: {error})"
            raise _refuse(point, what, "fix or uninstall the package") from error
        if said := fault(point.name, value):
            raise _refuse(point, f"{point.value} {said}", "fix or uninstall the package")
        loaded[point.name] = value
    return loaded


def find(group: str, name: str) -> EntryPoint | None:
    """The entry point that brings `name`; None: it is this package's own, or nobody's."""
    return next((point for point in points(group) if point.name == name), None)


def origin(group: str, name: str) -> dict[str, str]:
    """`{"package": "NAME==VERSION"}` of what another distribution brings, for records; empty for this package's own."""
    point = find(group, name)
    return {} if point is None else {"package": package(point)}


def package(point: EntryPoint) -> str:
    """Distribution and version of an entry point, as pip writes them."""
    return "unknown" if point.dist is None else f"{point.dist.name}=={point.dist.version}"


def code(point: EntryPoint) -> Package:
    """The package that an entry point names, found without importing it.

    Raises:
        UserError: There is no such package.
    """
    top = point.module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    homes = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    if not homes or homes[0] is None:
        what = f"{point.value} cannot be imported (there is no package {top!r})"
        raise _refuse(point, what, "fix or uninstall the package")
    return Package(top, Path(homes[0]))


def digest(point: EntryPoint) -> str:
    """Of all Python files of the package that an entry point names; nothing is imported."""
    home = code(point).home
    files = sorted(home.rglob("*.py")) if home.is_dir() else [home]
    return digest_of([[path.relative_to(home.parent).as_posix(), sha256_file(path)] for path in files])


def luggage(group: str, name: str, folder: Path) -> tuple[list[Path], list[str]]:
    """What a served model takes with it of the distribution that brings `name`; nothing for this package's own.

    Args:
        group: One of `GROUPS`.
        name: What the distribution brings.
        folder: Takes the distribution's metadata, so that its entry points are found elsewhere too.

    Returns:
        Files and folders for the path, and the requirements of the distribution besides this package.
    """
    point = find(group, name)
    if point is None or point.dist is None:
        return [], []
    info = folder / f"{point.dist.name.replace('-', '_')}-{point.dist.version}.dist-info"
    for file in ("METADATA", "entry_points.txt"):
        write_file(info / file, point.dist.read_text(file) or "")
    homes = {code(one).home for one in points(group) if package(one) == package(point)}
    wanted = [line for line in point.dist.requires or () if "extra ==" not in line]
    return [*sorted(homes), info], [line for line in wanted if _name(line) != SELF]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].replace("_", "-").lower()


def _refuse(point: EntryPoint, what: str, hint: str) -> UserError:
    return UserError(f"package {package(point)}", what, hint, f"entry point {point.name} of {point.group}")
