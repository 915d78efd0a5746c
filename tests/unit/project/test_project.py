"""The project's own promises: one environment, one graph, declared code, small files."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
import yaml
from kit import says

from hisac_lab.cli import graph, main

ROOT = Path(__file__).parents[3]
PACKAGE = "hisac_lab"
# These decide whether a stage starts and where it writes, never what it writes.
DOORS = {f"{PACKAGE}.base.stages", f"{PACKAGE}.cli.paths"}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_dependency_is_pinned_and_conda_installs_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = {name: {name_of(one) for one in extras[name]} for name in extras}
    parts = set().union(
        *(named[name] for name in ("graph", "mlflow", "postgres", "report", "s3", "serve", "sweep", "text", "trees"))
    )
    packages = {"psycopg2": "psycopg2-binary"}
    needed = {packages.get(name, name.replace("_", "-")): extra for name, extra in main.EXTRAS.items()}
    assert parts == set(needed) | {"ruamel.yaml.clib"}, "nothing imports the last one but ruamel.yaml"
    assert all(package in named[extra] for package, extra in needed.items())
    assert extras["all"] == ["hisac-lab[graph,mlflow,report,serve,sweep,text,trees]"]
    wanted = project["dependencies"] + [one for name in extras for one in extras[name]]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {name_of(line): line for line in lines if line and not line.startswith("#")}
    assert all("==" in line for line in pinned.values())
    assert {name_of(one) for one in wanted} - {"hisac-lab"} <= set(pinned)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    assert pip == ["-c constraints.txt", "-e .[test]"]
    assert "python=3.11" in conda
    assert "-c constraints.txt -e '.[test]'" in (ROOT / "Makefile").read_text()


def test_the_environment_that_runs_this_test_is_the_pinned_one() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True, check=True
    )
    installed = {name_of(line): line.split("+")[0] for line in listed.stdout.splitlines() if "==" in line}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#") and name_of(line) in installed:
            assert installed[name_of(line)].lower() == line.lower()


def below_models() -> list[str]:
    """The layers that a model may import, and its own."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = contracts[0]["layers"]
    return [room for layer in layers[layers.index("models") :] for room in layer.split(" | ")]


def test_the_stage_code_looks_at_all_that_a_model_may_import() -> None:
    assert sorted(below_models()) == graph.ROOMS


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_names_every_module_a_stage_imports_and_no_other(stage: str) -> None:
    imports = grimp.build_graph(PACKAGE)
    entry = f"{PACKAGE}.cli.stages.{stage}"
    imported = {entry} | imports.find_upstream_modules(entry)
    if stage == "code":  # it looks at whatever a model may import
        imported |= {module for room in below_models() for module in imports.find_descendants(f"{PACKAGE}.{room}")}
    files = set()
    for module in imported - DOORS:
        origin = importlib.util.find_spec(module)
        assert origin is not None
        assert origin.origin is not None
        path = Path(origin.origin)
        if path.name == "__init__.py" and path.read_text().count("\n") <= 1:
            continue  # a package's docstring
        files.add(path.relative_to(ROOT).as_posix())
    declared = [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]
    missing = {file for file in files if not any(file == dep or file.startswith(f"{dep}/") for dep in declared)}
    idle = {dep for dep in declared if not any(file == dep or file.startswith(f"{dep}/") for file in files)}
    assert not missing, f"stage {stage} of dvc.yaml does not name {sorted(missing)}"
    assert not idle, f"stage {stage} of dvc.yaml names {sorted(idle)} for nothing"


def test_the_code_in_dvc_yaml_is_what_the_command_writes() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert graph.with_code(text) == text, "run `hisac-lab graph`"
    without = re.sub(r"    - src/.*\n", "", text)
    assert without != text
    assert graph.with_code(without) == text
    with says("dvc.yaml", "stages.acquire.deps", "has no list", "write one"):
        graph.with_code("stages:\n  acquire:\n    cmd: hisac-lab stage acquire\n")


def test_each_stage_has_one_entry_and_one_folder() -> None:
    entries = {path.stem for path in (ROOT / "src/hisac_lab/cli/stages").glob("[a-z]*.py")}
    assert entries == set(STAGES)
    for name, stage in STAGES.items():
        outs = [*stage["outs"], *stage.get("metrics", [])]
        folder = "reports/" if name == "report" else f"artifacts/{name}"
        assert all(out.startswith(folder) for out in outs)


def test_every_stage_declares_threads_and_memory() -> None:
    for stage in STAGES.values():
        assert stage["meta"]["threads"] >= 1
        assert stage["meta"]["resources"]["mem_mb"] >= 500


def test_no_module_is_longer_than_400_lines() -> None:
    for folder in ("src", "workflow", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path


def test_no_function_is_longer_than_60_lines_without_its_docstring() -> None:
    for folder in ("src", "workflow"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    first = node.body[0]
                    docstring = 0 if ast.get_docstring(node) is None else (first.end_lineno or 0) - first.lineno + 1
                    lines = (node.end_lineno or 0) - node.lineno + 1 - docstring
                    assert lines <= 60, f"{path}:{node.lineno} {node.name}"
