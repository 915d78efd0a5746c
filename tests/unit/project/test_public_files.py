"""What strangers meet first: targets of make, the workflow, forms, versions."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import hisac_lab

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([\w-]+):(?!=)", MAKEFILE, flags=re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
YAML = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    *(ROOT / name for name in (".pre-commit-config.yaml", "CITATION.cff")),
]


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def commands(path: Path) -> list[str]:
    """What the steps of all jobs of a workflow run."""
    return [step["run"] for job in parsed(path)["jobs"].values() for step in job["steps"] if "run" in step]


def test_make_help_prints_every_target_with_its_comment() -> None:
    answer = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = dict(line.removeprefix("make ").split(maxsplit=1) for line in answer.stdout.splitlines())
    assert list(lines) == TARGETS
    assert all(re.search(rf"^{target}:.*## \S", MAKEFILE, flags=re.MULTILINE) for target in TARGETS)


def test_make_alone_is_the_demo_and_no_target_is_a_file() -> None:
    assert re.search(r"^\.DEFAULT_GOAL := demo$", MAKEFILE, flags=re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    assert sorted(phony.split()) == sorted(TARGETS)


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_a_yaml_file_parses(path: Path) -> None:
    assert isinstance(parsed(path), dict)


def test_the_workflow_calls_targets_of_the_makefile() -> None:
    steps = commands(ROOT / ".github/workflows/ci.yml")
    called = [command for command in steps if command.startswith("make ")]
    assert [command for command in steps if command not in called] == [
        "sudo apt-get update && sudo apt-get install -y redis-server",
        "npm install --no-save axe-core@4",
        "sudo apt-get update && sudo apt-get install -y qemu-user",
        "sudo apt-get update && sudo apt-get install -y postgresql",
    ]
    targets = {word for command in called for word in command.split()[1:] if "=" not in word}
    assert targets == {"check", "docs", "unit", "flow", "emulate", "gpu", "lowest", "test-services"}
    assert targets <= set(TARGETS)


def test_the_workflow_tests_the_versions_of_python_that_the_project_names() -> None:
    matrix = parsed(ROOT / ".github/workflows/ci.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    named = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert matrix == named == ["3.11", "3.12"]
    assert PROJECT["requires-python"] == ">=3.11,<3.13"
    assert "not in ((3, 11), (3, 12))" in MAKEFILE


def test_hooks_download_nothing() -> None:
    repositories = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    assert {hook["language"] for hook in repositories[0]["hooks"]} == {"system"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_a_name_and_labelled_fields(path: Path) -> None:
    form = parsed(path)
    assert form["name"]
    assert form["description"]
    names = [field["id"] for field in form["body"]]
    assert len(names) == len(set(names))
    assert all(field["attributes"]["label"] for field in form["body"])


def test_version_changelog_and_citation_agree() -> None:
    newest = re.search(r"^## (\S+)( \(unreleased\))?$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    release, _, development = PROJECT["version"].partition(".dev")
    assert newest[1] == release
    assert bool(newest[2]) == bool(development)
    assert parsed(ROOT / "CITATION.cff")["version"] == PROJECT["version"]


def test_the_package_knows_its_version() -> None:
    assert hisac_lab.__version__ == metadata.version("hisac-lab")


def test_the_project_says_who_where_and_what() -> None:
    assert {"authors", "keywords", "classifiers", "urls", "license", "readme"} <= set(PROJECT)
    assert {"Homepage", "Documentation", "Changelog", "Issues"} == set(PROJECT["urls"])


def test_the_source_of_the_documentation_is_the_one_that_the_tests_run() -> None:
    page = (ROOT / "docs/howto/add_source.md").read_text()
    ((name, code),) = re.findall(r"```python\n# file: (\S+)\n(.*?)```", page, flags=re.DOTALL)
    assert (ROOT / name).read_text() == code
