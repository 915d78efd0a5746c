"""The mirror: a finished run as a tree of runs in MLflow, written once, and anew when it was left half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
from finished import edit
from kit import says
from mlflow.entities import Run
from outputs import machine_record
from registered import opened, register

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.mirror import COMPLETE, PIPELINE, Lineage, Mirror
from hisac_lab.registry.records import Registered
from hisac_lab.registry.store import Registry

PARAMS: dict[str, Any] = {f"train.setting_{place}": place for place in range(200)} | {"none": None, "long": "x" * 9000}
TIMES = {"device": "cpu", "encode_us_per_request": 12.5, "score_us_per_candidate": 0.25}
MACHINES = {
    "prepare": machine_record("Processor One", seconds=3.0, peak_mb=700),
    "evaluate": None,
    "train@base-0": machine_record("Processor Two"),
    "sweep@new": machine_record(
        "Processor One", started="2026-01-02T02:00:00+00:00", ended="2026-01-02T02:10:00+00:00"
    ),
}
LINEAGE = Lineage("0123abc+", PARAMS, MACHINES)
STAGES = "acquire prepare embed tokenize codebook instances evaluate abtest".split()


@dataclass
class Noted:
    """Takes the place of the registered models, which take longer: notes what is registered."""

    calls: list[tuple[Path, str, str]] = field(default_factory=list)

    def register(self, *call: Any) -> str:
        self.calls.append(call)
        return "1"


@dataclass
class Written:
    """What was written of a finished run."""

    registry: Registry
    artifacts: Artifacts
    top: str
    registered: list[tuple[Path, str, str]]
    runs: dict[str, Run]

    def file(self, run: str, name: str) -> str:
        uri = f"runs:/{self.runs[run].info.run_id}/{name}"
        return Path(mlflow.artifacts.download_artifacts(uri)).read_text()


def mirror(registry: Registry, artifacts: Artifacts) -> Mirror:
    return Mirror(registry.client, registry.experiment, registry.versions.project, artifacts, LINEAGE)


def write(registry: Registry, artifacts: Artifacts, timings: Path = Path("nothing")) -> tuple[str, Noted]:
    noted: Any = Noted()
    return mirror(registry, artifacts).write(noted, timings), noted


def runs(registry: Registry) -> dict[str, Run]:
    """All runs by name."""
    found = registry.client.search_runs([registry.experiment])
    named = {str(run.info.run_name): run for run in found}
    assert len(named) == len(found)
    return named


@pytest.fixture(scope="module")
def written(empty_store: Path, run_made: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """The finished run, mirrored; `new` ran with a second seed, which is not the one that is served."""
    home = tmp_path_factory.mktemp("mirrored")
    made = Artifacts(Path(shutil.copytree(run_made.root, home / "artifacts")))
    shutil.copytree(made.run("new", 0), made.run("new", 1))
    scores = json.loads((made.evaluate / "metrics.json").read_text())
    new = scores["models"]["new"]
    new["seeds"]["1"] = new["seeds"]["0"] | {"auc": 0.5}
    new["metrics"]["recall@5"]["value"] = 0.25
    write_json(made.evaluate / "metrics.json", scores)
    register(made)
    write_json(home / "timings.json", {"fingerprint": "f", "models": {"new": TIMES}})
    with opened(empty_store, home) as registry:
        top, noted = write(registry, made, home / "timings.json")
        yield Written(registry, made, top, noted.calls, runs(registry))


def pipeline(written: Written) -> str:
    return f"pipeline {Registered.open(written.artifacts.register).pipeline[:8]}"


def test_runs_stand_below_the_pipeline_and_trials_below_the_sweep(written: Written) -> None:
    names = {run.info.run_id: name for name, run in written.runs.items()}
    parents = {name: names.get(run.data.tags.get("mlflow.parentRunId")) for name, run in written.runs.items()}
    top = pipeline(written)
    below = [*STAGES, "sweep new", "train base seed 0", "train new seed 0", "train new seed 1"]
    assert parents == {top: None} | dict.fromkeys(below, top) | dict.fromkeys(
        ["trial new 00", "trial new 01"], "sweep new"
    )
    assert written.runs[top].info.run_id == written.top
    assert {run.info.status for run in written.runs.values()} == {"FINISHED"}
    assert written.runs["train new seed 1"].data.tags["hisac_lab.kind"] == "train"


def test_the_top_run_tells_settings_commit_digests_and_headline_numbers(written: Written) -> None:
    data = written.runs[pipeline(written)].data
    bundles = Registered.open(written.artifacts.register)
    assert data.params == {key: str(value)[:6000] for key, value in PARAMS.items()}
    assert data.metrics | {"base/auc": 0.7, "new/auc": 0.71, "new/ab_lift": 0.012} == data.metrics
    tags = {PIPELINE: bundles.pipeline, COMPLETE: "true", "git_commit": "0123abc+", "fingerprint": "fedcba9876543210"}
    tags |= {f"data.{stage}": digest[:16] for stage, digest in bundles.stages.items()}
    assert data.tags | tags == data.tags
    assert "data.prepare" in tags


def test_a_stages_run_tells_its_manifest(written: Written) -> None:
    prepare, tokenize = written.runs["prepare"].data, written.runs["tokenize"].data
    assert prepare.params["negatives"] == "real exposures"
    assert prepare.params["fields"] == "[]"
    numbers = {"events": 1234, "splits/test/positive_share": 0.5, "leaks/samples_checked": 321}
    assert prepare.metrics | numbers == prepare.metrics
    assert not [name for name in prepare.metrics if name.startswith("profile")]
    assert tokenize.metrics["quality/levels/1/perplexity"] == 1.9


def test_a_training_run_tells_its_curve_and_what_it_scores_on_the_test_period(written: Written) -> None:
    run = written.runs["train new seed 1"]
    assert (run.data.tags["model"], run.data.tags["seed"]) == ("new", "1")
    assert run.data.metrics["test_auc"] == 0.5
    assert written.runs["train new seed 0"].data.metrics["test_auc"] == 0.71
    curve = written.registry.client.get_metric_history(run.info.run_id, "curve/valid_auc")
    assert [(point.step, point.value) for point in curve] == [(10, pytest.approx(0.6)), (20, 0.7)]
    assert "curve/step" not in run.data.metrics


def test_a_bundle_is_registered_from_the_run_of_the_seed_that_is_served(written: Written) -> None:
    digests = Registered.open(written.artifacts.register).models
    assert written.registered == [
        (written.artifacts.bundle(name), digests[name], written.runs[f"train {name} seed 0"].info.run_id)
        for name in ("base", "new")
    ]


def test_the_evaluation_tells_intervals_costs_and_times_under_names_that_mlflow_takes(written: Written) -> None:
    metrics = written.runs["evaluate"].data.metrics
    wanted = {
        "new/auc": 0.71,
        "new/auc/low": 0.7,
        "new/auc/high": 0.72,
        "new/recall_at_5": 0.25,
        "base/cost/candidate_macs": 50000,
        "new/time/score_us_per_candidate": 0.25,
    }
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted)
    assert "base/time/score_us_per_candidate" not in metrics
    assert json.loads(written.file("evaluate", "metrics.json"))["models"].keys() == {"base", "new"}


def test_the_ab_test_tells_each_test_and_the_control_against_itself(written: Written) -> None:
    metrics = written.runs["abtest"].data.metrics
    assert metrics["new/lift/low"] == pytest.approx(0.008)
    assert metrics["aa/ks_p"] == pytest.approx(0.8)
    assert metrics["new/draw/users/treatment"] == 1010
    assert json.loads(written.file("abtest", "abtest.json"))["control"] == "base"


def test_a_trial_tells_its_settings_its_scores_and_whether_it_is_on_the_front(written: Written) -> None:
    sweep, trial, other = (written.runs[name].data for name in ("sweep new", "trial new 00", "trial new 01"))
    assert trial.params == {"agents": "4", "depth": "1"}
    scores = {"auc": 0.69, "error": 0.004, "standard_error": 0.0123, "seeds": 2, "request_macs": 1000}
    assert trial.metrics == scores | {"state_bytes": 128}
    assert trial.tags | {"on_front": "True", "chosen": "True", "state": "complete"} == trial.tags
    assert (other.tags["cut"], other.tags["chosen"]) == ("agents 8 to 6", "False")
    assert (sweep.params["rule"], sweep.metrics["chosen"]) == ("the cheapest", 0)
    assert written.file("sweep new", "trials.csv").startswith("agents,depth,number,state")


def test_a_run_tells_the_machine_of_its_output_and_the_top_run_those_of_all(written: Written) -> None:
    top, prepare = written.runs[pipeline(written)].data, written.runs["prepare"].data
    assert prepare.tags["machine.processor"] == "Processor One"
    assert prepare.metrics["machine/seconds"] == 3
    assert written.runs["train base seed 0"].data.tags["machine.processor"] == "Processor Two"
    for name in ("train new seed 0", "evaluate"):
        assert written.runs[name].data.tags["machine.processor"] == "unknown"
        assert "machine/seconds" not in written.runs[name].data.metrics
    assert "machine.processor" not in written.runs["trial new 00"].data.tags
    assert top.tags["machine.processor"] == "Processor One, Processor Two, unknown"
    assert (top.metrics["machine/seconds"], top.metrics["machine/peak_mb"]) == (6, 1000)
    machines = json.loads(written.file(pipeline(written), "machines.json"))
    assert machines == {name: record and record.facts() for name, record in MACHINES.items()}


def test_a_run_begins_and_ends_when_its_output_was_made_and_the_top_run_spans_all(written: Written) -> None:
    spans = {name: (run.info.start_time, run.info.end_time) for name, run in written.runs.items()}
    begin = 1767319200000  # 2026-01-02 02:00 UTC
    assert spans["train base seed 0"] == (begin + 3_845_000, begin + 3_846_000)
    assert spans["sweep new"] == spans["trial new 00"] == (begin, begin + 600_000)
    assert spans[pipeline(written)] == (begin, begin + 3_846_000)
    assert spans["evaluate"][0] == spans["evaluate"][1] > begin + 3_846_000, "nothing known: when it was mirrored"


def test_the_top_run_holds_a_table_of_models(written: Written) -> None:
    table = json.loads(written.file(pipeline(written), "leaderboard.json"))
    assert table["columns"] == ["model", "auc", "gauc", "log_loss", "ndcg@5", "recall@5"]
    base, new = table["data"]
    assert base[:2] == ["base", f"0.7000 {[0.7 - 0.01, 0.7 + 0.01]}"]
    assert new[0] == "new"


def test_a_run_mirrored_whole_is_found_and_another_is_not(written: Written, tmp_path: Path) -> None:
    assert mirror(written.registry, written.artifacts).find() == written.top
    other = Artifacts(Path(shutil.copytree(written.artifacts.root, tmp_path / "artifacts")))
    edit(other.register / "manifest.json", pipeline="another")
    assert mirror(written.registry, other).find() is None
    assert runs(written.registry).keys() == written.runs.keys()


def test_a_half_written_run_is_removed_whole_and_written_anew(registry: Registry, run: Artifacts) -> None:
    whole = registry.client.create_run(registry.experiment, run_name="of others")
    noted: Any = Noted()
    noted.register = None  # fails at the very end
    with pytest.raises(TypeError):
        mirror(registry, run).write(noted, Path("nothing"))
    half = {one.info.run_id for one in runs(registry).values()} - {whole.info.run_id}
    assert len(half) == 14
    assert mirror(registry, run).find() is None
    assert runs(registry).keys() == {"of others"}
    top, _ = write(registry, run)
    assert len(runs(registry)) == 15
    assert mirror(registry, run).find() == top


def test_without_bundles_there_is_nothing_to_mirror(registry: Registry, run: Artifacts) -> None:
    (run.register / "manifest.json").unlink()
    with says(f"{run.register / 'manifest.json'}: does not exist", "run the stage that makes it"):
        mirror(registry, run)
