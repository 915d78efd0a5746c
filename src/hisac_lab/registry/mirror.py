"""Mirroring finished runs into MLflow: serial, in batches, idempotent.

Stages write files; this reads them. A pipeline's run is keyed by the digest of all its outputs, a model version by the
digest of its bundle, so mirroring twice adds nothing, and a lost registry is rebuilt by mirroring again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_GIT_DIRTY, MLFLOW_PARENT_RUN_ID

from hisac_lab.abtest.records import ABTests
from hisac_lab.base.artifacts import MANIFEST
from hisac_lab.base.machines import MachineRecord
from hisac_lab.base.stages import SHOWN, Artifacts
from hisac_lab.evaluation.records import Evaluated, Scores, Timings
from hisac_lab.events.records import Prepared
from hisac_lab.inference.records import Trained
from hisac_lab.registry import data, notes, tables
from hisac_lab.registry.origin import Change
from hisac_lab.registry.records import Registered
from hisac_lab.registry.runs import KIND, Runs, Told, milliseconds
from hisac_lab.registry.versions import PROJECT, ModelVersions
from hisac_lab.sweep.records import TRIALS, Swept, Trial, TrialSpan

PIPELINE, COMPLETE = "hisac_lab.pipeline", "hisac_lab.complete"
REPORT = "report"
ORDER = (*SHOWN, REPORT)
"""Kinds of the runs below a pipeline's, in the order of the graph, by which they are numbered."""
PARTS = {"prepare": ("ingest", "shard")}
"""Stages whose machines and times a shown one tells, for they are steps on the way to it."""
SECTIONS = ("backbone", "tokenize", "train")
"""Sections beside the model's own that a sweep reaches."""


@dataclass(frozen=True)
class Lineage:
    """Where a pipeline execution came from; for people, never for decisions.

    Attributes:
        commit: Git commit of the working tree, with a plus sign when it was changed.
        params: All settings, flattened.
        machines: What is known of the machine that made each output, by DVC's name of the stage ("train@hisac-0");
            None where nothing is known.
        read: The settings that each stage reads, by DVC's name of it, flattened.
        trials: When the trials of a swept model ran, as far as it is known.
        settings: Those that differ from their defaults, by dotted key.
    """

    commit: str
    params: dict[str, Any]
    machines: Mapping[str, MachineRecord | None] = field(default_factory=dict)
    read: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trials: Mapping[str, tuple[TrialSpan, ...]] = field(default_factory=dict)
    settings: Mapping[str, Change] = field(default_factory=dict)


