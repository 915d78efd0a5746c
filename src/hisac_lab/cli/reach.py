"""Which stages of dvc.yaml a setting reaches: those that name it, those below them, and the runs that it decides on."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import yaml

from hisac_lab.cli.paths import GRAPH

HOLE = re.compile(r"\$\{([^}]+)\}")
DIGESTS = "code"
"""What reads this stage's output reads digests of code; a setting that picks other code is named by the reader too."""


def lines(key: str, values: dict[str, Any]) -> list[str]:
    """What `hisac-lab explain` says of it; nothing where there is no dvc.yaml.

    Args:
        key: A dotted key, or a section.
        values: All settings, nested.
    """
    if not GRAPH.is_file():
        return []
    graph = _stages(GRAPH.read_text())
    direct = {name: found for name, stage in graph.items() if (found := _instances(name, stage, key, values))}
    counted = [name for name, stage in graph.items() if _touch_any(key, _holes(stage.get("matrix", {})))]
    below = _below(graph, {*direct, *counted} - {DIGESTS})
    reached = [name for names in direct.values() for name in names]
    said = [f"stages that depend on it: {', '.join(reached) if reached else 'none'}"]
    if counted:
        said.append(f"it says how often they run: {', '.join(counted)}")
    last = [name for name in graph if name in below and name not in direct and name not in counted]
    if last:
        said.append(f"below these, where what they read has changed: {', '.join(last)}")
    return said


def read(address: str, values: dict[str, Any]) -> list[str]:
    """The sections and keys that a stage, or one instance of it, names in dvc.yaml.

    Args:
        address: By DVC's name: "prepare", "train@hisac-0".
        values: All settings, nested.
    """
    name, _, instance = address.partition("@")
    stage = _stages(GRAPH.read_text())[name]
    matrix = {axis: _filled(entries, values) for axis, entries in stage.get("matrix", {}).items()}
    for chosen in itertools.product(*matrix.values()):
        if "-".join(map(str, chosen)) == instance:
            scope = {**values, "item": dict(zip(matrix, chosen, strict=True))}
            return [str(_filled(param, scope)) for param in stage.get("params", ())]
    return []


@cache
def _stages(text: str) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml."""
    stages: dict[str, dict[str, Any]] = yaml.safe_load(text)["stages"]
    return stages


def _holes(node: Any) -> list[str]:
    """The keys that a part of dvc.yaml takes values of."""
    parts = [*node, *node.values()] if isinstance(node, dict) else node
    return [hole for part in parts for hole in _holes(part)] if isinstance(parts, list) else HOLE.findall(str(node))


def _instances(name: str, stage: dict[str, Any], key: str, values: dict[str, Any]) -> list[str]:
    """The stage's name, or the names of its instances if it is not all of them that depend on the key."""
    matrix = {axis: _filled(entries, values) for axis, entries in stage.get("matrix", {}).items()}
    rest = {part: content for part, content in stage.items() if part != "matrix"}
    reached, total = [], 0
    for chosen in itertools.product(*matrix.values()):
        total += 1
        scope = {**values, "item": dict(zip(matrix, chosen, strict=True))}
        named = [str(_filled(param, scope)) for param in stage.get("params", ())]
        if _touch_any(key, [*named, *_holes(rest)]):
            reached.append(f"{name}@{'-'.join(map(str, chosen))}")
    return [name] if reached and len(reached) == total else reached


def _filled(text: Any, values: dict[str, Any]) -> Any:
    if not isinstance(text, str):
        return text

    def look_up(path: str) -> Any:
        value: Any = values
        for step in path.split("."):
            value = value[step]
        return value

    hole = HOLE.fullmatch(text)
    return look_up(hole[1]) if hole else HOLE.sub(lambda match: str(look_up(match[1])), text)


def _below(graph: dict[str, dict[str, Any]], start: set[str]) -> set[str]:
    """Stages that read outputs of these, or of stages that do."""
    reached, todo = set(start), list(start)
    while todo:
        stage = graph[todo.pop()]
        outputs = [_path(out) for part in ("outs", "metrics") for out in stage.get(part, ())]
        for name, other in graph.items():
            if name not in reached and any(
                _beside(_path(dep), out) for dep in other.get("deps", ()) for out in outputs
            ):
                reached.add(name)
                todo.append(name)
    return reached - start


def _path(entry: Any) -> str:
    """A path of dvc.yaml up to its first value of a setting."""
    text = next(iter(entry)) if isinstance(entry, dict) else str(entry)
    return text.partition("${")[0].rstrip("/")


def _beside(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _touch_any(key: str, names: list[str]) -> bool:
    return any(f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for name in names)
