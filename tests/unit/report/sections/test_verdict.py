"""The headline: one sentence each."""

from __future__ import annotations

import json
from pathlib import Path

from finished import NAMES, Built, build, edit, make

from hisac_lab.base.stages import Artifacts


def test_the_headline_names_what_was_decided(crowd: Built, tmp_path: Path) -> None:
    undecided = ", ".join(f"`{name}`" for name in NAMES if name not in ("m03", "m07"))
    line = f"1 better: `m03` +1.20 % clicks; 1 worse: `m07` −2.00 % clicks; 10 undecided: {undecided}; 12 tests, "
    said = "Simulated, by a world fitted with hindsight on logged exposures, against the control `base`: "
    assert said + line in crowd[1]
    few = build(make(tmp_path / "artifacts"), tmp_path)[1]
    assert "`base`: `new` better, +1.20 % clicks [+0.80 %, +1.60 %]." in few


def test_models_are_ranked_by_what_is_shown_and_equals_by_name(inputs: Artifacts, tmp_path: Path) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for name, auc in (("base", 0.71001), ("new", 0.71003)):
        models[name]["metrics"]["auc"]["value"] = auc
    edit(inputs.evaluate / "metrics.json", models=models)
    assert "`base` has the highest AUC, 0.7100" in build(inputs, tmp_path)[1]


def test_without_a_verdict_the_headline_says_why(inputs: Artifacts, tmp_path: Path) -> None:
    checks = [{"name": "knows", "holds": False, "says": "the world knows too little"}]
    edit(inputs.abtest / "abtest.json", checks=checks)
    twin = build(inputs, tmp_path)[1]
    assert "No verdict on any model against the control `base`: the world knows too little." in twin
