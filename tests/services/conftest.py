"""One finished tiny project per session, for clusters and clones to be compared with."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from disturbed import prepare
from lab import Lab, nothing_left

LIMIT = 18 * 60
"""Seconds of a session, or of one worker of it. What is at work then fails and stops its servers; the Makefile's
`timeout`, a little later, would leave them running."""
END = time.monotonic() + LIMIT


@contextmanager
def limited() -> Iterator[None]:
    """A test, or what it needs, ends with an error when the session's time is up."""

    def over(*_: object) -> None:
        pytest.fail(f"the {LIMIT} seconds of a session are over")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(END - time.monotonic(), 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Fixtures of a session begin here."""
    with limited():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Teardown is not limited: it stops what runs."""
    with limited():
        return (yield)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Nothing of it has run."""
    return prepare(tmp_path_factory.mktemp("project") / "begun")


@pytest.fixture(scope="session")
def finished(begun: Lab) -> Lab:
    """Run by Snakemake on two cores of this machine, and committed."""
    lab = begun.copy(begun.path.with_name("finished"))
    lab.snakemake("--cores", "2")
    lab.commit("first run")
    return lab
