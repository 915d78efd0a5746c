"""The check in front of every command: in full once, then remembered until something it read changes."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from kit import says

from hisac_lab.base import plugins
from hisac_lab.cli import door, params
from hisac_lab.cli.main import main

DEFAULTS = params.defaults()


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where params.yaml was when it was checked in full."""
    made: list[Path] = []
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(DEFAULTS)
    load = params.load_params

    def noted() -> params.Params:
        made.append(Path.cwd())
        return load()

    monkeypatch.setattr(params, "load_params", noted)
    return made


def test_what_has_passed_is_not_checked_again(checks: list[Path]) -> None:
    door.check()
    door.check()
    assert len(checks) == 1
    Path("params.yaml").write_text(DEFAULTS + "\n")
    door.check()
    assert len(checks) == 2


def test_other_code_or_other_plug_ins_check_again(checks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    door.check()
    monkeypatch.setattr(door, "sha256_tree", lambda path: "other code")
    door.check()
    monkeypatch.setattr(plugins, "package", lambda point: "other==2")
    monkeypatch.setattr(plugins, "points", lambda group: (EntryPoint("mine", "json:tool", group),))
    door.check()
    assert len(checks) == 3


def test_what_has_failed_fails_again(checks: list[Path]) -> None:
    Path("params.yaml").write_text(DEFAULTS.replace("agents: 32", "agents: 0"))
    for _ in range(2):
        with says("params.yaml", "models.hisac.agents", "value 0"):
            door.check()
    Path("params.yaml").unlink()
    with says("params.yaml"):
        door.check()


def test_a_folder_that_takes_no_note_is_checked_each_time(checks: list[Path]) -> None:
    Path(".work").write_text("a file")
    door.check()
    door.check()
    assert len(checks) == 2


@pytest.mark.parametrize(
    ("is_project", "line"),
    [
        (False, "{here}: has no params.yaml, so it is no project; go to a project's folder"),
        (True, "artifacts/register/manifest.json: is not made yet; run the graph: snakemake --cores all"),
    ],
    ids=["no project", "no run"],
)
def test_a_command_says_what_the_folder_lacks(
    is_project: bool, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if is_project:
        Path("params.yaml").write_text(DEFAULTS)
        Path("dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setattr(sys, "argv", ["hisac-lab", "promote", "votes"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err == f"hisac-lab: error: {line.format(here=tmp_path)}\n"
    assert not Path("reports").exists()
    assert not Path("mlflow.db").exists()


def test_a_swept_model_that_nothing_trains_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert door.idle() is None
    content = yaml.safe_load(DEFAULTS)
    Path("params.yaml").write_text(DEFAULTS)
    assert door.idle() is None
    content["experiment"]["models"] = [name for name in content["experiment"]["models"] if name != "hisac"]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    told = door.idle()
    assert told is not None
    assert "sweep.models names hisac" in told
