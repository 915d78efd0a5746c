"""`hisac-lab doctor` names what is missing and the mend."""

from __future__ import annotations

import json
import socket
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from hisac_lab.cli import doctor
from hisac_lab.cli.params import defaults


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings and a graph."""
    (tmp_path / "params.yaml").write_text(defaults())
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """What was found: state and words by what was looked at."""
    return {found["what"]: (found["state"], found["says"]) for found in json.loads(capsys.readouterr().out)}


def test_a_sound_project_fails_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.examine(as_json=True)
    found = states(capsys)
    assert found["settings"] == ("ok", "params.yaml is right")
    assert found["packages"] == ("ok", "all there")
    assert found["MLflow"][1] == "sqlite:///mlflow.db, holds nothing yet"
    assert doctor.examine(as_json=False)
    assert "ok    settings" in capsys.readouterr().out


def test_a_wrong_setting_and_a_torn_ledger_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").write_text(defaults().replace("epochs: ", "epochs: minus", 1))
    (project / "reports").mkdir()
    (project / "reports/ledger.jsonl").write_text("{}\n")
    (project / "dvc.yaml").unlink()
    assert not doctor.examine(as_json=True)
    found = states(capsys)
    assert found["settings"][0] == found["MLflow"][0] == found["DVC"][0] == "fails"
    assert "epochs" in found["settings"][1]
    assert "line 1" in found["MLflow"][1]
    assert "restore it with git" in found["DVC"][1]


def test_an_own_log_is_looked_at_with_the_columns_that_the_settings_name(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = "user_id,episode,timestamp,rating\nu,e,1500000000,5\n,e,1500000001,5\n"
    (project / "log.csv").write_text(log)
    own = yaml.safe_load(defaults())
    own["acquire"] |= {"dataset": "own", "path": "log.csv"}

    def told(**columns: str) -> tuple[str, str]:
        own["prepare"]["columns"] |= columns
        (project / "params.yaml").write_text(yaml.safe_dump(own))
        doctor.examine(as_json=True)
        return states(capsys)["log"]

    missing = "log.csv: item_id: column is missing (there are: user_id, episode, timestamp, rating)"
    assert told() == ("fails", f"{missing}; set it in prepare.columns")
    state, says = told(item="episode")
    assert state == "fails"
    assert says.startswith("log.csv: line 3: user_id: value '' is no id")
    own["prepare"]["bad_rows"] = "drop"
    assert told() == ("ok", "log.csv: the first rows of 1 file read as the settings say")
    own["prepare"]["columns"]["time_format"] = "iso"
    assert told()[1].startswith("log.csv: of 2 rows 2 cannot be used, as 1 where user_id is no id")
    own["prepare"]["columns"]["time_format"] = "seconds"
    (project / "items.csv").write_text("episode,name\ne,E\n")
    own["acquire"]["items_path"] = "items.csv"
    assert told()[1].startswith("items.csv: title: column is missing")
    own["acquire"]["path"] = "elsewhere.csv"
    assert told()[1].startswith("params.yaml: acquire.path: 'elsewhere.csv' names no table")


def test_a_missing_package_and_another_version_come_with_the_mend(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in ("optuna", "uvicorn"):
            raise metadata.PackageNotFoundError(name)
        return "2.9" if name == "mlflow" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    says = [finding.says for finding in doctor._packages()]
    assert says[0] == f"missing: uvicorn, optuna; {doctor.ALL}"
    assert says[1].startswith("of another version: mlflow 2.9 (wants")
    assert says[1].count("mlflow") == 1, "two extras want it"


def test_a_port_in_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(doctor, "PORT", taken.getsockname()[1])
        (finding,) = doctor._port()
    assert finding.state == "warns"
    assert "--port" in finding.says


def test_outside_a_project_the_rest_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor.examine(as_json=True)
    assert states(capsys)["project"][0] == "warns"
