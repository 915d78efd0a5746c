"""The mirror: a finished run as a tree of runs in MLflow, written once, and anew when it was left half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from finished import edit
from kit import says
from mlflow.entities import DatasetInput, Run
from outputs import machine_record
from registered import opened, register

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.mirror import COMPLETE, PIPELINE, Lineage, Mirror, setting
from hisac_lab.registry.records import Registered
from hisac_lab.registry.store import Registry
from hisac_lab.sweep.records import TrialSpan

PARAMS: dict[str, Any] = {f"train.setting_{place}": place for place in range(200)} | {"none": None, "long": "x" * 9000}
TIMES = {"device": "cpu", "encode_us_per_request": 12.5, "score_us_per_candidate": 0.25}
MACHINES = {
    "ingest": machine_record("Processor One", started="2026-01-02T01:59:00+00:00", seconds=4.1),
    "prepare": machine_record("Processor One", seconds=3.1, peak_mb=700),
    "evaluate": None,
    "train@base-0": machine_record("Processor Two"),
    "sweep@new": machine_record(
        "Processor One", started="2026-01-02T02:00:00+00:00", ended="2026-01-02T02:10:00+00:00"
    ),
}
READ: dict[str, dict[str, Any]] = {
    "train@new-1": {"train.learning_rate": 0.002, "model.kind": "hisac"},
    "prepare": {"prepare.seed": 0},
}
TRIAL = TrialSpan(number=1, started="2026-01-02T02:01:00+00:00", ended="2026-01-02T02:02:00+00:00")
LINEAGE = Lineage("0123abc+", PARAMS, MACHINES, READ, {"new": (TRIAL,)})
STAGES = "01 acquire,02 prepare,03 embed,04 tokenize,05 codebook,07 instances,09 evaluate,10 abtest,11 register".split(
    ","
)


@dataclass
class Noted:
    """Takes the place of the registered models, which take longer: notes what is registered."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def register(self, *call: Any) -> str:
        self.calls.append(call)
        return "1"


@dataclass
class Written:
    """What was written of a finished run."""

    registry: Registry
    artifacts: Artifacts
    top: str
    registered: list[tuple[Any, ...]]
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
    return f"toy 2026-01-02 {Registered.open(written.artifacts.register).pipeline[:8]}"


def test_runs_stand_below_the_pipeline_and_trials_below_the_sweep_in_the_order_of_the_graph(written: Written) -> None:
    names = {run.info.run_id: name for name, run in written.runs.items()}
    parents = {name: names.get(run.data.tags.get("mlflow.parentRunId")) for name, run in written.runs.items()}
    top = pipeline(written)
    below = [*STAGES, "06 sweep new", "08 base-0", "08 new-0", "08 new-1"]
    assert parents == {top: None} | dict.fromkeys(below, top) | dict.fromkeys(
        ["trial 00 new", "trial 01 new"], "06 sweep new"
    )
    assert written.runs[top].info.run_id == written.top
    assert {run.info.status for run in written.runs.values()} == {"FINISHED"}
    assert written.runs["08 new-1"].data.tags["hisac_lab.kind"] == "train"


def test_the_top_run_tells_settings_commit_digests_and_headline_numbers(written: Written) -> None:
    data = written.runs[pipeline(written)].data
    bundles = Registered.open(written.artifacts.register)
    assert data.params == {key: str(value)[:6000] for key, value in PARAMS.items()}
    assert data.metrics | {"auc/base": 0.7, "auc/new": 0.71, "lift/new": 0.012} == data.metrics
    tags = {PIPELINE: bundles.pipeline, COMPLETE: "true", "git_commit": "0123abc+", "fingerprint": "fedcba9876543210"}
    tags |= {"mlflow.source.git.commit": "0123abc", "mlflow.source.git.dirty": "true"}
    tags |= {f"data.{stage}": digest[:16] for stage, digest in bundles.stages.items()}
    assert data.tags | tags == data.tags
    assert "data.prepare" in tags


def test_a_stages_run_has_few_columns_and_its_whole_manifest_as_files(written: Written) -> None:
    prepare, tokenize = written.runs["02 prepare"].data, written.runs["04 tokenize"].data
    numbers = {"users": 12, "items": 4, "events": 1234, "train_samples": 100, "history_p50": 50}
    assert prepare.metrics | numbers == prepare.metrics
    assert prepare.params == {"prepare.seed": "0"}
    assert "real exposures" in prepare.tags["mlflow.note.content"]
    assert json.loads(written.file("02 prepare", "manifest.json"))["leaks"]["samples_checked"] == 321
    splits = table(written, "02 prepare", "splits.json")
    assert [(row["period"], row["samples"]) for row in splits] == [("train", 100), ("valid", 100), ("test", 100)]
    assert tokenize.metrics["purity_lift"] == 3.0
    assert table(written, "04 tokenize", "levels.json")[0]["perplexity"] == 1.9
    columns = {name for run in written.runs.values() for name in run.data.metrics}
    assert len(columns) < 50, sorted(columns)


