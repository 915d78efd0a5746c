"""The section on the sweeps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from finished import TRIALS, Built, build, edit, make

from hisac_lab.base.stages import Artifacts
from hisac_lab.report.sections.dimensions import explained, groups_of
from hisac_lab.sweep.records import Ablated, Trial

CHARTS = ("quality_and_cost", "quality_by_agents", "quality_by_setting", "history")
ROWS = (
    "4,1,0,complete,False,,0.69,0.004,0.0123,2,1000,128,True,\n"
    "8,1,1,complete,True,agents 8 to 6,0.7,0.003,0.0,2,1200,256.5,True,\n"
    "16,1,2,pruned,False,,0.66,,,1,1500,512,False,\n"
    "32,,3,failed,False,,,,,0,,,False,the loss is nan at step 3\n"
    '64,1,4,over,False,,,,,0,9000,2048,False,"2,048 bytes of user state are above sweep.max_state_bytes 2,000"\n'
)


def trials(*pairs: tuple[str, float]) -> list[Trial]:
    """Complete trials of one dimension."""
    facts = {
        "state": "complete",
        "fixed": False,
        "cut": "",
        "reason": "",
        "error": 0.1,
        "standard_error": 0.1,
        "seeds": 1,
    }
    facts |= {"request_macs": 1, "state_bytes": 1.0, "on_front": False}
    return [
        Trial.model_validate(facts | {"number": at, "auc": auc, "settings": {"x": value}})
        for at, (value, auc) in enumerate(pairs)
    ]


def test_the_sweep_s_choice_is_explained(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, *_ = built
    assert "It takes trial 0 with AUC 0.6900 (−0.0100 to trial 1, the best, with a standard error of 0.0123)" in twin
    assert "1,000 multiply-adds a request, 128 bytes of state and agents per level 1." in twin
    assert "there is nothing to choose between but the cost" in twin
    assert "| 0 | 4 | 1 | 0.6900 ± 0.0040 | 0.0123 | 2 | 1,000 | 128 | chosen |" in twin
    assert "| 1 | 8 | 1 | 0.7000 ± 0.0030 | – | 2 | 1,200 | 256 | on the front fixed; agents 8 to 6 |" in twin
    edit(inputs.swept("new") / "manifest.json", best=0, near=[0], budgets=[], exhausted=True, epochs_saved=3)
    edit(inputs.swept("new") / "best.json", tokenize={"widths": [4]})
    again = build(inputs, tmp_path)[1]
    assert "with AUC 0.6900 (the best of all)" in again
    assert (
        "128 bytes of state. Users can tell the best trial from every other. The search space has no other points."
        in again
    )
    assert "Pruning saved 3 epochs." in again
    assert "until it is set (`tokenize.widths`: [4]), training takes those of trial 0." in again


def test_a_sweep_whose_trials_had_the_same_seeds_is_a_table_of_ablations(inputs: Artifacts, tmp_path: Path) -> None:
    same = {"seeds": 3, "request_macs": 1000, "state_bytes": 128.0, "reference": False}
    rows = [
        same | {"number": 0, "settings": {"vote": "tree", "depth": "1"}, "auc": 0.71, "interval": (0.69, 0.73)}
        | {"difference": 0.0, "difference_interval": (0.0, 0.0), "reference": True},
        same | {"number": 1, "settings": {"vote": "flat", "depth": "1"}, "auc": 0.7, "interval": (0.68, 0.72)}
        | {"difference": -0.01, "difference_interval": (-0.012, -0.008)},
        same | {"number": 2, "settings": {"depth": "1"}, "auc": 0.711, "interval": (0.69, 0.732)}
        | {"difference": 0.001, "difference_interval": (-0.00001, 0.002)},
    ]  # fmt: skip
    assert "Ablations" not in build(inputs, tmp_path / "before")[1]
    Ablated.write_list(inputs.swept("new") / "ablation.json", [Ablated.model_validate(row) for row in rows])
    twin = build(inputs, tmp_path / "after")[1]
    assert "Ablations of new, 3 seeds each; differences to trial 0, paired," in twin
    assert "not corrected for their number. Apart from it: trial 1." in twin
    assert "| 0 | tree | 0.7100 0.6900 to 0.7300 | reference | 1,000 | 128 |" in twin
    assert "| 1 | flat | 0.7000 0.6800 to 0.7200 | −0.0100 −0.0120 to −0.0080 | 1,000 | 128 |" in twin
    assert "| 2 | – | 0.7110" in twin


def test_trials_that_did_not_end_well_are_listed_with_their_reason(inputs: Artifacts, tmp_path: Path) -> None:
    (inputs.swept("new") / "trials.csv").write_text(TRIALS + ROWS)
    edit(inputs.swept("new") / "manifest.json", states={"complete": 2, "pruned": 1, "failed": 1, "over": 1})
    page, twin, _, figures = build(inputs, tmp_path)
    assert "5 short trainings of `new`, 1 failed, 1 over, 1 pruned." in twin
    assert "| 2 | 16 | 1 | 0.6600 | – | 1 | 1,500 | 512 | pruned |" in twin
    assert "| 3 | 32 | – | – | – | 0 | – | – | failed the loss is nan at step 3 |" in twin
    assert "over a gate 2,048 bytes of user state are above sweep.max_state_bytes 2,000 |" in twin
    for word in ("pruned", "failed", "over", "best so far"):
        assert f">{word}<" in figures["sweep_1_history"]
    assert "3 did not run to the end" in page


def test_each_swept_model_has_its_own_charts_and_the_budget_is_told(inputs: Artifacts, tmp_path: Path) -> None:
    assert "had the same budget" not in build(inputs, tmp_path)[1]
    shutil.copytree(inputs.swept("new"), inputs.swept("other"))
    edit(inputs.swept("other") / "manifest.json", model="other")
    _, twin, _, figures = build(inputs, tmp_path)
    assert "Each of `new`, `other` had the same budget of trials and steps, chosen in the validation period." in twin
    assert {name for name in figures if name.startswith("sweep")} == {
        f"sweep_{place}_{chart}" for place in (1, 2) for chart in CHARTS
    }


def test_one_trial_needs_no_chart(crowd: Built, tmp_path: Path) -> None:
    page, twin, *_ = crowd
    assert "1 short training of `new`" in twin
    assert "| 0 | 4 | 1 | 0.7000 ± 0.0040 | – | 1 | 1,000 | 128 | chosen |" in twin
    few = build(make(tmp_path / "artifacts"), tmp_path)[0]
    for title in ("Quality and cost of the trials", "Quality by setting", "Quality by agents", "Trials in turn"):
        assert title not in page
        assert title in few


def test_the_knee_is_the_fewest_agents_that_users_cannot_tell_from_the_best(
    built: Built, inputs: Artifacts, tmp_path: Path
) -> None:
    assert "Already the fewest, 4 agents, cannot be told from the best." in built[0]
    edit(inputs.swept("new") / "manifest.json", near=[1])
    knee = "8 agents are the fewest that users cannot tell from the best, which has 8; the best with fewer, 4, loses"
    assert f"{knee} 0.0100, with a standard error of 0.0123." in build(inputs, tmp_path)[0]


def test_values_of_a_list_are_groups_and_those_of_a_long_range_bins() -> None:
    assert groups_of(trials(("tree", 0.5), ("flat", 0.6), ("tree", 0.7))) == {"x": {"flat": [0.6], "tree": [0.5, 0.7]}}
    many = trials(*((str(at / 10), 0.5 + at / 100) for at in range(12)))
    assert list(groups_of(many)["x"]) == ["0–0.2", "0.3–0.5", "0.6–0.8", "0.9–1.1"]


def test_what_a_dimension_explains_is_corrected_for_chance() -> None:
    """Two groups of three with means 0.6 and 0.8: within 0.0004 of four degrees, in all 0.0604 of five."""
    low, high = (("a", 0.6 + gap) for gap in (0.01, 0.0, -0.01)), (("b", 0.8 + gap) for gap in (0.01, 0.0, -0.01))
    assert explained(trials(*low, *high)) == {"x": pytest.approx(1 - (0.0004 / 4) / (0.0604 / 5), abs=1e-4)}
    assert explained(trials(*((name, auc) for name in "ab" for auc in (0.5, 0.6, 0.7)))) == {"x": 0.0}
    assert explained(trials(("a", 0.5), ("b", 0.6))) == {}
