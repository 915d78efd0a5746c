"""The benchmark of the A/B instrument: lifts read off logged slates are ranked beside the truth."""

from __future__ import annotations

import pytest
from scripts import load

from hisac_lab.abtest.records import Lift


def test_lifts_read_off_logged_slates_are_ordered_as_the_true_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tiny world."""
    script = load("ab_tables", monkeypatch)
    monkeypatch.setattr(script, "RUNS", 1)
    monkeypatch.setattr(script, "DRAWS", 5)
    tables = script.Tables.draw(25)
    found = script.off_policy(tables, 2)
    assert 0.3 < found <= 1


def test_the_page_tells_how_well_off_policy_estimates_order_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    script, models = load("ab", monkeypatch), load("ab_models", monkeypatch)
    judged = {
        name: models.Judged(0.6 + lift, Lift(value=lift, low=lift, high=lift, p_value=0.5), lift)
        for name, lift in (("one", 0.1), ("two", 0.2), ("three", 0.3))
    }
    numbers = {"fitted_rank_correlation": 0.91, "off_policy_rank_correlation": 0.73}
    page = " ".join(script._order(numbers, judged))
    assert "of the control alone, doubly robust, the mean over 20 logs: 0.730." in page
