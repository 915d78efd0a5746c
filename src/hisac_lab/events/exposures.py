"""Logged exposures: the samples, and with `prepare.exposures: all` also those that no model is trained or tested on.

They are what a store of instances holds, one instance for each (docs/papers/iat.md#instances).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.events.store import REST, EventStore, sample_array


@dataclass(frozen=True)
class Exposures:
    """Exposures of one period, user by user in time order, those of a request together.

    Attributes:
        samples: (N,) of `SAMPLE`.
        logged: What the log says of each, a column for each of the manifest's `logged`; (N, G) float32.
    """

    samples: Array
    logged: Array

    @classmethod
    def of(cls, store: EventStore, split: str) -> Exposures:
        """All that the store has of a period."""
        parts = [split, f"{REST}_{split}"] if store.manifest.exposures else [split]
        samples = np.concatenate([load_array(store.path, sample_array(part)) for part in parts])
        logged = np.concatenate([store.logged(part) for part in parts])
        order = np.argsort(samples["request"], kind="stable")
        return cls(samples[order], logged[order])

    def __len__(self) -> int:
        return len(self.samples)
