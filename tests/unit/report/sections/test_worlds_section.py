"""Fitted worlds in the report: what each knows, which judge, and where they contradict each other."""

from __future__ import annotations

from pathlib import Path

from finished import ab_result, build, edit

from hisac_lab.base.artifacts import read_json
from hisac_lab.base.stages import Artifacts

REASON = "fitted worlds contradict each other on it: better in the world of factors, worse in the world of trees"


def test_each_world_has_a_row_and_each_that_judges_its_lift(inputs: Artifacts, tmp_path: Path) -> None:
    (factors,) = read_json(inputs.abtest / "manifest.json")["worlds"]
    trees = factors | {"family": "trees", "auc": 0.77, "gauc": None, "judges": False, "refits": 3}
    trees |= {"size": {"trees": 80.0, "leaves": 15.0}, "apart": {"users": 0.2, "sequence": 0.3}}
    edit(inputs.abtest / "manifest.json", worlds=[factors, trees])
    test = ab_result(0.012, "better")
    edit(inputs.abtest / "abtest.json", tests={"new": test | {"worlds": {"factors": test["lift"]}}})
    _, twin, _, _ = build(inputs, tmp_path)
    rows = [line for line in twin.splitlines() if line.startswith(("| factors", "| trees"))]
    assert rows == [
        "| factors | yes | 0.7800 | 0.7000 | 0.0100 | 0.0400 |  | 8 factors, 4 penalty | 90 | 10 |",
        "| trees | no | 0.7700 |  | 0.0100 | 0.2000 | 0.3000 | 15 leaves, 80 trees | 90 | 3 |",
    ]
    assert "| new | factors | +1.20 % [+0.80 %, +1.60 %] |" in twin
    assert "contradict each other" not in twin


def test_worlds_that_contradict_each_other_are_told_with_both_lifts(inputs: Artifacts, tmp_path: Path) -> None:
    test = ab_result(0.012, "no verdict")
    other = test["lift"] | {"value": -0.02, "low": -0.03, "high": -0.01}
    worlds = {"factors": test["lift"], "trees": other}
    edit(inputs.abtest / "abtest.json", tests={"new": test | {"worlds": worlds, "contradiction": REASON}})
    _, twin, _, _ = build(inputs, tmp_path)
    assert f"No verdict on new: {REASON}." in twin
    assert "| new | trees | \u22122.00 % [\u22123.00 %, \u22121.00 %] |" in twin