class Mirror:
    """Writes one pipeline execution as a tree of runs.

    Args:
        client: A client of the tracking store.
        experiment: Identifier of the experiment.
        project: The project's identity (see `Ledger`).
        artifacts: Outputs of the stages.
        lineage: Where the execution came from.
    """

    def __init__(
        self, client: MlflowClient, experiment: str, project: str, artifacts: Artifacts, lineage: Lineage
    ) -> None:
        self.client, self.experiment, self.project = client, experiment, project
        self.artifacts, self.lineage = artifacts, lineage
        self.runs = Runs(client, experiment)
        self.bundles = Registered.open(artifacts.register)

    def find(self) -> str | None:
        """This project's run of this execution, when it was mirrored whole.

        One half-written, or whose files are gone, is removed. One made before projects had an identity becomes this
        project's.
        """
        query = f"tags.`{PIPELINE}` = '{self.bundles.pipeline}'"
        for run in self.client.search_runs([self.experiment], query):
            top, tags = str(run.info.run_id), run.data.tags
            if tags.get(PROJECT, self.project) != self.project:
                continue
            if tags.get(COMPLETE) and self.client.list_artifacts(top):
                if PROJECT not in tags:
                    self.client.set_tag(top, PROJECT, self.project)
                return top
            if PROJECT in tags:
                self._remove(top)
        return None

    def _remove(self, run: str) -> None:
        """Removes a run after all that stand below it: trials stand below the sweep."""
        for child in self.client.search_runs([self.experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run}'"):
            self._remove(str(child.info.run_id))
        self.client.delete_run(run)

    def write(self, versions: ModelVersions, timings: Path) -> str:
        """Writes the whole tree and registers the bundles.

        Args:
            versions: Registers model versions.
            timings: What was measured on this machine, if it is there.

        Returns:
            Identifier of the top run.
        """
        top = self._top()
        for stage in SHOWN:
            match stage:
                case "sweep":
                    self._sweep(top)
                case "train":
                    owners = self._training(top)
                case "evaluate":
                    self._evaluation(top, timings)
                case "abtest":
                    self._abtest(top)
                case _:
                    self._stage(top, stage)
        prepared = data.prepared(self.artifacts, "test")
        for name, digest in self.bundles.models.items():
            versions.register(self.artifacts.bundle(name), digest, owners[name], prepared.dataset)
        self.client.set_tag(top, COMPLETE, "true")
        return top

    def add_report(self, top: str) -> None:
        """Writes the run of the stage `report`, which runs after the others are mirrored, once it is known of."""
        record = self.lineage.machines.get(REPORT)
        below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{top}' AND tags.`{KIND}` = '{REPORT}'"
        if record is None or self.client.search_runs([self.experiment], below):
            return
        self.runs.write(self._told(REPORT, (REPORT,), note=notes.purpose(REPORT)), top)
        end = max(milliseconds(record.ended), self.client.get_run(top).info.end_time or 0)
        self.client.set_terminated(top, end_time=end)

    def _top(self) -> str:
        scores, tests = Scores.open(self.artifacts.evaluate), ABTests.open(self.artifacts.abtest)
        headline = {f"auc/{name}": entry.auc.value for name, entry in scores.models.items()}
        headline |= _lifts(tests)
        records = [record for name, record in self.lineage.machines.items() if name != REPORT]
        dataset = Prepared.open(self.artifacts.prepare).dataset
        begun = min((record.started for record in records if record is not None), default="")[:10]
        commit = self.lineage.commit
        tags = {PIPELINE: self.bundles.pipeline, PROJECT: self.project, "git_commit": commit}
        tags |= {MLFLOW_GIT_COMMIT: commit.rstrip("+"), MLFLOW_GIT_DIRTY: str(commit.endswith("+")).lower()}
        tags |= {f"data.{stage}": digest[:16] for stage, digest in self.bundles.stages.items()}
        told = Told(
            "pipeline",
            " ".join(filter(None, (dataset, begun, self.bundles.pipeline[:8]))),
            params=self.lineage.params,
            metrics=headline,
            tags=tags | {"fingerprint": Evaluated.open(self.artifacts.evaluate).fingerprint},
            records=records,
            data=[data.raw(self.artifacts), data.prepared(self.artifacts, "all periods")],
        )
        top = self.runs.write(told, None)
        machines = {name: record and record.facts() for name, record in self.lineage.machines.items()}
        self.client.log_dict(top, machines, "machines.json")
        self.client.log_table(top, tables.leaderboard(scores, tests), "leaderboard.json")
        return top

    def _told(self, kind: str, made: tuple[str, ...], name: str = "", **more: Any) -> Told:
        """A run of the graph: numbered, with what the stage reads and the machines of the outputs that it tells of."""
        read = {key: value for output in made for key, value in self.lineage.read.get(output, {}).items()}
        return Told(
            kind,
            f"{ORDER.index(kind) + 1:02d} {name or kind}",
            params={**read, **more.pop("params", {})},
            records=[self.lineage.machines.get(output) for output in made],
            **more,
        )

    def _stage(self, top: str, stage: str) -> None:
        """A stage with nothing below it: its whole manifest is a file, a few of its numbers are metrics."""
        parts = [name for name in self.lineage.machines if re.split("@", name)[0] in PARTS.get(stage, ())]
        folder = self.artifacts.at(stage)
        inputs = [data.raw(self.artifacts)] if stage == "acquire" else []
        if stage == "prepare":
            inputs = [data.prepared(self.artifacts, "all periods")]
        told = self._told(
            stage, (*parts, stage), metrics=tables.numbers(stage, folder), note=notes.stage(stage, folder), data=inputs
        )
        run = self.runs.write(told, top)
        self.client.log_artifact(run, str(folder / MANIFEST))
        for name, table in tables.of(stage, folder).items():
            self.client.log_table(run, table, f"{name}.json")

    def _sweep(self, top: str) -> None:
        """One run per swept model, its trials below it: settings as parameters, what was found as metrics."""
        read = data.prepared(self.artifacts, "training")
        for folder in self.artifacts.sweeps():
            model, made = folder.name, f"sweep@{folder.name}"
            swept = Swept.open(folder)
            told = self._told(
                "sweep",
                (made,),
                f"sweep {model}",
                metrics=tables.numbers("sweep", folder),
                tags={"model": model},
                note=notes.sweep(swept),
                data=[read],
            )
            study = self.runs.write(told, top)
            self.client.log_artifact(study, str(folder / TRIALS))
            self.client.log_artifact(study, str(folder / MANIFEST))
            record = self.lineage.machines.get(made)
            whole = (record.started, record.ended) if record else None
            spans = {one.number: (one.started, one.ended) for one in self.lineage.trials.get(model, ()) if record}
            for trial in Trial.read_table(folder):
                tags = {"state": trial.state, "on_front": str(trial.on_front)}
                tags |= {"chosen": str(trial.number == swept.chosen), "model": model}
                tags |= {name: text for name, text in (("cut", trial.cut), ("reason", trial.reason)) if text}
                one = Told(
                    "trial",
                    f"trial {trial.number:02d} {model}",
                    params={"model": model} | {setting(key): value for key, value in trial.settings.items()},
                    metrics=tables.trial(trial),
                    tags=tags,
                    note=notes.trial(trial, swept),
                    span=spans.get(trial.number, whole),
                )
                self.runs.write(one, study)

    def _training(self, top: str) -> dict[str, str]:
        """One run per model and seed with its curves; gives the run that owns each model's bundle."""
        owners = {}
        read = data.prepared(self.artifacts, "training")
        for name, result in Scores.open(self.artifacts.evaluate).models.items():
            for seed, scores in sorted(result.seeds.items()):
                folder = self.artifacts.run(name, seed)
                told = self._told(
                    "train",
                    (f"train@{name}-{seed}",),
                    f"{name}-{seed}",
                    params={"model": name, "seed": seed, "parameters": Trained.open(folder).parameters},
                    metrics=tables.tested(scores),
                    curve=tables.curve(folder),
                    tags={"model": name, "seed": str(seed)},
                    note=notes.training(name, seed, result),
                    data=[read],
                )
                run = self.runs.write(told, top)
                self.client.log_artifact(run, str(folder / MANIFEST))
                if seed == result.best_seed:
                    owners[name] = run
        return owners

    def _evaluation(self, top: str, timings: Path) -> None:
        scores, folder = Scores.open(self.artifacts.evaluate), self.artifacts.evaluate
        told = self._told(
            "evaluate",
            ("evaluate",),
            metrics={f"auc/{name}": entry.auc.value for name, entry in scores.models.items()},
            note=notes.evaluation(scores, Evaluated.open(folder)),
            data=[data.prepared(self.artifacts, "test")],
        )
        run = self.runs.write(told, top)
        self.client.log_artifact(run, str(folder / Scores.FILE))
        times = Timings.read(timings).models if timings.exists() else {}
        self.client.log_table(run, tables.scores(scores), "scores.json")
        self.client.log_table(run, tables.costs(scores, times), "costs.json")

    def _abtest(self, top: str) -> None:
        folder = self.artifacts.abtest
        tests = ABTests.open(folder)
        told = self._told(
            "abtest",
            ("abtest",),
            metrics=_lifts(tests),
            note=notes.abtest(tests),
            data=[data.prepared(self.artifacts, "test")],
        )
        run = self.runs.write(told, top)
        self.client.log_artifact(run, str(folder / ABTests.FILE))
        self.client.log_table(run, tables.tests(tests), "tests.json")


def _lifts(tests: ABTests) -> dict[str, float]:
    return {f"lift/{name}": test.lift.value for name, test in tests.tests.items()}


def setting(dimension: str) -> str:
    """A dimension of a sweep as the parameter that a training has: without a section it is a field of the model."""
    return dimension if dimension.partition(".")[0] in SECTIONS else f"model.{dimension}"
