"""The data that runs read, as MLflow lists them: name, digest, columns, size."""

from __future__ import annotations

import json
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Array, DataType
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from hisac_lab.base.artifacts import digest_of
from hisac_lab.base.stages import Artifacts
from hisac_lab.events.records import Prepared
from hisac_lab.sources.records import Acquired

SAMPLE = {
    "user": ColSpec(DataType.long, "user"),
    "time": ColSpec(DataType.long, "time"),
    "item": ColSpec(DataType.long, "item"),
    "label": ColSpec(DataType.integer, "label"),
    "history_items": ColSpec(Array(DataType.long), "history_items"),
    "history_times": ColSpec(Array(DataType.long), "history_times"),
}
"""Columns of a sample, whose history the event store holds once per user."""


def raw(artifacts: Artifacts) -> DatasetInput:
    """The files of the log, by their SHA-256."""
    source = Acquired.open(artifacts.acquire)
    return _input(
        Dataset(
            name=f"{source.dataset}-log",
            digest=digest_of(source.files),
            source_type="local",
            source=json.dumps({"uri": "artifacts/acquire"}),
            profile=json.dumps({"layout": source.layout, "files": len(source.files)}),
        ),
        "log",
    )


def prepared(artifacts: Artifacts, context: str) -> DatasetInput:
    """The event store, by the digest of its protocol: settings, raw files and cuts; MLflow keeps one entry of it.

    Args:
        artifacts: Outputs of the stages.
        context: What the run does with it, in a word.
    """
    facts = Prepared.open(artifacts.prepare)
    extra = [ColSpec(DataType.string, field.name) for field in facts.fields]
    schema = Schema([*SAMPLE.values(), *extra])
    sizes = {f"{name}_samples": split.samples for name, split in facts.splits.items()}
    profile: dict[str, Any] = {"num_rows": sum(sizes.values()), **sizes}
    profile |= {"users": facts.users, "items": facts.items, "events": facts.events, "negatives": facts.negatives}
    return _input(
        Dataset(
            name=facts.dataset,
            digest=facts.protocol,
            source_type="local",
            source=json.dumps({"uri": "artifacts/prepare"}),
            schema=json.dumps({"mlflow_colspec": schema.to_dict()}),
            profile=json.dumps(profile),
        ),
        context,
    )


def _input(dataset: Dataset, context: str) -> DatasetInput:
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
