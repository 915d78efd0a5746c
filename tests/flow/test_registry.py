"""MLflow on the real project: the run tree, a model served elsewhere, promotion, rollback, the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab

from hisac_lab.base.artifacts import sha256_tree

SCORE = """
import mlflow, pandas as pd, sys
mlflow.set_tracking_uri("sqlite:///" + sys.argv[1] + "/mlflow.db")
client = mlflow.MlflowClient()
(version,) = client.search_model_versions("tags.model = 'hisac'")
model = mlflow.pyfunc.load_model(f"models:/ranker/{version.version}")
request = {"history_items": [["3", "5", "8"], ["1"]], "history_times": [[10, 20, 86400], [5]], "time": [90000, 6],
           "candidates": [["1", "2", "7"], ["4"]]}
print([len(scores) for scores in model.predict(pd.DataFrame(request))["scores"]])
for name, value in (("candidates", [["no such film", "4"]]), ("history_items", [[]])):
    odd = {key: column[1:] for key, column in request.items()} | {name: value}
    odd["history_times"] = [[]] if name == "history_items" else odd["history_times"]
    answer = model.predict(pd.DataFrame(odd)).iloc[0]
    print([score is None for score in answer["scores"]], answer["note"])
backward = {key: column[:1] for key, column in request.items()} | {"history_times": [[20, 10, 30]]}
try:
    model.predict(pd.DataFrame(backward))
except mlflow.MlflowException as error:
    print("refused:", error.error_code, error)
"""
TREE = """
import mlflow
from mlflow import MlflowClient
mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("hisac-lab").experiment_id], max_results=500)
parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
names = {run.info.run_id: run.info.run_name for run in runs}
for key, parent in parents.items():
    print(names.get(parent), ">", names[key])
