"""The stage `plan`: what training takes from the sweep and from the store, a file for each model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import says

from hisac_lab.base.artifacts import read_json, write_json, write_manifest
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli.params import defaults
from hisac_lab.cli.plan import Plan
from hisac_lab.cli.stages import plan as stage

MODELS = {"din_50": "din", "hisac": "hisac", "iat": "iat", "other": "hisac"}
WINNER = {"kind": "hisac", "agents": 8}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """A project after its sweep."""
    monkeypatch.chdir(tmp_path)
    made = Artifacts(Path("artifacts"))
    models = {name: {"kind": kind, "code": "0"} for name, kind in MODELS.items()}
    write_json(made.code / "experiment.json", {"models": models})
    write_json(made.swept("hisac") / "best.json", {"model": "hisac", "settings": WINNER})
    made.instances.mkdir()
    write_manifest(made.instances, order="temporal", digest="of the store")
    tune()
    return made


def tune(**tuned: Any) -> None:
    """Writes params.yaml with what single models have of their own."""
    settings = yaml.safe_load(defaults())
    settings["experiment"]["tuned"] = tuned
    Path("params.yaml").write_text(yaml.safe_dump(settings))


def plans(made: Artifacts) -> dict[str, Plan]:
    stage.run()
    assert {path.name for path in made.plan.iterdir()} == {f"{name}.json" for name in MODELS}
    return {name: Plan.read(made.plan_of(name)) for name in MODELS}


def test_the_swept_model_takes_the_winner_and_one_that_reads_the_store_its_digest(made: Artifacts) -> None:
    nothing = Plan(settings=None, instances=None)
    assert plans(made) == {
        "din_50": nothing,
        "hisac": Plan(settings=WINNER, instances=None),
        "iat": Plan(settings=None, instances="of the store"),
        "other": nothing,
    }


def test_a_new_winner_and_a_new_store_change_the_files_of_their_models_alone(made: Artifacts) -> None:
    before = plans(made)
    write_json(made.swept("hisac") / "best.json", {"model": "hisac", "settings": WINNER | {"agents": 4}})
    after = plans(made)
    assert [name for name in MODELS if after[name] != before[name]] == ["hisac"]
    write_manifest(made.instances, order="temporal", digest="another")
    last = plans(made)
    assert [name for name in MODELS if last[name] != after[name]] == ["iat"]
    assert read_json(made.plan_of("iat"))["instances"] == "another"


@pytest.mark.parametrize("name", ["sweep/hisac/best.json", "instances/manifest.json", "code/experiment.json"])
def test_a_stage_that_has_not_run_is_named(made: Artifacts, name: str) -> None:
    (made.root / name).unlink()
    with says(f"artifacts/{name}: does not exist", "run the stage that makes it"):
        stage.run()
    assert not made.plan.exists()


def test_what_is_tuned_for_one_model_changes_its_file_alone(made: Artifacts) -> None:
    before = plans(made)
    tune(din_50={"learning_rate": 0.01, "dim": 8})
    after = plans(made)
    assert [name for name in MODELS if after[name] != before[name]] == ["din_50"]
    assert after["din_50"].tuned == {"learning_rate": 0.01, "dim": 8}
    assert "tuned" not in read_json(made.plan_of("hisac"))


def test_what_the_sweep_has_chosen_of_training_lies_over_what_is_tuned_by_hand(made: Artifacts) -> None:
    tune(hisac={"learning_rate": 0.01, "epochs": 2}, din_50={"dim": 8})
    best = {"model": "hisac", "settings": WINNER, "tuned": {"learning_rate": 0.02, "dim": 32}}
    write_json(made.swept("hisac") / "best.json", best)
    found = plans(made)
    assert found["hisac"].tuned == {"learning_rate": 0.02, "epochs": 2, "dim": 32}
    assert found["din_50"].tuned == {"dim": 8}
    assert found["other"].tuned is None


def test_every_swept_model_takes_its_own_winner(made: Artifacts) -> None:
    settings = yaml.safe_load(Path("params.yaml").read_text())
    settings["sweep"] |= {"models": ["hisac", "other"], "space": {"hisac": {"agents": [4]}, "other": {"agents": [4]}}}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    write_json(made.swept("other") / "best.json", {"model": "other", "settings": WINNER | {"agents": 5}})
    found = plans(made)
    assert (found["hisac"].settings, found["other"].settings) == (WINNER, WINNER | {"agents": 5})
