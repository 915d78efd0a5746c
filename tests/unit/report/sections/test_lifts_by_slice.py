"""What the report says of lifts beside their verdicts: slices, corrected metrics, A/A, rank by offline quality."""

from __future__ import annotations

import json
from pathlib import Path

from finished import ab_result, build, edit, metric, scores, write_run

from hisac_lab.base.stages import Artifacts


def test_lifts_stand_by_history_length_and_the_longest_is_told(inputs: Artifacts, tmp_path: Path) -> None:
    test = ab_result(0.012, "better")
    lift = test["lift"]
    slices = {"154 to 405": lift, "1 to 15": lift | {"low": -0.01}}
    edit(inputs.abtest / "abtest.json", tests={"new": test | {"slices": slices}})
    _, twin, _, _ = build(inputs, tmp_path)
    assert "On the longest histories, 154 to 405 events, by corrected intervals: Better than the control `base`" in twin
    assert "after Holm's correction over all 2 of them" in twin
    assert "| treatment | 1 to 15 | 154 to 405 |" in twin
    assert "| new | +1.20 % [−1.00 %, +1.60 %] | **+1.20 %** [+0.80 %, +1.60 %] |" in twin
    edit(inputs.abtest / "abtest.json", tests={"new": test | {"slices": {}}})
    assert "On the longest histories" not in build(inputs, tmp_path)[1]


def test_metrics_say_that_their_intervals_are_corrected(inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _, _ = build(inputs, tmp_path)
    assert "after Holm's correction over all 1 rows" in twin
    assert "| new | share of the long tail | 0.070 | 0.080 | +0.0100 [+0.0040, +0.0160] | 0.030 |" in twin


def test_a_drawn_test_has_its_post_stratified_lift(inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _, _ = build(inputs, tmp_path)
    assert "| post-stratified lift | variance removed by strata |" in twin
    assert "| 34.0 % | +1.20 % [+0.80 %, +1.60 %] | 12.0 % |" in twin


def test_p_values_of_the_control_against_itself_stand_in_tenths(inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _, _ = build(inputs, tmp_path)
    assert "| p-value | 0.0 to 0.1 | 0.1 to 0.2 |" in twin
    assert "| base against itself | 12.0 % | 10.0 % |" in twin
    edit(inputs.abtest / "abtest.json", aa=None)
    assert "against itself |" not in build(inputs, tmp_path)[1]


def test_the_rank_correlation_of_lift_and_user_wise_auc_tells_its_models(inputs: Artifacts, tmp_path: Path) -> None:
    """The control counts, with a lift of zero."""
    said = "Too few models differ in lift and in user-wise AUC for a rank correlation."
    assert said in build(inputs, tmp_path)[1]
    path = inputs.evaluate / "metrics.json"
    models = json.loads(path.read_text())["models"]
    for name, gauc in (("a", 0.72), ("b", 0.69), ("c", 0.71)):
        write_run(inputs.train, name, 0, 0.75)
        models[name] = scores(0.7, 0.0)
        models[name]["metrics"]["gauc"] = metric(gauc, 0.0)
    edit(path, models=models)
    lifts = {"a": 0.03, "b": 0.01, "c": -0.02}
    edit(inputs.abtest / "abtest.json", tests={name: ab_result(lift, "better") for name, lift in lifts.items()})
    told = "Spearman's rank correlation of lift and user-wise AUC over 4 models is +0.20."
    assert told in build(inputs, tmp_path)[1]
