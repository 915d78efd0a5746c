"""Progress in a log: plain lines, not too many."""

from __future__ import annotations

import io
import itertools
import time

import pytest

from hisac_lab.base import progress


def test_items_pass_through_and_the_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(iter("abc"), 3, "spell", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "spell: 3 letters done\n"


def test_a_long_step_says_how_far_how_fast_and_how_long_still(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 4)  # each look at the clock is four seconds later
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    list(progress.track(range(6), 1006, "count", "sheep", done=1000))
    assert capsys.readouterr().err.splitlines() == [
        "count: 1,003 of 1,006 sheep, 0.2 sheep/s, 12 s left",
        "count: 1,006 sheep done",
    ]


def test_a_note_stands_in_every_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock, notes = itertools.count(0, 4), itertools.count(1)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    list(progress.track(range(6), 6, "count", "sheep", note=lambda: f"wool {next(notes)}"))
    assert capsys.readouterr().err.splitlines() == [
        "count: 3 of 6 sheep, 0.2 sheep/s, 12 s left, wool 1",
        "count: 6 sheep done, wool 2",
    ]


def test_nothing_is_noted_of_what_was_done_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track([], 6, "count", "sheep", done=6, note=lambda: "wool")) == []
    assert capsys.readouterr().err == "count: 6 sheep done\n"


def test_a_terminal_shows_the_note_beside_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", screen)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "200")):
        monkeypatch.setenv(name, value)
    assert list(progress.track(range(3), 3, "count", "sheep", note=lambda: "much wool")) == [0, 1, 2]
    assert "3/3" in screen.getvalue()
    assert "much wool" in screen.getvalue()
