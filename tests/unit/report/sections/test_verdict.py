"""The first screen: question, answer, what may ship, limits and the next command, from what the run has found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished import NAMES, edit, make, make_crowd, pairs_of, scores

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.collect import collect
from hisac_lab.report.document import Figures, Note, Points, Table
from hisac_lab.report.facts import Facts
from hisac_lab.report.sections.abtest import abtest
from hisac_lab.report.sections.limits import limits
from hisac_lab.report.sections.standing import standings
from hisac_lab.report.sections.verdict import next_step, question, sentence, verdict


def _facts(inputs: Artifacts, **promotion: Any) -> Facts:
    return collect(inputs, PromotionConfig(**promotion))


def _said(facts: Facts) -> str:
    return sentence(facts, standings(facts))


def _models(inputs: Artifacts, **models: Any) -> None:
    path = inputs.evaluate / "metrics.json"
    edit(path, models=json.loads(path.read_text())["models"] | models)


def _point(facts: Facts, label: str) -> str:
    return next(dict(block.points)[label] for block in verdict(facts).blocks if isinstance(block, Points))


def test_the_question_is_made_from_the_settings(inputs: Artifacts, tmp_path: Path) -> None:
    assert question(_facts(inputs)) == "Does `new` beat `base` on toy, at what cost, and may it ship?"
    crowd = _facts(make_crowd(tmp_path / "crowd"))
    assert question(crowd) == f"Does one of {len(NAMES)} models beat `base` on toy, at what cost, and may it ship?"
    edit(inputs.evaluate / "metrics.json", models={"base": scores(0.7, 0.0)})
    assert question(_facts(inputs)) == "How good is `base` on toy, at what cost, and may it ship?"


def test_the_answer_tells_gain_cost_and_what_may_ship(inputs: Artifacts) -> None:
    assert _said(_facts(inputs)) == (
        "`new` beats `base` by +0.0100 [+0.0070, +0.0130] in AUC, at 1 times its multiply-adds and "
        "1 times its bytes of state; "
        "`new` may ship: all gates hold."
    )


def test_a_gain_that_is_not_sure_is_no_win(inputs: Artifacts) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    edit(inputs.evaluate / "metrics.json", pairs=pairs_of(models, 0.2))
    assert _said(_facts(inputs)).startswith("No model surely beats `base` in AUC: `new` comes nearest, +0.0100")


def test_what_fails_at_a_gate_is_held_and_the_gate_is_named(inputs: Artifacts) -> None:
    facts = _facts(inputs, max_state_bytes=100)
    assert _said(facts).endswith("nothing may ship: `new` fails at `max_state_bytes`.")
    board = next(block for block in verdict(facts).blocks if isinstance(block, Table))
    row = next(row for row in board.rows if row[0].text == "new")
    assert (row[-2].text, row[-2].muted, row[-1].text) == ("6 of 7", "max_state_bytes", "no")
    assert next_step(facts, standings(facts)).startswith("`hisac-lab params set experiment.seeds")


def test_the_control_and_the_champion_may_not_ship(inputs: Artifacts) -> None:
    found = {one.name: one for one in standings(_facts(inputs))}
    assert (found["base"].part, found["base"].may_ship) == ("control", False)
    assert (found["new"].part, found["new"].may_ship) == ("challenger", True)
    _models(inputs, base=scores(0.7, 0.0) | {"settings": {"kind": "champion"}})
    path = inputs.register / "new" / "evidence.json"
    worse = {"base": {"difference": -0.1, "interval": [-0.11, -0.09], "p": 0.0, "weights": "weights of base"}}
    edit(path, comparisons=worse)
    found = {one.name: one for one in standings(_facts(inputs))}
    assert found["base"].part == "champion"
    assert [gate.name for gate in found["new"].failed] == ["max_auc_loss"]


def test_the_next_command_is_exact(inputs: Artifacts) -> None:
    facts = _facts(inputs)
    assert next_step(facts, standings(facts)).startswith("`hisac-lab promote` makes `new`")
    for name in ("base", "new"):
        edit(inputs.register / name / "evidence.json", model=name)
    made = make(inputs.root.parent / "bare")
    for path in sorted(made.register.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    made.register.rmdir()
    bare = _facts(made)
    assert "no gate was asked" in _said(bare)
    assert "snakemake --cores all" in next_step(bare, standings(bare))


def test_a_model_that_others_surely_beat_is_not_simply_recommended(tmp_path: Path) -> None:
    inputs = make_crowd(tmp_path)
    best, *_, worst = sorted(NAMES, reverse=True)
    for name in NAMES:
        if name != worst:
            edit(inputs.register / name / "evidence.json", calibration_error=0.2, valid_auc=0.8)
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    edit(inputs.evaluate / "metrics.json", pairs=pairs_of(models, 0.001))
    facts = _facts(inputs)
    said = next_step(facts, standings(facts))
    assert said.startswith(f"See why `{best}` fails at `max_calibration_error`")
    assert f"ahead of `{worst}`, the best that may ship, by +0.1100" in said
    edit(inputs.evaluate / "metrics.json", pairs=pairs_of(models, 0.9))
    facts = _facts(inputs)
    assert next_step(facts, standings(facts)) == f"`hisac-lab promote {worst}` makes it the champion."


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({}, "Claims about ultra-long histories: half of the test samples have at most 50 events"),
        ({"negatives": "sampled negatives, 4 per positive"}, "labels are sampled negatives, 4 per positive"),
        ({"test_users": 10}, "there are 10 test users in all"),
        ({}, "A forecast of a live lift"),
        ({}, "models have 1 trained seed, and luck"),
    ],
)
def test_what_a_run_may_not_be_used_for_is_told_from_its_data(
    inputs: Artifacts, changes: dict[str, Any], claim: str
) -> None:
    edit(inputs.evaluate / "manifest.json", **changes)
    assert claim in " ".join(limits(_facts(inputs)))


def test_long_histories_lift_their_limit(inputs: Artifacts) -> None:
    manifest = json.loads((inputs.prepare / "manifest.json").read_text())
    manifest["splits"]["test"]["history_p99"] = 5000
    edit(inputs.prepare / "manifest.json", splits=manifest["splits"])
    assert "ultra-long" not in " ".join(limits(_facts(inputs)))


def test_without_the_right_to_judge_the_screen_says_why(inputs: Artifacts) -> None:
    checks = [{"name": "knows", "holds": False, "says": "the world knows too little"}]
    edit(inputs.abtest / "abtest.json", checks=checks)
    facts = _facts(inputs)
    said = "No verdict on any model against the control `base`: the world knows too little."
    assert said in _point(facts, "How sure")
    board = next(block for block in verdict(facts).blocks if isinstance(block, Table))
    assert "lift over base, no verdict" in board.columns
    chart = next(part for block in abtest(facts).blocks if isinstance(block, Figures) for part in block.figures)
    assert chart.seen == "No verdict stands on these lifts."
    assert "Any A/B verdict: there is none." in limits(facts)


def test_a_log_with_nothing_to_compare_by_says_why(inputs: Artifacts) -> None:
    checks = [{"name": "data", "holds": False, "says": "no two test users"}]
    edit(inputs.abtest / "abtest.json", checks=checks, tests={}, aa=None)
    facts = _facts(inputs)
    assert "intervals over users, paired. No verdict on any model against" in _point(facts, "How sure")
    notes = [block.text for block in abtest(facts).blocks if isinstance(block, Note)]
    assert "No verdict: no two test users. The table of what has to hold, below, has each." in notes
    assert not any("A/A" in text for text in notes)


def test_many_models_show_the_first_and_fold_the_rest(tmp_path: Path) -> None:
    facts = _facts(make_crowd(tmp_path / "crowd"))
    board = next(block for block in verdict(facts).blocks if isinstance(block, Table))
    shown = [row[0].text for row in board.rows]
    assert len(shown) == 6
    assert {"base", "m11", "m10"} <= set(shown)


def test_models_are_ranked_by_what_is_shown_and_equals_by_name(inputs: Artifacts) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for name, auc in (("base", 0.71001), ("new", 0.71003)):
        models[name]["metrics"]["auc"]["value"] = auc
    edit(inputs.evaluate / "metrics.json", models=models)
    assert _facts(inputs).ranking == ["base", "new"]


def test_the_page_says_what_it_is_of(inputs: Artifacts) -> None:
    told = _point(_facts(inputs), "What this is of")
    for part in ("`log.csv` abababababab", "1997-09-20", "`feedfeedfeedfeed`", "1,234 events"):
        assert part in told
