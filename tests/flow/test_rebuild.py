"""A version made again from its commit, in a clean folder, to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Lab


@pytest.fixture
def lab(base: Lab, tmp_path: Path) -> Lab:
    """A copy of the finished project, mirrored into MLflow; params.yaml and the reports were changed since."""
    lab = base.copy(tmp_path / "lab")
    answer = lab.run("hisac-lab", "sync")
    assert answer.code == 0, answer.text
    lab.set(**{"train.epochs": 2})
    return lab


def test_a_version_is_rebuilt_from_its_commit_to_the_same_bytes(lab: Lab) -> None:
    answer = lab.run("hisac-lab", "models", "rebuild", "challenger")
    assert answer.code == 0, answer.text
    commit = lab.git("rev-parse", "HEAD")[:12]
    assert f"is rebuilt from commit {commit}: every file of its bundle is equal" in answer.text
    assert not any((lab.path / ".work/rebuild").iterdir())


def test_a_log_that_has_grown_since_is_told_before_anything_is_computed(lab: Lab) -> None:
    log = lab.path / "log/u.data"
    log.write_text(log.read_text() + log.read_text().splitlines()[-1] + "\n")
    answer = lab.run("hisac-lab", "models", "rebuild", "challenger", "--into", str(lab.path / "again"))
    assert answer.code == 1
    (line,) = [line for line in answer.text.splitlines() if line.startswith("hisac-lab: error:")]
    assert "raw files are not those of then: u.data differs; name a folder with those of then by --data" in line
    assert not (lab.path / "again/artifacts/prepare").exists()


def test_a_rebuild_with_another_setting_says_which_files_differ_and_where_the_runs_part(lab: Lab) -> None:
    (origin,) = [path for path in (lab.path / "mlruns").rglob("origin.json") if path.is_file()]
    told = json.loads(origin.read_text())
    told["settings"]["evaluate.bootstrap"]["value"] += 1
    origin.write_text(json.dumps(told))
    answer = lab.run("hisac-lab", "models", "rebuild", "challenger", "--into", str(lab.path / "again"))
    assert answer.code == 1
    (line,) = [line for line in answer.text.splitlines() if line.startswith("hisac-lab: error:")]
    assert "not rebuilt: evidence.json differs; the runs part at the stage evaluate" in line
    assert (lab.path / "again/artifacts/register").is_dir()
