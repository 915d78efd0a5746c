"""Cost of serving: bytes of user state and multiply-adds, counted; seconds, measured.

Counts are the same on every machine and go into outputs; seconds are not and go to logs and MLflow.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hisac_lab.evaluation.records import Seconds, ServingCost
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History

SAMPLE = 32
CANDIDATES = 100


@torch.inference_mode()
def count(model: Ranker, loader: Loader) -> ServingCost:
    """Counts over a fixed, even sample of requests, each alone in its batch."""
    model.eval()
    state_bytes, encode, candidate = [], [], []
    agents: list[float] = []
    votes_kept: list[float] = []
    candidates = torch.zeros(1, CANDIDATES, dtype=torch.int64, device=loader.runtime.device)
    for index in np.unique(np.linspace(0, len(loader) - 1, SAMPLE).astype(int)):
        history = loader.batch(np.array([index])).history
        with FlopCounterMode(display=False) as counter:
            state = model.encode(history)
        encode.append(counter.get_total_flops() / 2)
        with FlopCounterMode(display=False) as counter:
            model.answer(state, candidates, model.no_context(candidates))
        candidate.append((counter.get_total_flops() / 2 - model.table_macs(CANDIDATES)) / CANDIDATES)
        state_bytes.append(state.bytes)
        counted = model.agents(history)
        if counted is not None and counted.coverage is not None:
            agents.append(float((counted.nodes >= 0).sum()))
            votes_kept.append(float(counted.coverage))
    held = (
        {"agents": round(float(np.mean(agents)), 1), "votes_kept": round(float(np.mean(votes_kept)), 4)}
        if agents
        else {}
    )
    return ServingCost(
        state_bytes=round(float(np.mean(state_bytes)), 1),
        encode_macs=round(float(np.mean(encode)), 1),
        candidate_macs=round(float(np.mean(candidate)), 1),
        **held,
    )


@torch.inference_mode()
def request_macs(model: Ranker, history: History, candidates: Tensor) -> float:
    """Multiply-adds of all matrix products from R histories to the logits of (R, C) candidates, counted."""
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model.answer(model.encode(history), candidates, model.no_context(candidates))
    return float(counter.get_total_flops() / 2)


@torch.inference_mode()
def measure_time(model: Ranker, loader: Loader, repeats: int = 5) -> Seconds:
    """Seconds on this machine: one user's request with 100 candidates, state cold and cached; medians."""
    model.eval()
    candidates = torch.arange(CANDIDATES, device=loader.runtime.device)[None] % model.catalog
    context = model.no_context(candidates)
    encode, score = [], []
    for index in np.unique(np.linspace(0, len(loader) - 1, SAMPLE).astype(int)):
        history = loader.batch(np.array([index])).history
        for _ in range(repeats):
            begin = _now(loader.runtime)
            state = model.encode(history)
            middle = _now(loader.runtime)
            model.answer(state, candidates, context)
            encode.append(middle - begin)
            score.append(_now(loader.runtime) - middle)
    return Seconds(
        device=str(loader.runtime.device),
        encode_us_per_request=round(float(np.median(encode)) * 1e6, 1),
        score_us_per_candidate=round(float(np.median(score)) * 1e6 / CANDIDATES, 3),
    )


def _now(runtime: Runtime) -> float:
    """The clock, after a GPU has done what was asked of it."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
    return time.perf_counter()
