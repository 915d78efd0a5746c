"""What MLflow is told of an execution: commit, what each stage reads, settings after the sweep, times of trials."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from outputs import machine_record

from hisac_lab.base.artifacts import write_json
from hisac_lab.cli import execution, machine
from hisac_lab.cli.params import defaults, load_params
from hisac_lab.inference.records import Trained

GRAPH = Path(__file__).parents[3] / "dvc.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with default settings and the graph, whose outputs are known of."""
    (tmp_path / "params.yaml").write_text(defaults())
    shutil.copyfile(GRAPH, tmp_path / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    known = dict.fromkeys(("embed", "train@hisac-0", "sweep@hisac", "report"), machine_record("One"))
    monkeypatch.setattr(machine, "records", lambda: known)
    return tmp_path


def read() -> dict[str, dict[str, Any]]:
    return {name: dict(keys) for name, keys in execution.lineage(load_params()).read.items()}


def test_a_stage_has_the_settings_that_dvc_yaml_names_for_it(project: Path) -> None:
    told = read()
    assert {key.partition(".")[0] for key in told["embed"]} == {"compute", "embed"}
    assert [key for key in told["embed"] if key.startswith("compute.")] == ["compute.arithmetic"]
    assert told["report"] == {}
    swept = {key.partition(".")[0] for key in told["sweep@hisac"]}
    assert swept == {"compute", "backbone", "model", "tokenize", "train", "sweep"}


def test_a_training_has_the_settings_that_the_sweep_has_chosen(project: Path) -> None:
    settings = load_params()
    before = read()["train@hisac-0"]
    assert before["model.kind"] == "hisac"
    assert before["train.learning_rate"] == settings.train.learning_rate
    assert not [key for key in before if key.startswith("models.")]
    Trained(name="hisac", seed=0, settings={"kind": "hisac", "agents": 77}, parameters=1, steps=1, valid_auc=0.5).save(
        project / "artifacts/train/hisac-0"
    )
    tuned = {"learning_rate": 0.5, "dim": 8}
    write_json(project / "artifacts/plan/hisac.json", {"settings": None, "instances": None, "tuned": tuned})
    after = read()["train@hisac-0"]
    assert (after["model.agents"], after["train.learning_rate"], after["backbone.dim"]) == (77, 0.5, 8)
    assert after["train.epochs"] == before["train.epochs"]


def test_models_that_are_on_no_board_are_left_out(project: Path) -> None:
    settings = load_params()
    names = {key.split(".")[1] for key in execution.lineage(settings).params if key.startswith("models.")}
    assert names == {*settings.experiment.models, *settings.sweep.models}


def test_times_of_trials_are_read_beside_the_journal(project: Path) -> None:
    assert execution.lineage(load_params()).trials == {}
    span = {"number": 3, "started": "2026-01-02T03:04:05+00:00", "ended": "2026-01-02T03:04:06+00:00"}
    (project / "logs").mkdir()
    write_json(project / "logs/sweep-hisac.times.json", [span])
    assert [one.facts() for one in execution.lineage(load_params()).trials["hisac"]] == [span]
