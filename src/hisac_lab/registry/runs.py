"""One run in MLflow: what it is told, and how it is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from hisac_lab.base.machines import MachineRecord

KIND = "hisac_lab.kind"
"""Tag: the stage that a run tells of, or `pipeline`, or `trial`."""
PARAMS, METRICS = 90, 900  # the store takes at most 100 parameters at once, and 1,000 metrics
LONGEST = 6000
"""Characters of a parameter's value."""


@dataclass(frozen=True)
class Told:
    """What is told of one run.

    Attributes:
        kind: Of the run (see `KIND`).
        name: In the table of runs; numbered, so that names sort in the order of the graph.
        params: Settings, by dotted key.
        metrics: Results.
        curve: Results by step.
        tags: What else it is searched by.
        note: In Markdown.
        records: Of the machines that made its outputs; None: nothing is known of one. Empty: it has none of its own.
        span: When it began and ended, in ISO 8601; None: as `records` say.
        data: What it read.
    """

    kind: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[tuple[int, Mapping[str, float]]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    records: Sequence[MachineRecord | None] = ()
    span: tuple[str, str] | None = None
    data: Sequence[DatasetInput] = ()


class Runs:
    """Writes finished runs.

    Args:
        client: A client of the tracking store.
        experiment: Identifier of the experiment.
    """

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client, self.experiment = client, experiment
        self.now = milliseconds()

    def write(self, told: Told, parent: str | None) -> str:
        """Writes a run below another one; gives its identifier."""
        machine, measured = _machine(told.records)
        started, ended = self._times(told)
        tags = {MLFLOW_RUN_NAME: told.name, MLFLOW_SOURCE_NAME: "hisac-lab", **told.tags, **machine}
        if parent:
            tags[MLFLOW_PARENT_RUN_ID] = parent
        if told.note:
            tags[MLFLOW_RUN_NOTE] = told.note
        run = self.client.create_run(self.experiment, start_time=started, tags=tags, run_name=told.name)
        identifier = str(run.info.run_id)
        settings = [Param(key, str(value)[:LONGEST]) for key, value in told.params.items()]
        for at in range(0, len(settings), PARAMS):
            self.client.log_batch(identifier, params=settings[at : at + PARAMS])
        steps = [(0, {**told.metrics, **measured}), *told.curve]
        values = [Metric(legal(key), float(value), ended, at) for at, part in steps for key, value in part.items()]
        for at in range(0, len(values), METRICS):
            self.client.log_batch(identifier, metrics=values[at : at + METRICS])
        if told.data:
            self.client.log_inputs(identifier, datasets=list(told.data))
        self.client.log_batch(identifier, tags=[RunTag(KIND, told.kind)])
        self.client.set_terminated(identifier, end_time=ended)
        return identifier

    def _times(self, told: Told) -> tuple[int, int]:
        """When a run began and ended, in milliseconds; now where nothing is known."""
        known = [record for record in told.records if record is not None]
        spans = [told.span] if told.span else [(record.started, record.ended) for record in known]
        if not spans:
            return self.now, self.now
        return min(milliseconds(begin) for begin, _ in spans), max(milliseconds(end) for _, end in spans)


def milliseconds(text: str | None = None) -> int:
    """Milliseconds since 1970 of a time in ISO 8601, or now."""
    return int((datetime.fromisoformat(text).timestamp() if text else time.time()) * 1000)


def legal(name: str) -> str:
    """The name of a metric as MLflow takes it."""
    return name.replace("@", "_at_")


def _machine(records: Sequence[MachineRecord | None]) -> tuple[dict[str, str], dict[str, float]]:
    """What is known of the machines of some outputs, as tags and metrics: sums of times, the highest peak of memory.

    MLflow shows metrics below `system/` on a page of their own.
    """
    known = [record for record in records if record is not None]
    if not known:
        return {"machine.processor": "unknown"} if records else {}, {}
    unknown = {"unknown"} if len(known) < len(records) else set()
    tags = {
        "machine.processor": {record.processor.model for record in known} | unknown,
        "machine.arithmetic": {record.arithmetic for record in known} | unknown,
    }
    gpus = {record.gpu for record in known if record.gpu}
    metrics = {
        "system/seconds": round(sum(record.seconds for record in known), 2),
        "system/cpu_seconds": round(sum(record.cpu_seconds for record in known), 2),
        "system/peak_memory_megabytes": float(max(record.peak_mb for record in known)),
    }
    return {
        name: ", ".join(sorted(found)) for name, found in (tags | ({"machine.gpu": gpus} if gpus else {})).items()
    }, metrics