def test_a_training_run_tells_its_settings_its_curve_and_what_it_scores_on_the_test_period(written: Written) -> None:
    run = written.runs["08 new-1"]
    assert (run.data.tags["model"], run.data.tags["seed"]) == ("new", "1")
    settings = {
        "train.learning_rate": "0.002",
        "model.kind": "hisac",
        "model": "new",
        "seed": "1",
        "parameters": "1234",
    }
    assert run.data.params == settings
    assert run.data.metrics["test/auc"] == 0.5
    assert written.runs["08 new-0"].data.metrics["test/auc"] == 0.71
    curve = written.registry.client.get_metric_history(run.info.run_id, "valid_auc")
    assert [(point.step, point.value) for point in curve] == [(10, pytest.approx(0.6)), (20, 0.7)]
    found = written.registry.client.search_runs(
        [written.registry.experiment], "params.`train.learning_rate` = '0.002' AND tags.model = 'new'"
    )
    assert [one.info.run_id for one in found] == [run.info.run_id]


def inputs(run: Run) -> list[DatasetInput]:
    assert run.inputs is not None
    return list(run.inputs.dataset_inputs)


def test_runs_tell_the_data_that_they_read_by_digest_and_schema(written: Written) -> None:
    for name, context in (("08 new-0", "training"), ("09 evaluate", "test")):
        (read,) = inputs(written.runs[name])
        assert (read.dataset.name, read.dataset.digest) == ("toy", "0123456789abcdef")
        assert [tag.value for tag in read.tags] == [context]
        assert json.loads(str(read.dataset.profile))["num_rows"] == 300
        assert [column["name"] for column in json.loads(str(read.dataset.schema))["mlflow_colspec"]][:3] == [
            "user", "time", "item"]  # fmt: skip
    log = {one.dataset.name for one in inputs(written.runs[pipeline(written)])}
    assert log == {"toy", "toy-log"}
    client, where = written.registry.client, [written.registry.experiment]
    assert len(client.search_runs(where, "dataset.digest = '0123456789abcdef' AND dataset.context = 'test'")) == 2


def test_a_bundle_is_registered_from_the_run_of_the_seed_that_is_served(written: Written) -> None:
    digests = Registered.open(written.artifacts.register).models
    assert [call[:3] for call in written.registered] == [
        (written.artifacts.bundle(name), digests[name], written.runs[f"08 {name}-0"].info.run_id)
        for name in ("base", "new")
    ]
    assert {call[3].digest for call in written.registered} == {"0123456789abcdef"}


def table(written: Written, run: str, name: str) -> list[dict[str, Any]]:
    content = json.loads(written.file(run, name))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_the_evaluation_tells_every_metric_and_every_cost_in_tables(written: Written) -> None:
    assert written.runs["09 evaluate"].data.metrics.keys() == {"auc/base", "auc/new"}
    rows = {(row["model"], row["metric"]): row for row in table(written, "09 evaluate", "scores.json")}
    auc = rows["new", "auc"]
    assert (auc["value"], auc["low"], auc["high"]) == pytest.approx((0.71, 0.7, 0.72))
    assert rows["new", "recall@5"]["value"] == 0.25
    assert ("base", "auc, history length 1 to 15") in rows
    base, new = table(written, "09 evaluate", "costs.json")
    assert (base["candidate_macs"], base["score_us_per_candidate"], new["score_us_per_candidate"]) == (
        50000,
        None,
        0.25,
    )
    assert json.loads(written.file("09 evaluate", "metrics.json"))["models"].keys() == {"base", "new"}


def test_the_ab_test_tells_each_test_and_the_control_against_itself(written: Written) -> None:
    assert written.runs["10 abtest"].data.metrics == {"lift/new": 0.012}
    new, itself = table(written, "10 abtest", "tests.json")
    assert (new["verdict"], new["low"]) == ("better", pytest.approx(0.008))
    assert (itself["model"], itself["verdict"]) == ("base against itself", "uniform p-values: 0.80")
    assert json.loads(written.file("10 abtest", "abtest.json"))["control"] == "base"


