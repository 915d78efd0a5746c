"""Mirroring finished runs into MLflow: serial, in batches, idempotent.

Stages write files; this reads them. A pipeline's run is keyed by the digest of all its outputs, a model version by the
digest of its bundle, so mirroring twice adds nothing, and a lost registry is rebuilt by mirroring again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_SOURCE_NAME

from hisac_lab.abtest.records import ABTests
from hisac_lab.base.machines import MachineRecord
from hisac_lab.base.records import Output
from hisac_lab.base.stages import SHOWN, Artifacts
from hisac_lab.evaluation.records import Evaluated, ModelScores, Scores, Timings
from hisac_lab.inference.records import CURVE, Point
from hisac_lab.registry.origin import Change
from hisac_lab.registry.records import Registered
from hisac_lab.registry.versions import PROJECT, ModelVersions
from hisac_lab.sweep.records import TRIALS, Swept, Trial

PIPELINE, COMPLETE = "hisac_lab.pipeline", "hisac_lab.complete"
BATCH = 90  # the store takes at most 100 parameters at once


@dataclass(frozen=True)
class Lineage:
    """Where a pipeline execution came from; for people, never for decisions.

    Attributes:
        commit: Git commit of the working tree, with a plus sign when it was changed.
        params: All settings, flattened.
        machines: What is known of the machine that made each output, by DVC's name of the stage ("train@hisac-0");
            None where nothing is known.
        settings: Those that differ from their defaults, by dotted key.
    """

    commit: str
    params: dict[str, Any]
    machines: Mapping[str, MachineRecord | None] = field(default_factory=dict)
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
        self.now = int(time.time() * 1000)
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
        results = Scores.open(self.artifacts.evaluate).models
        tests = ABTests.open(self.artifacts.abtest)
        headline = {f"{name}/auc": scores.auc.value for name, scores in results.items()}
        headline |= {f"{name}/ab_lift": test.lift.value for name, test in tests.tests.items()}
        top = self._run(
            f"pipeline {self.bundles.pipeline[:8]}",
            None,
            self.lineage.params,
            headline,
            {PIPELINE: self.bundles.pipeline, PROJECT: self.project, "git_commit": self.lineage.commit}
            | {f"data.{stage}": digest[:16] for stage, digest in self.bundles.stages.items()}
            | {"fingerprint": Evaluated.open(self.artifacts.evaluate).fingerprint},
            made=self.lineage.machines,
        )
        machines = {name: record and record.facts() for name, record in self.lineage.machines.items()}
        self.client.log_dict(top, machines, "machines.json")
        owners: dict[str, str] = {}
        for stage in SHOWN:
            match stage:
                case "sweep":
                    self._sweep(top)
                case "train":
                    owners = self._training(top, results)
                case "evaluate":
                    evaluation = self._run(stage, top, {}, _evaluation_metrics(results, timings), made=[stage])
                    self.client.log_artifact(evaluation, str(self.artifacts.evaluate / Scores.FILE))
                case "abtest":
                    every = tests.tests | {"aa": tests.aa}
                    lifts = _flat({name: test.facts() for name, test in every.items()})
                    ab = self._run(stage, top, {}, lifts, made=[stage])
                    self.client.log_artifact(ab, str(self.artifacts.abtest / ABTests.FILE))
                case "register":
                    continue  # its bundles become versions of models
                case _:
                    self._run(stage, top, *_split(self.artifacts.at(stage)), made=[stage])
        table = {
            "model": list(results),
            **{
                metric: [
                    "undefined" if entry is None else f"{entry.value:.4f} {list(entry.interval)}"
                    for entry in (scores.metrics[metric] for scores in results.values())
                ]
                for metric in next(iter(results.values())).metrics
            },
        }
        self.client.log_table(top, table, "leaderboard.json")
        for name, digest in self.bundles.models.items():
            versions.register(self.artifacts.bundle(name), digest, owners[name])
        self.client.set_tag(top, COMPLETE, "true")
        return top

    def _sweep(self, top: str) -> None:
        """One run per swept model, its trials below it: settings as parameters, what was found as metrics."""
        for folder in self.artifacts.sweeps():
            model, made = folder.name, f"sweep@{folder.name}"
            facts, metrics = _split(folder)
            study = self._run(f"sweep {model}", top, facts, metrics, made=[made])
            chosen = Swept.open(folder).chosen
            for trial in Trial.read_table(folder):
                tags = {"state": trial.state, "on_front": str(trial.on_front), "chosen": str(trial.number == chosen)}
                tags |= {name: text for name, text in (("cut", trial.cut), ("reason", trial.reason)) if text}
                self._run(
                    f"trial {model} {trial.number:02d}", study, trial.settings, trial.scores(), tags, within=[made]
                )
            self.client.log_artifact(study, str(folder / TRIALS))

    def _training(self, top: str, results: dict[str, ModelScores]) -> dict[str, str]:
        """One run per model and seed with its curves; gives the run that owns each model's bundle."""
        owners = {}
        for name, result in results.items():
            for seed, scores in sorted(result.seeds.items()):
                folder = self.artifacts.run(name, seed)
                facts, metrics = _split(folder)
                metrics |= {f"test_{key}": value for key, value in scores.values().items()}
                tags = {"model": name, "seed": str(seed)}
                made = [f"train@{name}-{seed}"]
                run = self._run(f"train {name} seed {seed}", top, facts, metrics, tags, made)
                self._curve(run, folder / CURVE)
                if seed == result.best_seed:
                    owners[name] = run
        return owners

    def _curve(self, run: str, path: Path) -> None:
        points = Point.read_lines(path)
        metrics = [
            Metric(f"curve/{name}", value, self.now, point.step)
            for point in points
            for name, value in point.facts().items()
            if name != "step"
        ]
        for at in range(0, len(metrics), 900):
            self.client.log_batch(run, metrics=metrics[at : at + 900])

    def _run(
        self,
        name: str,
        parent: str | None,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        made: Collection[str] = (),
        within: Collection[str] = (),
    ) -> str:
        """Writes one run.

        `made` names the outputs that it speaks of, whose machine and times it then tells too; `within` those in whose
        time it was made, which are not its own.
        """
        machine, measured = _machine([self.lineage.machines.get(output) for output in made])
        started, ended = _times([self.lineage.machines.get(output) for output in (*made, *within)], self.now)
        own = {MLFLOW_RUN_NAME: name, MLFLOW_SOURCE_NAME: "hisac-lab", **(tags or {}), **machine}
        if parent:
            own[MLFLOW_PARENT_RUN_ID] = parent
        run = self.client.create_run(self.experiment, start_time=started, tags=own, run_name=name)
        identifier = str(run.info.run_id)
        settings = [Param(key, str(value)[:6000]) for key, value in params.items()]
        for at in range(0, len(settings), BATCH):
            self.client.log_batch(identifier, params=settings[at : at + BATCH])
        values = [Metric(_legal(key), float(value), ended, 0) for key, value in {**metrics, **measured}.items()]
        for at in range(0, len(values), 900):
            self.client.log_batch(identifier, metrics=values[at : at + 900])
        self.client.log_batch(identifier, tags=[RunTag("hisac_lab.kind", name.split(maxsplit=1)[0])])
        self.client.set_terminated(identifier, end_time=ended)
        return identifier


