"""Artifacts have types: files are read by records, stages are listed once, stage functions take paths by name."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hisac_lab.base.stages import STAGES, Artifacts

ROOT = Path(__file__).parents[3]
BASE = ROOT / "src/hisac_lab/base"
READERS = {"read_json", "read_manifest"}
FEW = 3
"""So many names of stages may stand together: what one stage reads."""


def modules() -> list[Path]:
    """Every module that may read what a stage has written."""
    return sorted(path for folder in ("src", "workflow", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def readers(tree: ast.AST) -> Iterator[int]:
    """Lines that name a function which reads JSON without a record."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [node.id] if isinstance(node, ast.Name) else [node.attr] if isinstance(node, ast.Attribute) else []
        if isinstance(node, ast.stmt | ast.expr) and READERS & set(names):
            yield node.lineno


def stage_lists(tree: ast.AST) -> Iterator[int]:
    """Lines that list more than a few stages: in a literal, as arguments, as imported names, or in words to split."""
    for node in ast.walk(tree):
        named: list[str] = []
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            named = [part.value for part in node.elts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        elif isinstance(node, ast.Dict):
            named = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        elif isinstance(node, ast.Call):
            named = [keyword.arg for keyword in node.keywords if keyword.arg]
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Constant):
                named += str(node.func.value.value).split()
        elif isinstance(node, ast.ImportFrom):
            named = [alias.name.lower() for alias in node.names]
        if isinstance(node, ast.stmt | ast.expr) and len(set(named) & set(STAGES)) > FEW:
            yield node.lineno


def found(look: Callable[[ast.AST], Iterator[int]], allowed: set[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        if path not in allowed
        for line in look(ast.parse(path.read_text()))
    ]


def test_what_a_stage_has_written_is_read_by_a_record() -> None:
    assert found(readers, {BASE / "artifacts.py", BASE / "records.py"}) == []


def test_stages_are_listed_once_in_the_order_of_the_graph() -> None:
    assert found(stage_lists, set()) == []
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {*STAGES, "report"} == set(graph)
    for name, stage in graph.items():
        above = {dep.split("/")[1] for dep in stage["deps"] if dep.startswith("artifacts/")}
        assert above <= set(STAGES if name == "report" else STAGES[: STAGES.index(name)])


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ('read_manifest(path)["digest"]', True),
        ('artifacts.read_json(path)["models"]', True),
        ("from hisac_lab.base.artifacts import read_json as read", True),
        ("Codebook.open(path).digest", False),
    ],
)
def test_a_read_by_key_is_seen(code: str, seen: bool) -> None:
    assert bool(list(readers(ast.parse(code)))) == seen


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ('("acquire", "prepare", "embed", "tokenize")', True),
        ('{"acquire": 1, "prepare": 2, "embed": 3, "train": 4}', True),
        ("Inputs(prepare=1, embed=2, tokenize=3, codebook=4)", True),
        ('"acquire prepare embed tokenize".split()', True),
        ("from hisac_lab.cli.paths import ABTEST, EMBED, EVALUATE, TRAIN", True),
        ('("prepare", "embed", "codebook")', False),
    ],
)
def test_a_list_of_stages_is_seen(code: str, seen: bool) -> None:
    assert bool(list(stage_lists(ast.parse(code)))) == seen


def test_outputs_lie_where_dvc_yaml_says(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    assert artifacts.prepare == artifacts.at("prepare") == tmp_path / "prepare"
    assert artifacts.run("hisac", 1) == artifacts.at("train@hisac-1") == artifacts.train / "hisac-1"
    assert artifacts.shards((0, 2)) == [artifacts.shard / "0", artifacts.shard / "2"]
    assert artifacts.bundle("hisac") == artifacts.register / "hisac"


def stage_functions() -> Iterator[Any]:
    """What the entries of the stages call with the name of what it writes."""
    for path in sorted((ROOT / "src/hisac_lab/cli/stages").glob("[a-z]*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        origin = {alias.name: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.Call) and {keyword.arg for keyword in node.keywords} & {"out", "html"}:
                name = ast.unparse(node.func)
                yield getattr(importlib.import_module(str(origin[name])), name)


def test_stage_functions_take_paths_by_name_alone() -> None:
    functions = list(stage_functions())
    assert len(functions) == len(STAGES)  # and report and champion; `code` and `plan` are all in their entries
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        paths = [parameter for parameter in parameters if "Path" in str(parameter.annotation)]
        assert paths
        assert all(path.kind is inspect.Parameter.KEYWORD_ONLY for path in paths), function
