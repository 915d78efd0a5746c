"""What models read of one user for a few candidates: an example for people, no metric."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from hisac_lab.base.artifacts import Array
from hisac_lab.evaluation.records import AgentRead, CandidateRead, Readings
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.explain import DIGITS, explain
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.runtime import Runtime

CANDIDATES = 6
AGENTS = 3
"""Agents of each candidate that are told."""


@torch.inference_mode()
def read(store: EventStore, samples: Array, runs: Mapping[str, Path], instances: Path | None) -> Readings:
    """Asks models about one user's first items of the test period, at the time of the first.

    Args:
        store: The event store.
        samples: Its test samples.
        runs: Of each model, the training run that answers.
        instances: Output of the stage `instances`, for models that read it.

    Raises:
        UserError: A run is missing or damaged.
    """
    asked = _example(store, samples)
    requests = Requests.of(store, asked, len(asked))
    found = {name: _read(run, requests, instances) for name, run in runs.items()}
    return Readings(
        user=int(asked["user"][0]),
        time=int(asked["time"][0]),
        begin=int(requests.start[0]),
        end=int(requests.end[0]),
        items=asked["item"].tolist(),
        positive=(asked["label"] > 0).tolist(),
        models={name: candidates for name, candidates in found.items() if candidates is not None},
    )


def _example(store: EventStore, samples: Array) -> Array:
    """One request of up to CANDIDATES items: the first of the user whose history is the longest at its time."""
    first = np.flatnonzero(np.diff(samples["user"], prepend=-1))
    begin, end = store.bounds(samples[first])
    head = first[(end - begin).argmax()]
    theirs = samples[samples["user"] == samples["user"][head]]
    _, places = np.unique(theirs["item"], return_index=True)
    asked: Array = theirs[np.sort(places)[:CANDIDATES]].copy()
    for column in ("time", "end", "request"):
        asked[column] = samples[column][head]
    return asked


def _read(run: Path, requests: Requests, instances: Path | None) -> list[CandidateRead] | None:
    """What one run answers and read for the candidates of one request; None: its model keeps nothing to tell of."""
    model, _ = load_model(run, instances=instances)
    loader = Loader.of(model, requests, Runtime(torch.device("cpu"), mixed=False), instances).counted(model)
    batch = loader.batch(np.arange(1))
    state = model.encode(batch.history)
    told = explain(model, batch.history, state, batch.candidates, range(requests.store.manifest.items), AGENTS)
    if "candidates" not in told:
        return None
    chances = torch.sigmoid(model.score(state, batch.candidates, batch.context))[0].double().numpy().round(DIGITS)
    paths = {one["agent"]: one["path"] for one in told.get("agents", ()) if "path" in one}  # leaves of the codebook
    return [
        CandidateRead(
            probability=chance,
            agents=[
                AgentRead(path=paths[one["agent"]], weight=one["weight"])
                for one in found.get("agents", ())
                if one["agent"] in paths
            ],
            votes={name: (pair["votes"], pair["days"]) for name, pair in found.get("votes", {}).items()},
        )
        for chance, found in zip(chances.tolist(), told["candidates"], strict=True)
    ]
