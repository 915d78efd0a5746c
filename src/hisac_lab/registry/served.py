"""The served model: an MLflow pyfunc that scores any user from the history it is given.

It needs this package's code, which travels with it, and none of its data: item ids, weights, embeddings and codebook
are in the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.instances import NEGATIVE, POSITIVE, UNKNOWN, InstanceArrays
from hisac_lab.inference.bundle import load_model
from hisac_lab.models.contract import History
from hisac_lab.models.instances import Instances
from hisac_lab.registry.records import VocabularyFile

INPUTS = ("history_items", "history_times", "time", "candidates")
FETCHED = ("instance_items", "instance_times", "instance_labels", "instance_vectors")


class ServedRanker(PythonModel):
    """Scores candidates for users given by their histories.

    Input, one row per request: `history_items` (item ids, oldest first), `history_times` (seconds), `time` (seconds),
    `candidates` (item ids). Output: column `scores`, click probabilities in the order of the candidates.

    A model that reads stored instances has four columns more, what its store answers for the user, oldest first:
    `instance_items` (item ids), `instance_times` (seconds), `instance_labels` (0, 1, or 2 where the label has not
    arrived), `instance_vectors` (a list of numbers each). The store itself stays where it is.
    """

    def load_context(self, context: Any) -> None:
        """Loads the bundle that MLflow unpacked."""
        home = Path(context.artifacts["bundle"])
        self.model, _ = load_model(home)
        reads = None if self.model.long is None else self.model.long.reads
        self.reads = reads
        self.inputs = INPUTS if reads is None else INPUTS + FETCHED
        vocabulary = VocabularyFile.open(home)
        self.limit = vocabulary.history_limit
        self.number = {item: place for place, item in enumerate(vocabulary.items)}

    @arithmetic.one_thread()
    @torch.inference_mode()
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Scores each request.

        Raises:
            UserError: A column is missing, a history is empty or from the future, an item is unknown, or instances
                do not fit each other or the model.
        """
        for name in self.inputs:
            if name not in model_input.columns:
                raise UserError("model input", "column is missing", f"give {', '.join(self.inputs)}", name)
        scores = [self._score(row, request) for row, request in enumerate(model_input.to_dict("records"))]
        return pd.DataFrame({"scores": scores}, index=model_input.index)

    def _score(self, row: int, request: Mapping[Any, Any]) -> list[float]:
        times = np.asarray(request["history_times"], np.int64)
        items = self._numbers(row, "history_items", request["history_items"])
        candidates = self._numbers(row, "candidates", request["candidates"])
        if not len(items):
            raise UserError("model input", "value [] is no history", "rank users without one by popularity",
                            f"row {row}: history_items")  # fmt: skip
        if len(items) != len(times):
            raise UserError("model input", f"{len(times)} times for {len(items)} items", "give one time per event",
                            f"row {row}: history_times")  # fmt: skip
        ages = int(request["time"]) - times
        if (ages <= 0).any():
            raise UserError("model input", f"an event at {times[ages <= 0][0]} is not before the request",
                            "leave out events at or after `time`", f"row {row}: history_times")  # fmt: skip
        items, ages = items[-self.limit :], ages[-self.limit :]
        arrays = HistoryArrays(items[None], ages[None], np.ones((1, len(items)), bool))
        history = History.of(arrays, time=np.array([int(request["time"])]))
        if self.reads is not None:
            history = replace(history, instances=self._instances(row, request, self.reads.count, self.reads.dim))
        logits = self.model(history, torch.from_numpy(candidates[None]))
        return [float(p) for p in torch.sigmoid(logits[0])]

    def _instances(self, row: int, request: Mapping[Any, Any], count: int, dim: int) -> Instances:
        items = self._numbers(row, "instance_items", request["instance_items"])
        times = np.asarray(request["instance_times"], np.int64)
        labels = np.asarray(request["instance_labels"], np.int64)
        rows = [np.asarray(one, np.float32) for one in request["instance_vectors"]]
        if not len(items):
            return Instances.none(1, dim)
        if not len(items) == len(times) == len(labels) == len(rows) or {len(one) for one in rows} != {dim}:
            raise UserError("model input", f"{len(items)} items, {len(times)} times, {len(labels)} labels and "
                            f"{len(rows)} vectors do not fit", f"give one of each, vectors of {dim} numbers",
                            f"row {row}: instance_vectors")  # fmt: skip
        vectors, ages = np.stack(rows), int(request["time"]) - times
        if (ages <= 0).any():
            raise UserError("model input", f"an instance at {times[ages <= 0][0]} is not before the request",
                            "leave out instances at or after `time`", f"row {row}: instance_times")  # fmt: skip
        wrong = labels[~np.isin(labels, (NEGATIVE, POSITIVE, UNKNOWN))]
        if len(wrong):
            raise UserError("model input", f"value {wrong[0]} is no label", "give 0, 1, or 2 where it is not known yet",
                            f"row {row}: instance_labels")  # fmt: skip
        last = slice(-count, None)
        mask = np.ones((1, len(items[last])), bool)
        parts = InstanceArrays(vectors[None, last], items[None, last], ages[None, last], labels[None, last], mask)
        return Instances.of(parts)

    def _numbers(self, row: int, name: str, ids: Any) -> npt.NDArray[np.int64]:
        try:
            return np.array([self.number[str(item)] for item in ids], np.int64)
        except KeyError as error:
            raise UserError("model input", f"item {error} is unknown to this model", "leave it out",
                            f"row {row}: {name}") from error  # fmt: skip


set_model(ServedRanker())