def test_a_trial_tells_its_settings_its_scores_and_whether_it_is_on_the_front(written: Written) -> None:
    sweep, trial, other = (written.runs[name].data for name in ("06 sweep new", "trial 00 new", "trial 01 new"))
    assert trial.params == {"model": "new", "model.agents": "4", "model.depth": "1"}
    scores = {"valid_auc": 0.69, "error": 0.004, "standard_error": 0.0123, "seeds": 2, "request_macs": 1000}
    assert trial.metrics == scores | {"state_bytes": 128}
    assert trial.tags | {"on_front": "True", "chosen": "True", "state": "complete"} == trial.tags
    assert (other.tags["cut"], other.tags["chosen"]) == ("agents 8 to 6", "False")
    assert "Taken: **trial 0**" in sweep.tags["mlflow.note.content"]
    assert "by the rule: the cheapest" in sweep.tags["mlflow.note.content"]
    assert written.file("06 sweep new", "trials.csv").startswith("agents,depth,number,state")


def test_a_setting_of_a_trial_is_named_as_that_of_a_training() -> None:
    assert [setting(key) for key in ("agents", "train.learning_rate", "backbone.dim")] == [
        "model.agents", "train.learning_rate", "backbone.dim"]  # fmt: skip


def test_a_run_tells_the_machine_of_its_output_and_the_top_run_those_of_all(written: Written) -> None:
    top, prepare = written.runs[pipeline(written)].data, written.runs["02 prepare"].data
    assert prepare.tags["machine.processor"] == "Processor One"
    assert prepare.metrics["system/seconds"] == 7.2, "with the steps on the way to it, to hundredths"
    assert written.runs["08 base-0"].data.tags["machine.processor"] == "Processor Two"
    for name in ("08 new-0", "09 evaluate"):
        assert written.runs[name].data.tags["machine.processor"] == "unknown"
        assert "system/seconds" not in written.runs[name].data.metrics
    assert "machine.processor" not in written.runs["trial 00 new"].data.tags
    assert top.tags["machine.processor"] == "Processor One, Processor Two, unknown"
    assert (top.metrics["system/seconds"], top.metrics["system/peak_memory_megabytes"]) == (10.2, 1000)
    machines = json.loads(written.file(pipeline(written), "machines.json"))
    assert machines == {name: record and record.facts() for name, record in MACHINES.items()}


def test_a_run_begins_and_ends_when_its_output_was_made_and_the_top_run_spans_all(written: Written) -> None:
    spans = {name: (run.info.start_time, run.info.end_time) for name, run in written.runs.items()}
    begin = 1767319200000  # 2026-01-02 02:00 UTC
    assert spans["08 base-0"] == (begin + 3_845_000, begin + 3_846_000)
    assert spans["06 sweep new"] == spans["trial 00 new"] == (begin, begin + 600_000)
    assert spans["trial 01 new"] == (begin + 60_000, begin + 120_000)
    assert spans["02 prepare"][0] == begin - 60_000
    assert spans[pipeline(written)] == (begin - 60_000, begin + 3_846_000)
    assert spans["09 evaluate"][0] == spans["09 evaluate"][1] > begin + 3_846_000, "nothing known: when it was mirrored"


def test_the_top_run_holds_a_table_of_models(written: Written) -> None:
    base, new = table(written, pipeline(written), "leaderboard.json")
    assert (base["model"], base["AUC"], base["A/B test"]) == ("base", "0.7000 [0.6900, 0.7100]", "control")
    assert (new["model"], new["lift"], new["state bytes"]) == ("new", "+1.20% [+0.80%, +1.60%]", "4,000")


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
    assert len(half) == 15
    assert mirror(registry, run).find() is None
    assert runs(registry).keys() == {"of others"}
    top, _ = write(registry, run)
    assert len(runs(registry)) == 16
    assert mirror(registry, run).find() == top


def test_the_report_which_runs_later_is_added_once_and_ends_the_pipeline(registry: Registry, run: Artifacts) -> None:
    top, _ = write(registry, run)
    late = machine_record("Processor One", started="2026-01-02T05:00:00+00:00", ended="2026-01-02T05:00:01+00:00")
    lineage = replace(LINEAGE, machines={**MACHINES, "report": late})
    for _ in range(2):
        Mirror(registry.client, registry.experiment, registry.versions.project, run, lineage).add_report(top)
    found = runs(registry)
    assert found["12 report"].data.tags["mlflow.parentRunId"] == top
    (pipe,) = (one for one in found.values() if one.info.run_id == top)
    assert pipe.info.end_time == found["12 report"].info.end_time


def test_without_bundles_there_is_nothing_to_mirror(registry: Registry, run: Artifacts) -> None:
    (run.register / "manifest.json").unlink()
    with says(f"{run.register / 'manifest.json'}: does not exist", "run the stage that makes it"):
        mirror(registry, run)
