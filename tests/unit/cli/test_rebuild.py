"""What a rebuild takes from a version's origin, and what it tells of two folders; the graph runs in tests/flow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kit import says

from hisac_lab.base.artifacts import MARK
from hisac_lab.cli import lineage, models, registry
from hisac_lab.cli.params import defaults, load_params, parsed
from hisac_lab.cli.rebuild import differences, with_changes


def test_settings_of_a_version_come_back_from_what_differs_from_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load(defaults())
    settings["train"]["epochs"] = 7
    settings["sweep"]["space"]["hisac"]["agents"] = [2, 4]
    settings["models"] = {"hisac": {"kind": "mean"}, "short": {"kind": "din"}, "new": {"kind": "hisac", "agents": 3}}
    settings["experiment"] = settings["experiment"] | {"models": ["hisac", "short"], "tuned": {}}
    settings["sweep"] |= {"models": ["new"], "space": {"new": {"agents": [2, 4]}}}
    settings["evaluate"]["reference"] = "short"
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    changes = lineage.changes(load_params())
    assert changes["train.epochs"].facts() == {"value": 7, "default": 3}
    assert "value" not in changes["models.din_50"].facts()
    again = with_changes(yaml.safe_load(defaults()), changes)
    assert parsed(again, Path("again")) == load_params()


def test_settings_are_those_that_the_lock_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of params.yaml after the run is not the version's."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(defaults())
    ran = {"params.yaml": {"train": {"epochs": 9}, "compute.arithmetic": "portable"}}
    stages = {"train@hisac-0": {"cmd": "hisac-lab", "params": ran}, "register": {"cmd": "x", "params": ran}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    assert {key: one.value for key, one in lineage.changes(load_params()).items()} == {"train.epochs": 9}
    del stages["train@hisac-0"]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    assert lineage.changes(load_params()) == {}


def test_folders_are_compared_file_by_file(tmp_path: Path) -> None:
    for side, files in (
        ("one", {"same": "1", "card": "1", "old": "1"}),
        ("other", {"same": "1", "card": "2", "new": "1", MARK: ""}),
    ):
        (tmp_path / side).mkdir()
        for name, text in files.items():
            (tmp_path / side / name).write_text(text)
    assert differences(tmp_path / "one", tmp_path / "one") == []
    assert differences(tmp_path / "one", tmp_path / "other") == ["card differs", "new is new", "old is missing"]


def test_a_version_whose_code_is_in_no_commit_is_refused(project: Path) -> None:
    with says("ranker version 2: its code is not all in commit none, without git; commit the code, run the graph"):
        models.rebuild_version("2", None, None)
    assert not (project / ".work/rebuild").exists()


def test_a_commit_that_is_not_here_and_a_folder_in_use_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "commit", lambda: "ab" * 20)
    registry.sync()
    with says("is not empty; remove it, or name another with --into"):
        models.rebuild_version("2", project / "artifacts", None)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    with says(f"{project}: is in no git repository"):
        models.rebuild_version("2", project / "new", None)
    assert not (project / "new").exists()
