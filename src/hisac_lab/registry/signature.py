"""What a request to a registered version looks like: its columns with MLflow's types, and an example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array

from hisac_lab.events.context import ContextColumns
from hisac_lab.events.feedback import Levels
from hisac_lab.events.records import ContextFacts
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.explained import EXPLAIN
from hisac_lab.inference.records import ModelFile, VocabularyFile
from hisac_lab.inference.request import FEEDBACK, Column, answer_names, columns
from hisac_lab.models.features import UserFeatures

KINDS: dict[str, Any] = {
    "id": DataType.string,
    "integer": DataType.long,
    "value": AnyType(),  # type: ignore[no-untyped-call]
    "vector": Array(DataType.double),
}
"""MLflow's types of what stands in a request's columns."""


def example(bundle: Path) -> pd.DataFrame:
    """A request that the model answers: its first items, a minute apart, the best feedback; no stored instances."""
    items = VocabularyFile.open(bundle).items[:3]
    times = [60 * place for place in range(1, len(items) + 1)]
    request: dict[str, Any] = {
        "history_items": items,
        "history_times": times,
        "time": times[-1] + 60,
        "candidates": items,
    }
    levels = _levels(bundle)
    if levels is not None:
        number = levels.begins[-1]
        words = [word for word, stands_for in (levels.words or {}).items() if stands_for == number]
        request[FEEDBACK.name] = [*words, number][:1] * len(items)
    required: list[str] = [column.name for column in _columns(bundle) if column.required]
    return pd.DataFrame([{name: [] for name in required} | request])


def _levels(bundle: Path) -> Levels | None:
    """Levels of the feedback that the model in a bundle reads; None: it reads none."""
    file = ModelFile.open(bundle)
    levels = file.items.get("feedback")
    return Levels.of(levels, bundle / ModelFile.FILE) if levels and file.backbone.get("feedback", True) else None


def _tasks(bundle: Path) -> tuple[str, ...]:
    """Names of the answers that the model in a bundle gives beside the label's."""
    return load_model(bundle)[0].tasks if ModelFile.open(bundle).backbone.get("tasks") else ()


def _columns(bundle: Path) -> tuple[Column, ...]:
    """Those of a request to the model in a bundle."""
    file, levels = ModelFile.open(bundle), _levels(bundle)
    facts = ContextFacts.of(file.items.get("context", {}), bundle / ModelFile.FILE)
    context = ContextColumns.of(file.backbone.get("features", ()), facts, levels)
    told = UserFeatures(file.backbone.get("features", ()), facts, levels).own
    return columns(() if file.instances is None else ("instances",), levels, bool(context.item_names), told)


def signature(bundle: Path) -> ModelSignature:
    """What a request holds: a model trained with an instance store is also told what the store answers."""
    kinds = [(KINDS[column.kind], column) for column in _columns(bundle)]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(kind) if column.many else kind, column.name, required=column.required) for kind, column in kinds
    ]
    outputs: list[ColSpec | TensorSpec] = [
        *(ColSpec(Array(DataType.double), name) for name in answer_names(_tasks(bundle))),
        ColSpec(DataType.long, "unknown_events"),
        ColSpec(DataType.string, "note"),
    ]
    params = ParamSchema([ParamSpec(EXPLAIN, DataType.boolean, False)])
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=params)
