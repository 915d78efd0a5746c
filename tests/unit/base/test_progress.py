"""Progress in a log: plain lines, not too many."""

from __future__ import annotations

import itertools

import pytest

from hisac_lab.base import progress


def test_items_pass_through_and_the_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(iter("abc"), 3, "spell", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "spell: 3 letters done\n"


def test_a_long_step_says_how_far_how_fast_and_how_long_still(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 4)  # each look at the clock is four seconds later
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.track(range(6), 1006, "count", "sheep", done=1000))
    assert capsys.readouterr().err.splitlines() == [
        "count: 1,003 of 1,006 sheep, 0.2 sheep/s, 12 s left",
        "count: 1,006 sheep done",
    ]
