"""Serving one user: seconds from history to scores, and from a cached state, models in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import torch
from machine import settle
from workload import Workload

from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History, UserState

CELLS = 1 << 16  # candidates times events of one slice, where the state grows with the history
LEAST = 0.004  # seconds that one look at the clock spans at least


@dataclass
class Serving:
    """One model, one user, one slate.

    Attributes:
        model: In evaluation mode.
        history: One history.
        candidates: (1, C) int64.
        state: What `encode` has left of the history.
        slices: Candidates scored at once; C or, where that is quicker, fewer.
        times: CPU seconds by what was done, "cold" or "cached"; wall clock on a GPU.
    """

    model: Ranker
    history: History
    candidates: torch.Tensor
    state: UserState
    slices: int
    times: dict[str, list[float]] = field(default_factory=lambda: {"cold": [], "cached": []})

    @classmethod
    @torch.inference_mode()
    def of(cls, model: Ranker, load: Workload, device: str = "cpu") -> Serving:
        """The first request of a workload; tries whether slices of the slate are quicker than the whole."""
        model, history = model.to(device).eval(), load.history(model, device)
        candidates = torch.from_numpy(load.candidates[:1]).to(device)
        count, length = candidates.shape[1], history.items.shape[1]
        loaded = cls(model, history, candidates, model.encode(history), count)
        part = max(1, CELLS // length)
        if device == "cpu" and part < count and loaded.bytes > 4 * model.backbone.dim * length:
            cost = {
                size: min(_seconds(partial(loaded.score, size), device) for _ in range(2)) for size in (count, part)
            }
            loaded.slices = min(cost, key=lambda size: cost[size])
        return loaded

    @torch.inference_mode()
    def score(self, size: int) -> list[torch.Tensor]:
        """Scores the slate from the cached state, `size` candidates at once."""
        return [self.model.score(self.state, part) for part in self.candidates.split(size, dim=1)]

    @torch.inference_mode()
    def cold_request(self) -> None:
        """From the history to scores."""
        state = self.model.encode(self.history)
        for part in self.candidates.split(self.slices, dim=1):
            self.model.score(state, part)

    def turn(self) -> None:
        """Measures both once."""
        device = self.candidates.device.type
        self.times["cold"].append(_seconds(self.cold_request, device))
        self.times["cached"].append(_seconds(lambda: self.score(self.slices), device))

    @property
    def cold(self) -> float:
        """Median seconds of a request whose history has to be encoded."""
        return median(self.times["cold"])

    @property
    def cached(self) -> float:
        """Median seconds of scoring from the state."""
        return median(self.times["cached"])

    @property
    def bytes(self) -> int:
        """Bytes of the user's state."""
        return self.state.bytes


def take_turns(sides: Sequence[Serving], repeats: int) -> None:
    """Measures all sides, one after the other, again and again; the first turn only warms up."""
    for at in range(repeats + 1):
        for side in sides:
            side.turn()
            if not at:
                side.times = {name: [] for name in side.times}


def _seconds(work: Callable[[], object], device: str) -> float:
    """Seconds of one call, the mean of as many as fill `LEAST`: of CPU, or by the clock on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    calls = 0
    settle(device)
    begin = clock()
    while not calls or clock() - begin < LEAST:
        work()
        settle(device)
        calls += 1
    return (clock() - begin) / calls
