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
from hisac_lab.sweep.sweep import TrialTask

SETTINGS = yaml.safe_load(defaults())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """A project whose codebook has one level."""
    monkeypatch.chdir(tmp_path)
    made = make(Path("artifacts"))
    write_json(made.code_of("hisac"), {"kind": "hisac", "code": "0"})
    return made


def write(**sweep: Any) -> None:
    settings = SETTINGS | {"sweep": SETTINGS["sweep"] | {"depth": [1]} | sweep}
    Path("params.yaml").write_text(yaml.safe_dump(settings))


def test_a_model_of_another_kind_is_told(made: Artifacts) -> None:
    write(model="din_50")
    with says("params.yaml: sweep.model: 'din_50' is no model of kind hisac; name one"):
        stage.run()


def test_a_depth_below_the_codebook_is_told(made: Artifacts) -> None:
    write(depth=[1, 2])
    with says("params.yaml: sweep.depth: 2 is deeper than the codebook's 1; lower it"):
        stage.run()


def test_trials_train_as_long_as_the_sweep_says_and_never_more_at_once_than_a_round_or_the_threads(
    made: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[TrialTask, int, Path]] = []

    def take(config: object, task: TrialTask, *, workers: int, out: Path, work: Path) -> None:
        asked.append((task, workers, work))

    monkeypatch.setattr(stage, "sweep", take)
    for epochs, threads, round_size in ((2, 3, 4), (2, 8, 4), (5, 8, 4)):
        monkeypatch.setenv("HISAC_LAB_THREADS", str(threads))
        write(epochs=epochs, round_size=round_size)
        stage.run()
    assert [(task.train.epochs, workers) for task, workers, _ in asked] == [(2, 3), (2, 4), (5, 4)]
    one, two, three = (work for *_, work in asked)
    assert one == two != three  # a killed sweep goes on where the same is asked, and only there
    write_json(made.code_of("hisac"), {"kind": "hisac", "code": "1"})
    stage.run()
    assert asked[-1][2] != three
