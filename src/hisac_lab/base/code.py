"""The code that a module runs: what of this package it imports, directly or not, read from the files and not imported.

The catalogs import modules by name, which is not seen here: a stage depends on the kinds that it runs by the stage
`code` (see `hisac_lab.cli.code`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from hisac_lab.base.artifacts import digest_of, sha256_file

HOME = Path(__file__).parent.parent
PACKAGE = HOME.name


def reached(modules: Iterable[str]) -> frozenset[str]:
    """These modules and every module of this package that they import, directly or not."""
    seen = set(modules)
    todo = list(seen)
    while todo:
        new = imports(file_of(todo.pop())) - seen
        seen |= new
        todo += new
    return frozenset(seen)


def digest(*modules: str) -> str:
    """Of the files of these modules and of all that they reach."""
    return digest_of([[module, sha256_file(file_of(module))] for module in sorted(reached(modules))])


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules of this package that a file imports itself, wherever the import stands in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.startswith(f"{PACKAGE}.") and file_of(name).is_file())


def file_of(module: str) -> Path:
    """Where a module of this package would stand; a name in a module gives a file that is not there."""
    path = HOME.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
