"""The code that a module runs: what of its package it imports, directly or not, read from the files and not imported.

The catalogs import modules by name, which is not seen here: a stage depends on the kinds that it runs by the stage
`code` (see `hisac_lab.cli.code`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hisac_lab.base.artifacts import digest_of, sha256_file


@dataclass(frozen=True)
class Package:
    """A package on disk.

    Attributes:
        name: Its name.
        home: Its folder, or its only file.
    """

    name: str
    home: Path

    def reached(self, modules: Iterable[str]) -> frozenset[str]:
        """These modules and every module of this package that they import, directly or not."""
        seen = set(modules)
        todo = list(seen)
        while todo:
            new = {name for name in named(self, todo.pop()) if self.holds(name)} - seen
            seen |= new
            todo += new
        return frozenset(seen)

    def digest(self, *modules: str) -> str:
        """Of the files of these modules and of all that they reach."""
        return digest_of([[module, sha256_file(self.file_of(module))] for module in sorted(self.reached(modules))])

    def holds(self, module: str) -> bool:
        """Whether it is a module of this package; a name in a module is none, nor is the package itself."""
        return module.startswith(f"{self.name}.") and self.file_of(module).is_file()

    def file_of(self, module: str) -> Path:
        """Where a module of this package would stand."""
        path = self.home.joinpath(*module.split(".")[1:])
        return path / "__init__.py" if path.is_dir() else path if path == self.home else path.with_suffix(".py")


@cache
def named(package: Package, module: str) -> frozenset[str]:
    """Whatever a module of a package imports itself, wherever the import stands in it, also names in modules."""
    path, names = package.file_of(module), set()
    here = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return frozenset(names)


OURS = Package("hisac_lab", Path(__file__).parent.parent)
