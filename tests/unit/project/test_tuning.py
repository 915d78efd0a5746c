"""Equal tuning budgets: every model gets the same trials, the validation period chooses, nothing is trained twice."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kit import CPU, Stages

from hisac_lab.cli.params import Params, defaults
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.din import DINConfig
from hisac_lab.training.loop import train

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
tuning: ModuleType = __import__("tuning")
leaderboard: ModuleType = __import__("leaderboard")
sys.path.remove(str(BENCHMARKS))

GRID: dict[str, list[Any]] = {"learning_rate": [0.001, 0.01], "batch_requests": [8, 16, 32], "dim": [8, 16]}
BOARDS = leaderboard.names()


@given(st.integers(1, 20), st.integers(0, 3))
def test_trials_are_the_boards_own_and_others_of_the_grid_each_once(number: int, seed: int) -> None:
    first, *rest = tuning.draw(GRID, number, seed)
    every = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    assert first == {}
    assert len(rest) == min(number - 1, len(every))
    assert all(rest.count(trial) == 1 and trial in every for trial in rest)
    assert tuning.draw(GRID, number, seed) == [first, *rest]


def test_the_first_of_the_highest_is_chosen_and_the_file_says_what_was_tried(tmp_path: Path) -> None:
    trials = [{}, {"dim": 8}, {"dim": 16}]
    found = tuning.Trials(trials, {"a": [0.7, 0.71001, 0.71004], "b": [0.7, 0.69, 0.7], "c": [0.6, 0.61, 0.62]})
    assert found.tuned == {"a": {"dim": 8}, "c": {"dim": 16}}
    found.write(tmp_path / "x.tuned.yaml", "command")
    assert tuning.Trials.read(tmp_path / "x.tuned.yaml") == found
    assert yaml.safe_load((tmp_path / "x.tuned.yaml").read_text())["tuned"] == found.tuned
    assert found.rows()[0] == ["a", "0.7000", "**0.7100**", "0.7100"]
    assert found.rows()[1] == ["b", "**0.7000**", "0.6900", "0.7000"]


def test_labels_that_a_control_learns_from_are_no_choice_of_a_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderboard, "SETTINGS", tmp_path)
    tuned = "{din_50: {epochs: 2}, hisac: {labels: shuffled, epochs: 3}}"
    (tmp_path / "one.yaml").write_text(f"experiment: {{models: [din_50, hisac], tuned: {tuned}}}")
    assert leaderboard.untuned("one")["experiment"]["tuned"] == {"hisac": {"labels": "shuffled"}}
    tuning.Trials([{}, {"dim": 8}], {"din_50": [0.6, 0.7], "hisac": [0.6, 0.7]}).write(tmp_path / "one.tuned.yaml", "x")
    chosen = {"din_50": {"dim": 8}, "hisac": {"dim": 8, "labels": "shuffled"}}
    assert leaderboard.settings("one")["experiment"]["tuned"] == chosen


def test_a_board_reads_what_was_chosen_for_its_own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard, "SETTINGS", tmp_path)
    (tmp_path / "one.yaml").write_text("tune: {dim: [8]}\nexperiment: {models: [din_50, hisac]}")
    (tmp_path / "two.yaml").write_text("like: one\nexperiment: {models: [din_50], tuned: {din_50: {epochs: 2}}}")
    trials = tuning.Trials([{}, {"dim": 8}], {"din_50": [0.6, 0.7], "hisac": [0.6, 0.7]})
    trials.write(tmp_path / "one.tuned.yaml", "command")
    assert leaderboard.names() == ["one", "two"]
    assert leaderboard.settings("one")["experiment"]["tuned"] == {"din_50": {"dim": 8}, "hisac": {"dim": 8}}
    assert leaderboard.settings("two")["experiment"]["tuned"] == {"din_50": {"dim": 8, "epochs": 2}}
    assert leaderboard.untuned("one")["experiment"]["tuned"] == {}
    assert "| hisac  | 0.6000       | **0.7000** |" in leaderboard.trials_of("one")
    assert leaderboard.trials_of("two") == []
    trials.write(tmp_path / "two.tuned.yaml", "command")  # what was tried takes the place of what is set by hand
    assert leaderboard.settings("two")["experiment"]["tuned"] == {"din_50": {"dim": 8}}
    Params.model_validate_json(json.dumps(leaderboard.settings("one")))


@pytest.mark.parametrize("name", BOARDS)
def test_the_grid_of_a_board_holds_settings_that_can_be_tuned(name: str) -> None:
    grid = leaderboard._written(name).get("tune")
    for trial in tuning.draw(grid, 10_000) if grid else []:
        tuning.TunedConfig.model_validate_json(json.dumps(trial))


@pytest.fixture
def board(stages: Stages, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A board's folder up to what training reads, and its settings."""
    (tmp_path / "artifacts").mkdir()
    for stage in ("prepare", "embed", "codebook"):
        (tmp_path / "artifacts" / stage).symlink_to(getattr(stages, stage))
    settings = yaml.safe_load(defaults())
    settings["train"] |= {"epochs": 1, "batch_requests": 128}
    settings["compute"]["device"] = "cpu"
    return tmp_path, settings | {"experiment": settings["experiment"] | {"models": ["din_50"]}}


def test_a_trial_is_a_training_and_is_kept(
    board: tuple[Path, dict[str, Any]], stages: Stages, items: ItemSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuning.tune(*board, {"dim": [8], "batch_requests": [64]}, 2, 1)
    assert found.trials == [{}, {"dim": 8, "batch_requests": 64}]
    store, expected = EventStore.open(stages.prepare), []
    for dim, batch in ((16, 128), (8, 64)):
        config = TrainConfig(epochs=1, batch_requests=batch)
        model = build(DINConfig(whole_history=False), BackboneConfig(dim=dim), items, 0)
        requests = [Requests.of(store, store.samples(split), config.max_candidates) for split in ("train", "valid")]
        learned, judged = (Loader.of(model, part, CPU) for part in requests)
        expected.append(round(train(model, learned, judged, config, 0, "by hand").best_auc, 6))
    assert found.valid_auc == {"din_50": expected}

    def again(*args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(tuning, "train", again)
    assert tuning.tune(*board, {"dim": [8], "batch_requests": [64]}, 2, 1) == found
    with pytest.raises(AssertionError, match="trained again"):
        tuning.try_one(*board, "din_50", {"epochs": 2})
