"""A request as a served model is asked it: its columns, declared once, and what the model reads of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hisac_lab.base.errors import UserError
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.instances import NEGATIVE, POSITIVE, UNKNOWN, InstanceArrays
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History
from hisac_lab.models.instances import Instances

MODEL_INPUT = "model input"


class Column(NamedTuple):
    """A column of a request: its name and what stands in it."""

    name: str
    kind: Literal["id", "integer", "vector"]
    many: bool = True


REQUEST = (
    Column("history_items", "id"),
    Column("history_times", "integer"),
    Column("time", "integer", many=False),
    Column("candidates", "id"),
)
INSTANCES = (
    Column("instance_items", "id"),
    Column("instance_times", "integer"),
    Column("instance_labels", "integer"),
    Column("instance_vectors", "vector"),
)


def columns(sides: Collection[str]) -> tuple[Column, ...]:
    """Columns of a request to a model with these side inputs; agents and the time come of the history's own."""
    return REQUEST + INSTANCES if "instances" in sides else REQUEST


class RequestReader:
    """Turns requests into what one model reads.

    Args:
        model: It is about to score them.
        items: Item ids in the order of their numbers.
        limit: How many events of a history the model reads, the newest.
    """

    def __init__(self, model: Ranker, items: list[str], limit: int) -> None:
        self.sides, self.limit = model.sides, limit
        self.reads = model.reads
        self.columns = columns(model.sides)
        self.number = {item: place for place, item in enumerate(items)}

    def read(self, row: int, request: Mapping[Any, Any]) -> tuple[History, Tensor]:
        """The history and the candidates, (1, C) int64, of one request.

        Args:
            row: Its number, for messages.
            request: A value for each column.

        Raises:
            UserError: A history is empty or from the future, an item is unknown, or instances do not fit each other or
                the model.
        """
        times = np.asarray(request["history_times"], np.int64)
        items = self._numbers(row, "history_items", request["history_items"])
        candidates = self._numbers(row, "candidates", request["candidates"])
        if not len(items):
            raise UserError(MODEL_INPUT, "value [] is no history", "rank users without one by popularity",
                            f"row {row}: history_items")  # fmt: skip
        if len(items) != len(times):
            raise UserError(MODEL_INPUT, f"{len(times)} times for {len(items)} items", "give one time per event",
                            f"row {row}: history_times")  # fmt: skip
        ages = int(request["time"]) - times
        if (ages <= 0).any():
            raise UserError(MODEL_INPUT, f"an event at {times[ages <= 0][0]} is not before the request",
                            "leave out events at or after `time`", f"row {row}: history_times")  # fmt: skip
        items, ages = items[-self.limit :], ages[-self.limit :]
        history = History.of(HistoryArrays(items[None], ages[None], np.ones((1, len(items)), bool)))
        if "time" in self.sides:
            history = replace(history, time=torch.tensor([int(request["time"])]))
        if self.reads is not None:
            history = replace(history, instances=self._instances(row, request, self.reads.count, self.reads.dim))
        return history, torch.from_numpy(candidates[None])

    def _instances(self, row: int, request: Mapping[Any, Any], count: int, dim: int) -> Instances:
        items = self._numbers(row, "instance_items", request["instance_items"])
        times = np.asarray(request["instance_times"], np.int64)
        labels = np.asarray(request["instance_labels"], np.int64)
        rows = [np.asarray(one, np.float32) for one in request["instance_vectors"]]
        if not len(items):
            return Instances.none(1, dim)
        if not len(items) == len(times) == len(labels) == len(rows) or {len(one) for one in rows} != {dim}:
            raise UserError(MODEL_INPUT, f"{len(items)} items, {len(times)} times, {len(labels)} labels and "
                            f"{len(rows)} vectors do not fit", f"give one of each, vectors of {dim} numbers",
                            f"row {row}: instance_vectors")  # fmt: skip
        vectors, ages = np.stack(rows), int(request["time"]) - times
        if (ages <= 0).any():
            raise UserError(MODEL_INPUT, f"an instance at {times[ages <= 0][0]} is not before the request",
                            "leave out instances at or after `time`", f"row {row}: instance_times")  # fmt: skip
        wrong = labels[~np.isin(labels, (NEGATIVE, POSITIVE, UNKNOWN))]
        if len(wrong):
            raise UserError(MODEL_INPUT, f"value {wrong[0]} is no label", "give 0, 1, or 2 where it is not known yet",
                            f"row {row}: instance_labels")  # fmt: skip
        last = slice(-count, None)
        mask = np.ones((1, len(items[last])), bool)
        parts = InstanceArrays(vectors[None, last], items[None, last], ages[None, last], labels[None, last], mask)
        return Instances.of(parts)

    def _numbers(self, row: int, name: str, ids: Any) -> npt.NDArray[np.int64]:
        try:
            return np.array([self.number[str(item)] for item in ids], np.int64)
        except KeyError as error:
            raise UserError(MODEL_INPUT, f"item {error} is unknown to this model", "leave it out",
                            f"row {row}: {name}") from error  # fmt: skip
