"""Where a model runs, and how it scores many rows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.votes import Agents
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.events.batches import Rows, in_order
from hisac_lab.models.contract import History
from hisac_lab.models.frame import Ranker


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

        Raises:
            UserError: A GPU is demanded and there is none.
        """
        torch.set_num_threads(config.math_threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        gpu = torch.cuda.is_available()
        if config.device == "cuda" and not gpu:
            raise UserError("params.yaml", "is cuda, but no GPU is seen", "set auto or cpu", "compute.device")
        device = torch.device("cuda" if gpu and config.device != "cpu" else "cpu")
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


def histories(rows: Rows, index: Array, runtime: Runtime, cache: AgentCache | None = None) -> History:
    """Histories of the rows at `index`, with their cached agents."""
    history = History.of(rows.take(index).histories(), runtime.device, rows.time[index])
    return history if cache is None else replace(history, agents=cache.take(index, runtime.device))


@torch.inference_mode()
def score_rows(model: Ranker, rows: Rows, runtime: Runtime, cache: AgentCache | None = None) -> Array:
    """Logits of all candidates; (N, C) float32."""
    model.eval()
    logits = np.zeros(rows.candidates.shape, np.float32)
    for index in in_order(rows):
        candidates = torch.from_numpy(rows.candidates[index]).to(runtime.device)
        with runtime.autocast():
            scored: Tensor = model(histories(rows, index, runtime, cache), candidates)
        logits[index] = scored.float().cpu().numpy()
    return logits
