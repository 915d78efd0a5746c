"""The stage `sweep`: settings that it cannot follow are told before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from finished import make
from kit import says

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli.params import defaults
from hisac_lab.cli.stages import sweep as stage
from hisac_lab.sweep.trial import TrialTask

SETTINGS = yaml.safe_load(defaults())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """A finished project."""
    monkeypatch.chdir(tmp_path)
    made = make(Path("artifacts"))
    for name in ("hisac", "din_50"):
        write_json(made.code_of(name), {"kind": "hisac", "code": "0"})
    return made


def write(**sweep: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(SETTINGS | {"sweep": SETTINGS["sweep"] | sweep}))


def test_a_model_that_is_not_swept_is_told(made: Artifacts) -> None:
    write()
    with says("params.yaml: sweep.models: 'din_50' is not in it; add it"):
        stage.run("din_50")


def test_a_space_that_does_not_fit_the_model_is_told(made: Artifacts) -> None:
    write(models=["din_50"], space={"din_50": {"agents": [4]}})
    with says("sweep.space.din_50.agents: 'agents' is no field of a model of kind din"):
        stage.run("din_50")


def test_without_a_shared_study_there_is_none_to_help_out_at(made: Artifacts) -> None:
    write()
    with says("params.yaml: sweep.storage: no study is shared; name a database there"):
        stage.help_out("hisac")


@pytest.mark.parametrize(
    ("sweep", "line"),
    [
        ({"storage": "sqlite:///study.db"}, "storage is postgresql://USER@HOST:PORT/NAME"),
        ({"storage": "postgresql://me:secret@host/sweeps"}, "a password stands in ~/.pgpass, not here"),
        ({"storage": "postgresql://me@host/sweeps", "halving": 2}, "halving needs the rounds of one machine"),
    ],
)
def test_the_address_of_a_shared_study_has_one_form_and_goes_with_no_rounds(
    made: Artifacts, sweep: dict[str, Any], line: str
) -> None:
    write(**sweep)
    with says(line) as raised:
        stage.help_out("hisac")
    assert "secret" not in str(raised.value)


def test_trials_train_as_long_as_the_sweep_says_and_never_more_at_once_than_a_round_or_the_threads(
    made: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[TrialTask, int, Path]] = []

    def take(config: object, name: str, task: TrialTask, *, workers: int, out: Path, work: Path) -> list[Any]:
        asked.append((task, workers, work))
        return []

    monkeypatch.setattr(stage, "sweep", take)
    (made.sweep / "manifest.json").write_text("of an earlier version")
    for epochs, threads, round_size in ((2, 3, 4), (2, 8, 4), (5, 8, 4)):
        monkeypatch.setenv("HISAC_LAB_THREADS", str(threads))
        write(epochs=epochs, round_size=round_size)
        stage.run("hisac")
    assert [(task.base.train.epochs, workers) for task, workers, _ in asked] == [(2, 3), (2, 4), (5, 4)]
    one, two, three = (work for *_, work in asked)
    assert one == two != three  # a killed sweep goes on where the same is asked, and only there
    assert asked[0][0].work == one
    write_json(made.code_of("hisac"), {"kind": "hisac", "code": "1"})
    stage.run("hisac")
    assert asked[-1][2] != three
    write(max_state_bytes=100.0)
    stage.run("hisac")
    assert asked[-1][0].max_state_bytes == 100
    assert asked[-1][2] not in (one, three)
    assert [path.name for path in made.sweep.iterdir()] == ["hisac"]  # what was left beside it is gone
    assert Path("logs/sweep-hisac.journal").exists()
