"""Batches of requests on a device, and scoring by them: what training, evaluation, A/B test and front door share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array
from hisac_lab.events.batches import Requests, in_order
from hisac_lab.inference.runtime import Runtime
from hisac_lab.inference.sides import (
    COLUMNS,
    CandidateContext,
    CountedAgents,
    KnownColumns,
    RequestTime,
    Side,
    StoredInstances,
)
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History


@dataclass(frozen=True)
class Batch:
    """R requests on a device.

    Attributes:
        history: What the model reads of the users, side inputs among it.
        candidates: Items, 0 in the padding; (R, C) int64.
        labels: 1 clicked, 0 not; (R, C) float32.
        mask: True at real candidates; (R, C) bool.
        context: Of the candidates; (R, C, F) float32. None: the model reads none.
        answers: Further answers, NaN where one is not known; (R, C, T) float32. None: there are none to learn.
        weights: Of the candidates in training, 0 in the padding; (R, C) float32. None: all weigh the same.
    """

    history: History
    candidates: Tensor
    labels: Tensor
    mask: Tensor
    context: Tensor | None = None
    answers: Tensor | None = None
    weights: Tensor | None = None


Fetch: TypeAlias = Callable[[Batch | None], None]
"""Brings the rows of tables that are not here; without a batch it serves other processes."""


@dataclass(frozen=True)
class Loader:
    """Requests as one model reads them, in batches on its device.

    Attributes:
        requests: N requests.
        runtime: Device and number format.
        sides: The side inputs that come with a history.
        context: The side input that comes with the candidates; None: the model reads none.
    """

    requests: Requests
    runtime: Runtime
    sides: tuple[Side, ...] = ()
    context: CandidateContext | None = None

    @classmethod
    def of(
        cls,
        model: Ranker,
        requests: Requests,
        runtime: Runtime,
        instances: Path | None = None,
        names: Collection[str] | None = None,
    ) -> Loader:
        """Requests with the side inputs that the model names, but for agents, which `counted` adds.

        Args:
            model: It is about to score or learn these requests.
            requests: N requests.
            runtime: Device and number format.
            instances: Output of the stage `instances`.
            names: Which of the model's side inputs to bring; None: all.

        Raises:
            UserError: The model reads instances, and there are none, or not of the kind or width it reads; or it reads
                item series that were prepared with other settings.
        """
        wanted, sides = model.sides if names is None else names, list[Side]()
        if "time" in wanted:
            sides.append(RequestTime())
        sides += (KnownColumns.open(model, requests.store, name) for name in COLUMNS if name in wanted)
        if "instances" in wanted:
            sides.append(StoredInstances.open(model, instances))
        context = CandidateContext.open(model, requests.store) if model.context_columns.names else None
        return cls(requests, runtime, tuple(sides), context)

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def digests(self) -> Mapping[str, str]:
        """Name of each side input with data of its own to their digest."""
        return {side.name: side.digest for side in self.sides if side.digest is not None}

    @property
    def warnings(self) -> list[str]:
        """What to tell of the side inputs before a training, a line each."""
        return [side.warning for side in self.sides if side.warning is not None]

    def counted(self, model: Ranker) -> Loader:
        """The same with agents and context counted beforehand; as it is, for a model that reads none of them."""
        loader = self
        if self.context is not None:
            loader = replace(self, context=self.context.counted(self.requests))
        if "agents" not in model.sides:
            return loader
        return replace(loader, sides=(*self.sides, CountedAgents.count(model, self.requests, self.runtime)))

    def batch(self, index: Array) -> Batch:
        """The requests at `index`, their histories padded to the longest."""
        subset, device = self.requests.take(index), self.runtime.device
        history = History.of(subset.histories(), device)
        history = replace(history, **{side.name: side.fetch(self.requests, index, device) for side in self.sides})
        candidates, labels, mask = (
            torch.from_numpy(part).to(device) for part in (subset.candidates, subset.labels, subset.mask)
        )
        context = None if self.context is None else self.context.fetch(self.requests, index, device)
        answers, weights = (
            None if part is None else torch.from_numpy(part).to(device)
            for part in (self.requests.answered(index), self.requests.weighted(index))
        )
        return Batch(history, candidates, labels, mask, context, answers, weights)


def score(model: Ranker, loader: Loader, share: tuple[int, int] = (0, 1), fetch: Fetch | None = None) -> Array:
    """Logits of all candidates; (N, C) float32.

    Args:
        model: Put into evaluation mode.
        loader: N requests with at most C candidates.
        share: (k, n): scores every n-th batch from the k-th on, and leaves zeros elsewhere.
        fetch: Told each batch before it is scored; None after the last where another share has one more.
    """
    logits: Array = score_tasks(model, loader, share, fetch)[..., 0]
    return logits


@arithmetic.one_thread()
@torch.inference_mode()
def score_tasks(model: Ranker, loader: Loader, share: tuple[int, int] = (0, 1), fetch: Fetch | None = None) -> Array:
    """The same for the label and each further answer that the model has learned; (N, C, 1 + T) float32."""
    model.eval()
    logits = np.zeros((*loader.requests.candidates.shape, 1 + len(model.tasks)), np.float32)
    first, shares = share
    batches = list(in_order(loader.requests))
    for index in batches[first::shares]:
        batch = loader.batch(index)
        if fetch is not None:
            fetch(batch)
        with loader.runtime.autocast():
            scored = model.answer(model.encode(batch.history), batch.candidates, batch.context)
        logits[index] = scored.float().cpu().numpy()
    if fetch is not None and first >= (len(batches) - 1) % shares + 1:
        fetch(None)
    return logits