(top,) = [run for run in runs if run.info.run_id not in parents or parents[run.info.run_id] is None]
print(len(top.data.params), sorted(top.data.tags))
(tokens,) = [run for run in runs if run.info.run_name == "04 tokenize"]
print(sorted(tokens.data.metrics))
(ab,) = [run for run in runs if run.info.run_name == "10 abtest"]
print(sorted(ab.data.metrics))
print(sorted(model.name for model in client.search_registered_models()))
print(sorted(file.path for folder in ("", "figures") for file in client.list_artifacts(top.info.run_id, folder)))
"""


def python(lab: Lab, code: str, *words: str, where: Path | None = None) -> str:
    """Runs Python code in a process of its own, by default in the project's folder."""
    environment = {key: value for key, value in lab.environment.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=where or lab.path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def lab(base: Lab, tmp_path: Path) -> Lab:
    """A copy of the finished project, mirrored into MLflow."""
    lab = base.copy(tmp_path / "lab")
    answer = lab.run("hisac-lab", "sync")
    assert answer.code == 0, answer.text
    return lab


def judged(lab: Lab, model: str, verdict: str) -> None:
    """Registers one more version of a model, with this verdict of its A/B test and weights of its own.

    It is better than popularity and than every other model.
    """
    bundles = lab.path / "artifacts/register"
    path = bundles / model / "evidence.json"
    evidence = json.loads(path.read_text())
    other = next(iter(evidence["comparisons"].values()))
    better = other | {"difference": 0.02, "interval": [0.01, 0.03]}
    met = {f"champion {seen}": better | {"weights": seen} for seen in ("better", "worse")}
    evidence["popularity"] = {part: better[part] for part in ("difference", "interval")}
    evidence["comparisons"] = dict.fromkeys(evidence["comparisons"], better) | met
    evidence["weights"] = verdict
    evidence["abtest"] |= {"verdict": verdict, "aa_holds": True, "sample_ratio_holds": True}
    path.write_text(json.dumps(evidence))
    manifest = bundles / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["models"][model], facts["pipeline"] = sha256_tree(path.parent), verdict
    manifest.write_text(json.dumps(facts))
    answer = lab.run("hisac-lab", "sync")
    assert answer.code == 0, answer.text


def test_the_graph_mirrors_a_run_tree_of_stages_seeds_and_trials(base: Lab, tmp_path: Path) -> None:
    lab = base.copy(tmp_path / "lab")
    lab.set(**{"mlflow.mirror": True, "abtest.seed": 5})
    lab.snakemake()
    out = python(lab, TREE)
    for child in (
        "02 prepare",
        "03 embed",
        "04 tokenize",
        "05 codebook",
        "06 sweep hisac",
        "08 hisac-0",
        "09 evaluate",
        "10 abtest",
        "12 report",
    ):
        assert f"> {child}" in out
    assert out.count("06 sweep hisac > trial") == 2
    assert "git_commit" in out
    for fact in ("machine.processor", "machine.arithmetic", "system/peak_memory_megabytes", "machines.json"):
        assert f"'{fact}'" in out
    assert "data.prepare" in out
    assert "fingerprint" in out
    assert "['ranker']" in out
    for measure in ("explained_variance", "collision_rate", "purity_lift"):
        assert f"'{measure}'" in out
    for file in ("figures/calibration.svg", "leaderboard.json", "params.yaml", "report.html"):
        assert f"'{file}'" in out


def test_syncing_again_adds_nothing_and_a_lost_registry_is_rebuilt(lab: Lab) -> None:
    before = python(lab, TREE)
    assert "was there already" in lab.run("hisac-lab", "sync").text
    assert python(lab, TREE) == before
    for path in lab.path.glob("mlflow.db*"):
        path.unlink()
    assert "mirrored" in lab.run("hisac-lab", "sync").text
    assert sorted(python(lab, TREE).splitlines()) == sorted(before.splitlines())


def test_a_registered_model_scores_unseen_users_from_another_folder(lab: Lab, tmp_path: Path) -> None:
    for name in ("artifacts", "log", "src"):
        (lab.path / name).rename(tmp_path / name)  # nothing of the repository is needed
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = python(lab, SCORE, str(lab.path), where=elsewhere)
    assert "[3, 1]" in out
    assert "[True, False] 1 of 2 candidates are unknown to this model" in out
    assert "[True] no event of the history is known: rank by popularity" in out
    assert "refused: INVALID_PARAMETER_VALUE model input: row 0: history_times: value 20 stands before 10" in out


def test_promotion_refuses_a_loser_takes_a_winner_and_rolls_back(lab: Lab) -> None:
    lab.set(**{"promotion.max_calibration_error": 1.0})
    judged(lab, "din_50", "better")
    first = lab.run("hisac-lab", "promote", "din_50")
    assert first.code == 0, first.text
    judged(lab, "hisac", "worse")
    refused = lab.run("hisac-lab", "promote", "hisac")
    assert refused.code == 1
    assert "FAIL abtest" in refused.text
    forced = lab.run("hisac-lab", "promote", "hisac", "--force", "--reason", "a try")
    assert forced.code == 0, forced.text
    judged(lab, "hisac", "better")
    assert lab.run("hisac-lab", "promote", "hisac").code == 0
    back = lab.run("hisac-lab", "rollback")
    assert back.code == 0, back.text
    listed = lab.run("hisac-lab", "models").text
    (champion,) = [line for line in listed.splitlines() if "champion" in line]
    assert "worse" in champion
    ledger = [json.loads(line) for line in (lab.path / "reports/ledger.jsonl").read_text().splitlines()]
    actions = ["begin", "promote", "refuse", "promote", "promote", "rollback"]
    assert [entry["action"] for entry in ledger] == actions
    assert ledger[3]["forced"] == "a try"
    assert ledger[-1]["previous"] == ledger[3]["version"]


def test_a_changed_ledger_is_refused(lab: Lab) -> None:
    lab.set(**{"promotion.max_state_bytes": 1})
    answer = lab.run("hisac-lab", "promote", "din_50")
    assert answer.code == 1
    assert "FAIL max_state_bytes" in answer.text
    ledger = lab.path / "reports/ledger.jsonl"
    ledger.write_text(ledger.read_text().replace("refuse", "promote"))
    answer = lab.run("hisac-lab", "rollback")
    assert answer.code == 1
    assert "line 2" in answer.text


def test_a_wrong_name_or_version_is_one_line(lab: Lab) -> None:
    for words, expected in (
        (("nothing",), "of a model 'nothing'"),
        (("hisac", "--version", "9"), "no version 9 of hisac"),
    ):
        answer = lab.run("hisac-lab", "promote", *words)
        assert answer.code == 1
        (line,) = [line for line in answer.text.splitlines() if "error" in line]
        assert expected in line
