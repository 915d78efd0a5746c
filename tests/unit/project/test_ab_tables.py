"""The benchmark of the A/B instrument: lifts read off logged slates are ranked beside the truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scripts import load


def test_lifts_read_off_logged_slates_are_ordered_as_the_true_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny world; where the chances of the log are wrong, the order is lost."""
    script = load("ab_tables", monkeypatch)
    monkeypatch.setattr(script, "RUNS", 1)
    monkeypatch.setattr(script, "DRAWS", 5)
    tables = script.Tables.draw(25)
    found = script.off_policy(tables, 2)
    assert 0.3 < found <= 1
    turned = dataclasses.replace(tables, chances=1 - tables.chances)
    assert np.isfinite(script.off_policy(turned, 1))
