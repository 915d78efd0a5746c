"""The published leaderboards: settings that the graph takes, sizes, and the short run of long histories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import outputs
import pytest
from scripts import BENCHMARKS, load

from hisac_lab.cli.params import Params
from hisac_lab.evaluation.records import Scores

BOARDS = sorted(path.stem for path in (BENCHMARKS / "leaderboards").glob("*.yaml") if not path.stem.endswith(".tuned"))


@pytest.mark.parametrize("name", BOARDS)
def test_a_leaderboard_has_settings_the_graph_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = Params.model_validate_json(json.dumps(load("leaderboard", monkeypatch).settings(name)))
    assert len(params.experiment.seeds) >= 5
    assert params.evaluate.reference in params.experiment.models


@pytest.mark.parametrize("name", ["gcc-changelog", "gcc-changelog-uniform", "long-world", "movielens"])
def test_a_main_board_has_controls_of_one_side_and_trees_beside_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Params.model_validate_json(json.dumps(load("leaderboard", monkeypatch).settings(name)))
    shown = {model: params.models[model] for model in params.experiment.models}
    items = {model for model, config in shown.items() if config.control == "item"}
    assert items >= {"item_trees", "popularity"}
    assert items & {"recency", "item_rate"}
    assert {shown[model].kind for model in ("trees", "popularity", "item_trees")} == {"trees", "linear"}
    assert shown["trees"].control is None


def test_a_leaderboard_like_another_takes_its_settings_but_its_own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load("leaderboard", monkeypatch).settings
    one, other = settings("gcc-changelog"), settings("gcc-changelog-ablations")
    assert other["prepare"]["keep"]["train"] == 0.1
    assert other["tokenize"] == one["tokenize"]
    assert other["prepare"]["negatives_by"] == one["prepare"]["negatives_by"]
    assert set(other["models"]) == set(other["experiment"]["models"])
    assert "like" not in other


def test_gcc_changelogs_main_board_is_matched_and_the_old_negatives_have_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load("leaderboard", monkeypatch).settings
    main, old = settings("gcc-changelog"), settings("gcc-changelog-uniform")
    assert (main["prepare"]["negatives_by"], main["prepare"]["new_items"]) == ("matched", "drop")
    assert (old["prepare"]["negatives_by"], old["prepare"]["new_items"]) == ("uniform", "keep")
    assert old["experiment"] == main["experiment"]


def test_chief_models_at_every_size_stand_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaderboard = load("leaderboard", monkeypatch)
    monkeypatch.setattr(leaderboard, "ROOT", tmp_path)

    def run_graph(folder: Path, chosen: dict[str, Any], cores: str) -> None:
        params = Params.model_validate_json(json.dumps(chosen))
        share = params.prepare.keep.train
        assert params.evaluate.reference in params.experiment.models
        models = {name: outputs.model_scores(0.7 + share, share) for name in params.experiment.models}
        for stage in ("evaluate", "prepare"):
            (folder / "artifacts" / stage).mkdir(parents=True)
        Scores.of({"models": models, "slices": {}}, folder).save(folder / "artifacts" / "evaluate")
        split = {"samples": 9, "users": 2, "positive_share": 0.5, "from": 0, "to": 1}
        split |= {"requests": round(400_000 * share)} | {f"history_p{q}": q for q in (10, 50, 90, 99)}
        outputs.save_prepared(folder / "artifacts" / "prepare", splits={"train": split})

    monkeypatch.setattr(leaderboard, "run_graph", run_graph)
    page = leaderboard.run_sizes("long-world", [0.03, 0.008], "1")
    head, _, first, *rest = [line for line in page if line.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["model", "3,200 requests", "12,000 requests"]
    cells = ["din_50", "0.7080 [0.6980, 0.7180]", "0.7300 [0.7200, 0.7400]"]
    assert [cell.strip() for cell in first.split("|")[1:-1]] == cells
    assert len(rest) == 4 + 2 + 4  # the others, and again less the reference
    gap = ["hisac", "+0.0080 [+0.0050, +0.0110]", "+0.0300 [+0.0270, +0.0330]"]
    assert [cell.strip() for cell in rest[6].split("|")[1:-1]] == gap


def test_the_short_run_is_a_small_long_world_with_every_kind_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = load("long_run", monkeypatch)
    params = Params.model_validate_json(json.dumps(short.small_board()))
    assert params.acquire.world.preset == "long"
    assert set(params.experiment.models) == {name for name, one in short.MODELS.items() if one["kind"] in short.KINDS}
    assert params.experiment.seeds == (0,)

    def run_graph(folder: Path, chosen: dict[str, Any], targets: tuple[str, ...], cores: str) -> None:
        assert targets == ("artifacts/evaluate",)
        models = {name: outputs.model_scores(0.71234, 0.0) for name in chosen["experiment"]["models"]}
        (folder / "artifacts" / "evaluate").mkdir(parents=True)
        Scores.of({"models": models, "slices": {}}, folder).save(folder / "artifacts" / "evaluate")

    monkeypatch.setattr(short, "run_graph", run_graph)
    monkeypatch.setattr(short, "FOLDER", tmp_path)
    assert short.auc_long()["hisac_auc_long"] == 0.7123


def test_a_board_without_chief_models_has_no_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"two-step\.yaml has no `curve`"):
        load("leaderboard", monkeypatch).settings_of_size("two-step", 0.1)


def test_one_value_of_a_setting_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="--values wants SETTING=VALUE,VALUE"):
        load("leaderboard", monkeypatch).run_values("movielens", "prepare.history", ["all"], "1")


def test_chief_models_are_compared_with_themselves_at_the_first_value_of_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaderboard, values = load("leaderboard", monkeypatch), load("values", monkeypatch)
    monkeypatch.setattr(leaderboard, "ROOT", tmp_path)
    chosen: dict[str, Params] = {}

    def run_graph(folder: Path, settings: dict[str, Any], targets: tuple[str, ...], cores: str) -> None:
        assert targets == ("artifacts/evaluate",)
        params = chosen[folder.name] = Params.model_validate_json(json.dumps(settings))
        assert folder.name == f"movielens-prepare.history-{params.prepare.history}"

    spread = np.linspace(-0.01, 0.01, 41)

    def judged(folder: Path, value: str, workers: int) -> Any:
        aucs = 0.7 + 0.05 * (value == "all") + np.r_[0, spread * (1 + (value == "all"))]
        series = {"din_50": {"auc": aucs, "gauc": aucs - 0.1}}
        return values.Judged(chosen[folder.name], np.full((4, 8), workers), series)

    monkeypatch.setattr(leaderboard, "run_graph", run_graph)
    monkeypatch.setattr(values, "judged", judged)
    page = leaderboard.run_values("movielens", "prepare.history", ["positives", "all"], "1")
    assert {one.prepare.min_history for one in chosen.values()} == {0}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page if line.startswith("|")]
    assert rows[0] == ["AUC", "`positives`", "`all`", "difference"]
    assert rows[2] == ["din_50", "0.7000", "0.7500", "+0.0500 [+0.0405, +0.0595]"]
    assert rows[5] == ["din_50", "0.6000", "0.6500", "+0.0500 [+0.0405, +0.0595]"]
    other = values.Judged(chosen["movielens-prepare.history-all"], np.zeros((4, 8)), {})
    monkeypatch.setattr(values, "judged", lambda *of: judged(*of) if "positives" in of else other)
    with pytest.raises(SystemExit, match=r"history-all: has other test samples than .*history-positives"):
        leaderboard.run_values("movielens", "prepare.history", ["positives", "all"], "1")
