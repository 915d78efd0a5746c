"""The throughput line: what it counts is what was read."""

from __future__ import annotations

import time

import numpy as np
import pytest
from kit import CPU

from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader
from hisac_lab.training.throughput import ThroughputMeter


def test_samples_events_and_bytes_are_those_of_the_gathered_arrays(rows: dict[str, Requests]) -> None:
    train, counter = rows["train"], ThroughputMeter(rows["train"])
    parts = [np.arange(7), np.arange(20, 23), np.arange(0)]
    counter.add(parts)
    samples = events = size = 0
    for index in parts[:2]:
        batch = Loader(train, CPU).batch(index)
        history = batch.history
        samples += int(batch.mask.sum())
        events += int(history.mask.sum())
        size += sum(part.nbytes for part in (history.items, history.ages, history.mask))
        size += sum(part.nbytes for part in (batch.candidates, batch.labels, batch.mask))
    assert (counter.samples, counter.events, counter.bytes) == (samples, events, size)


def test_the_line_has_rates_since_the_start(rows: dict[str, Requests], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    counter = ThroughputMeter(rows["train"])
    counter.samples, counter.events, counter.bytes = 8_000, 4_000_000, 10_000_000
    assert str(counter) == "2,000 samples/s, 1,000,000 events/s, 2.5 MB/s"
