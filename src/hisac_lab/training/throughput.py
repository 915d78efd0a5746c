"""How fast training goes: samples, events and bytes per second."""

from __future__ import annotations

import time
from collections.abc import Iterable

from hisac_lab.base.artifacts import Array
from hisac_lab.events.batches import Requests

EVENT_BYTES = 17  # item and age, int64; mask
CANDIDATE_BYTES = 13  # item, int64; label, float32; mask


class ThroughputMeter:
    """Adds up what was read since it was made.

    Attributes:
        samples: Candidates with a label.
        events: Events of the histories, once per request.
        bytes: Gathered histories and candidates, padding included: what goes to the device.

    Args:
        requests: What the batches are taken from.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests, self.start = requests, time.monotonic()
        self.samples = self.events = self.bytes = 0

    def add(self, batches: Iterable[Array]) -> None:
        """Counts a step.

        Args:
            batches: The rows of each gathering, for all processes.
        """
        for index in batches:
            if not len(index):
                continue
            lengths = self.requests.lengths[index]
            self.samples += int(self.requests.mask[index].sum())
            self.events += int(lengths.sum())
            cells = max(1, int(lengths.max())) * EVENT_BYTES + self.requests.candidates.shape[1] * CANDIDATE_BYTES
            self.bytes += len(index) * cells

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.start, 1e-9)
        samples, events, megabytes = (count / seconds for count in (self.samples, self.events, self.bytes / 1e6))
        return f"{samples:,.0f} samples/s, {events:,.0f} events/s, {megabytes:,.1f} MB/s"