def _machine(records: list[MachineRecord | None]) -> tuple[dict[str, str], dict[str, float]]:
    """What is known of the machines of some outputs, as tags and metrics: sums of times, the highest peak of memory."""
    known = [record for record in records if record is not None]
    if not known:
        return {"machine.processor": "unknown"} if records else {}, {}
    unknown = {"unknown"} if len(known) < len(records) else set()
    tags = {
        "machine.processor": {record.processor.model for record in known} | unknown,
        "machine.arithmetic": {record.arithmetic for record in known} | unknown,
        "machine.started": {min(record.started for record in known)},
    }
    metrics = {
        f"machine/{name}": float(sum(getattr(record, name) for record in known)) for name in ("seconds", "cpu_seconds")
    }
    metrics["machine/peak_mb"] = float(max(record.peak_mb for record in known))
    return {name: ", ".join(sorted(values)) for name, values in tags.items()}, metrics


def _times(records: list[MachineRecord | None], now: int) -> tuple[int, int]:
    """When the first of some outputs was begun and the last one done, in milliseconds; `now` where nothing is known."""

    def milliseconds(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp() * 1000)

    known = [record for record in records if record is not None]
    if not known:
        return now, now
    return min(milliseconds(record.started) for record in known), max(milliseconds(record.ended) for record in known)


def _evaluation_metrics(results: dict[str, ModelScores], timings: Path) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, entry in results.items():
        for metric, found in entry.metrics.items():
            if found is None:
                continue
            metrics[f"{name}/{metric}"] = found.value
            metrics[f"{name}/{metric}/low"], metrics[f"{name}/{metric}/high"] = found.interval
        metrics |= {f"{name}/cost/{key}": value for key, value in entry.cost.facts().items()}
    if timings.exists():
        metrics |= _flat({name: {"time": seconds.facts()} for name, seconds in Timings.read(timings).models.items()})
    return metrics


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers in a nested mapping, by path; entries of a list of mappings (levels, months) are numbered from 1."""
    numbers: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            numbers |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, list):
            parts = {str(place): part for place, part in enumerate(value, 1) if isinstance(part, Mapping)}
            numbers |= _flat(parts, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = value
    return numbers


def _split(output: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The manifest of an output as parameters (texts and lists) and metrics (numbers)."""
    manifest = Output.open(output).facts()
    params = {k: v for k, v in manifest.items() if not isinstance(v, int | float | dict) or isinstance(v, bool)}
    return params, _flat({k: v for k, v in manifest.items() if k != "profile"})


def _legal(name: str) -> str:
    return name.replace("@", "_at_")
