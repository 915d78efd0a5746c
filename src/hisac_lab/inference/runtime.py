"""Where a model runs, and how it scores many rows."""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.codebook.votes import Agents
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.events.batches import Rows, in_order
from hisac_lab.events.instances import InstanceStore, InstanceView
from hisac_lab.models.contract import History
from hisac_lab.models.frame import Ranker
from hisac_lab.models.instances import Instances


@dataclass(frozen=True)
class Runtime:
    """A device and a number format.

    Attributes:
        device: Where tensors live.
        mixed: bf16 for matrix products, fp32 for weights.
    """

    device: torch.device
    mixed: bool

    @classmethod
    def start(cls, config: ComputeConfig) -> Runtime:
        """Picks the device, sets the number of threads and asks for deterministic algorithms.

        Portable arithmetic has one thread (see `hisac_lab.base.arithmetic`).

        Of several processes on one machine (`torchrun`), each takes a GPU of its own.

        Raises:
            UserError: A GPU is demanded and there is none, or there are more processes than GPUs.
        """
        torch.set_num_threads(1 if config.arithmetic == "portable" else config.math_threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        gpu = torch.cuda.is_available()
        if config.device == "cuda" and not gpu:
            raise UserError(SETTINGS, "is cuda, but no GPU is seen", "set auto or cpu", "compute.device")
        device = torch.device("cuda" if gpu and config.device != "cpu" else "cpu")
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if device.type == "cuda" and place:
            count = torch.cuda.device_count()
            if place >= count:
                what = f"{place + 1} processes or more, but GPUs seen: {count}"
                raise UserError(
                    "torchrun", what, "start one for each GPU, or set compute.device: cpu", "--nproc-per-node"
                )
            torch.cuda.set_device(place)
        arithmetic.computes_on(device.type)
        wanted = {"auto": device.type == "cuda", "fp32": False, "bf16": True}
        return cls(device, wanted[config.precision])

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bf16 where it is safe, or nothing."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else contextlib.nullcontext()


@dataclass(frozen=True)
class AgentCache:
    """Agents of every row, counted once: what a serving system does offline.

    Attributes:
        nodes: (N, K) int32, -1 in the padding.
        votes: (N, K) int32.
    """

    nodes: Array
    votes: Array

    @classmethod
    def fill(cls, model: Ranker, rows: Rows, runtime: Runtime) -> AgentCache | None:
        """Counts the votes of all rows; None when the model has nothing to count."""
        parts: list[tuple[Array, Agents]] = []
        for index in in_order(rows):
            agents = model.agents(History.of(rows.take(index).histories(), runtime.device))
            if agents is None:
                return None
            parts.append((index, agents))
        width = max(agents.nodes.shape[1] for _, agents in parts)
        nodes = np.full((len(rows), width), -1, np.int32)
        votes = np.zeros((len(rows), width), np.int32)
        for index, agents in parts:
            nodes[index, : agents.nodes.shape[1]] = agents.nodes.cpu().numpy()
            votes[index, : agents.nodes.shape[1]] = agents.votes.cpu().numpy()
        return cls(nodes, votes)

    def take(self, index: Array, device: torch.device) -> Agents:
        """Agents of the rows at `index`, no wider than they need."""
        nodes = self.nodes[index]
        width = max(1, int((nodes >= 0).sum(axis=1).max()))
        parts = (nodes[:, :width], self.votes[index][:, :width])
        return Agents(*(torch.from_numpy(part.astype(np.int64)).to(device) for part in parts))


def fed(model: Ranker, rows: Rows, instances: Path | None) -> Rows:
    """The rows with what the model reads of an instance store; as they are, for a model that reads none.

    Args:
        model: It is about to score or learn these rows.
        rows: Requests.
        instances: Output of the stage `instances`.

    Raises:
        UserError: The model reads instances, and there are none, or not of the kind or width it reads.
    """
    reads = None if model.long is None else model.long.reads
    if reads is None:
        return rows
    if instances is None:
        raise UserError("model iat", "there are no stored instances", "run the stage instances")
    store = InstanceStore.open(instances)
    if reads.row not in store.vectors:
        raise UserError(instances, f"holds no rows {reads.row!r}", "set it to user", "instances.order")
    if reads.dim != store.dim:
        mend = "set instances.dim and the model's dim to the same"
        raise UserError(instances, f"holds vectors of {store.dim} numbers, the model reads {reads.dim}", mend)
    return replace(rows, view=InstanceView(store, reads))


def histories(rows: Rows, index: Array, runtime: Runtime, cache: AgentCache | None = None) -> History:
    """Histories of the rows at `index`, with their cached agents and stored instances."""
    some = rows.take(index)
    history = History.of(some.histories(), runtime.device, some.time)
    past = some.instances()
    if past is not None:
        history = replace(history, instances=Instances.of(past, runtime.device))
    return history if cache is None else replace(history, agents=cache.take(index, runtime.device))


@arithmetic.one_thread()
@torch.inference_mode()
def score_rows(
    model: Ranker, rows: Rows, runtime: Runtime, cache: AgentCache | None = None, share: tuple[int, int] = (0, 1)
) -> Array:
    """Logits of all candidates; (N, C) float32.

    Args:
        model: Put into evaluation mode.
        rows: Requests and candidates.
        runtime: Device and number format.
        cache: Agents counted beforehand.
        share: (k, n): scores every n-th batch from the k-th on, and leaves zeros elsewhere.
    """
    model.eval()
    logits = np.zeros(rows.candidates.shape, np.float32)
    for index in itertools.islice(in_order(rows), share[0], None, share[1]):
        candidates = torch.from_numpy(rows.candidates[index]).to(runtime.device)
        with runtime.autocast():
            scored: Tensor = model(histories(rows, index, runtime, cache), candidates)
        logits[index] = scored.float().cpu().numpy()
    return logits
