"""The report on small hand-made artifacts: whole, deterministic, with the numbers of the artifacts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib
from finished import Built, build, edit, make, make_crowd

from hisac_lab.base.stages import Artifacts

SECTIONS = ["Verdict", "History length", "A/B test", "Cost", "Semantic IDs", "One user", "Sweep", "Training"]
SECTIONS += ["Leaderboard", "Data", "Fidelity", "Lineage"]


def test_same_artifacts_give_same_bytes(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other"}):  # what a user's matplotlibrc may hold
        assert build(inputs, tmp_path) == built


def test_sections_stand_in_order(built: Built) -> None:
    page, twin, *_ = built
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert re.findall(r"^## (.*)$", twin, re.MULTILINE) == SECTIONS


def test_numbers_are_those_of_the_artifacts(built: Built) -> None:
    _, twin, metrics, _ = built
    assert "| new | 0.7100 [0.7000, 0.7200] |" in twin
    assert "| new | **+0.0100** [+0.0070, +0.0130] |" in twin
    assert "| new | better | +1.20 % [+0.80 %, +1.60 %] | 0.200 |" in twin
    assert "| train | 1997-09-20 | 1998-02-09 | 100 |" in twin
    assert metrics["new.auc"] == 0.71
    assert metrics["new.calibration_error"] == 0.02
    assert metrics["new.ab_lift"] == 0.012
    assert "base.ab_lift" not in metrics
    assert {"base.gauc", "base.log_loss", "base.ndcg@5", "base.recall@5"} <= set(metrics)


def test_the_folder_of_figures_holds_what_this_run_drew(crowd: Built, built: Built, tmp_path: Path) -> None:
    """A figure of an earlier run, of more charts perhaps, is gone."""
    build(make(tmp_path / "artifacts"), tmp_path)
    (tmp_path / "figures" / "stale.svg").write_text("<svg/>")
    figures = build(make_crowd(tmp_path / "crowd"), tmp_path)[3]
    assert figures == crowd[3]
    several = {f"sweep_1_{name}" for name in ("quality_and_cost", "quality_by_agents", "quality_by_setting", "history")}
    assert built[3].keys() - figures.keys() == {"read", *several}, "the crowd has no model with agents"
    assert not list(tmp_path.glob(".*"))


def test_single_model_without_feedback(inputs: Artifacts, tmp_path: Path) -> None:
    """The control alone, on a log whose negatives are sampled."""
    mark = "sampled negatives, 4 per positive"
    edit(inputs.evaluate / "manifest.json", negatives=mark)
    profile = json.loads((inputs.prepare / "manifest.json").read_text())["profile"]
    edit(inputs.prepare / "manifest.json", profile=profile | {"months": {"1997-09": {"events": 7}}})
    metrics = json.loads((inputs.evaluate / "metrics.json").read_text())
    edit(inputs.evaluate / "metrics.json", models={"base": metrics["models"]["base"]})
    edit(inputs.abtest / "abtest.json", tests={})
    page, twin, *_ = build(inputs, tmp_path)
    assert mark in page
    assert f"labels: {mark}" in twin
    assert "no model beside the control" in twin
