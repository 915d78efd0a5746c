"""The leaderboard: what is sure, what is known of the truth, tables that stay narrow."""

from __future__ import annotations

import json
import re
from pathlib import Path

from finished import NAMES, Built, build, edit, texts, write_run

from hisac_lab.base.stages import Artifacts
from hisac_lab.report.words import is_sure


def test_known_truth_stands_beside_the_models(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    assert "oracle" not in built[1]
    truth = {"value": 0.8, "interval": [0.79, 0.81]}
    recent = {"value": 0.75, "interval": [0.74, 0.76]}
    edit(
        inputs.evaluate / "metrics.json",
        oracles={"probability_anywhere": truth, "probability_recent_anywhere": recent},
    )
    twin = build(inputs, tmp_path)[1]
    assert "| true probability: the oracle | 0.8000 [0.7900, 0.8100] |" in twin
    assert "| new | 0.7100 [0.7000, 0.7200] | 70.0 % |" in twin  # 0.21 of 0.30


def test_further_answers_have_a_table_where_a_model_gives_some(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    assert "further answers" not in built[1]
    path = inputs.evaluate / "metrics.json"
    models = json.loads(path.read_text())["models"]
    models["new"]["tasks"] = {"bought": {"value": 0.8, "interval": [0.79, 0.81]}, "liked": None}
    edit(path, models=models)
    twin = build(inputs, tmp_path)[1]
    assert "| model | bought ↑ | liked ↑ |" in twin
    assert "| new | 0.8000 [0.7900, 0.8100] | – |" in twin


def test_what_is_shown_as_zero_is_no_difference() -> None:
    assert is_sure(0.001, 0.0499, 0.05)
    assert not is_sure(0.001, 0.04996, 0.05)
    assert not is_sure(0.00001, 0.0, 0.05)


def test_slices_are_sorted_by_their_first_number(built: Built) -> None:
    twin = built[1]
    found = re.findall(r"^\| (\d+ to \d+) ", twin, re.MULTILINE)
    assert found == ["1 to 15", "16 to 40", "154 to 405", "0 to 3"]


def test_slices_have_a_row_per_model(crowd: Built) -> None:
    twin = crowd[1]
    table = twin[twin.index("AUC by history length:") :].split("\n\n")[1].splitlines()
    assert table[0] == "| model | 1 to 15 | 16 to 40 | 154 to 405 |"
    assert table[2] == "| samples | 30 | 30 | 40 |"
    assert [row.split(" | ")[0][2:] for row in table[3:]] == [*NAMES[::-1], "base"]
    assert table[-1] == "| base |" + " 0.7000 [0.6800, 0.7200] |" * 3


def test_costs_far_apart_stand_on_a_logarithmic_axis(inputs: Artifacts, tmp_path: Path) -> None:
    assert "logarithmic" not in build(inputs, tmp_path)[0]
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    models["new"]["cost"]["candidate_macs"] *= 20
    edit(inputs.evaluate / "metrics.json", models=models)
    assert "Multiply-adds of a request, 500 candidates, logarithmic" in texts(
        build(inputs, tmp_path)[3]["quality_and_cost"]
    )


def test_what_costs_nothing_stands_left_of_a_logarithmic_axis(inputs: Artifacts, tmp_path: Path) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    models["free"] = json.loads(json.dumps(models["new"]))
    models["free"]["cost"] |= {"state_bytes": 0, "candidate_macs": 0}
    models["new"]["cost"]["state_bytes"] *= 20
    edit(inputs.evaluate / "metrics.json", models=models)
    write_run(inputs.train, "free", 0, 0.71)
    shown = texts(build(inputs, tmp_path)[3]["quality_and_state"])
    assert "Bytes of user state, logarithmic" in shown
    assert "0" in shown


def test_what_is_undefined_is_a_dash_with_its_reason_and_who_is_left_out_is_said(
    inputs: Artifacts, tmp_path: Path
) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for scores in models.values():
        scores["metrics"]["recall@5"] = scores["slices"]["history length"]["1 to 15"] = None
    reasons = {"recall@5": "no user has more than 5 exposures", "history length/1 to 15": "all negative"}
    edit(inputs.evaluate / "metrics.json", models=models, undefined=reasons, users={"gauc": 7, "recall@5": 0})
    page, twin, _, figures = build(inputs, tmp_path)
    assert "for recall also with more exposures than k: of 10 test users 7 in GAUC." in twin
    assert "Recall@5 is undefined: no user has more than 5 exposures." in twin
    assert "AUC of history length/1 to 15 is undefined: all negative." in twin
    row = next(line for line in twin.splitlines() if line.startswith("| new | 0.7100 [0.7000, 0.7200] | 0.7100"))
    assert row.split(" | ")[5] == "–"
    assert "| 1 to 15 | 30 | – | – |" in twin
    assert "16 to 40" in texts(figures["auc_by_history_length"])
    assert "undefined" in page


def test_models_with_agents_tell_how_many_there_are_and_what_they_hold(
    built: Built, inputs: Artifacts, tmp_path: Path
) -> None:
    assert "votes kept" not in built[1]
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    models["new"]["cost"] |= {"agents": 31.5, "votes_kept": 0.4712}
    edit(inputs.evaluate / "metrics.json", models=models)
    twin = build(inputs, tmp_path)[1]
    assert "| model | agents | votes kept |" in twin
    assert "| new | 31.5 | 47.1 % |" in twin
