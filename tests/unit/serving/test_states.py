"""Stores of users' histories and states: one law for both, in one file and in Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import says

from hisac_lab.serving.states import SQLiteStates, StateStore, UserHistory, open_states


def _events(*pairs: tuple[str, int]) -> UserHistory:
    return UserHistory([item for item, _ in pairs], [time for _, time in pairs], [None for _ in pairs])


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis of its own, on a free port."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("needs redis-server (Debian package redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["sqlite", "redis"])
def states(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        yield open_states(f"sqlite:{tmp_path / 'states.db'}")
        return
    store = open_states(f"{request.getfixturevalue('redis_server')}/0")
    store.base.flushdb()  # type: ignore[attr-defined]
    yield store


def test_events_are_kept_in_order_of_time_and_the_newest_stay(states: StateStore) -> None:
    assert states.history("u") is None
    assert states.append("u", _events(("b", 20), ("a", 10)), 3) == 2
    assert states.append("u", _events(("c", 20), ("d", 5)), 3) == 3
    known = states.history("u")
    assert known is not None
    assert known[0] == _events(("a", 10), ("b", 20), ("c", 20))  # equal times in the order they came


def test_a_state_is_of_one_bundle_and_of_one_history(states: StateStore) -> None:
    states.append("u", _events(("a", 10)), 9)
    _, revision = states.history("u") or (None, 0)
    states.keep("u", "one", revision, b"state")
    assert states.state("u", "one") == b"state"
    assert states.state("u", "other") is None
    assert states.state("v", "one") is None
    states.append("u", _events(("b", 20)), 9)
    assert states.state("u", "one") is None
    states.keep("u", "one", revision, b"late")  # of the history before: never read
    assert states.state("u", "one") is None


def test_states_of_other_bundles_are_dropped_when_asked(states: StateStore) -> None:
    states.fill((user, _events(("a", 10))) for user in "uvw")
    for user in "uvw":
        states.keep(user, "old", 1, b"state")
    states.keep("u", "new", 1, b"state")
    assert states.forget("new") == 3
    assert states.state("u", "new") == b"state"
    assert states.forget("new") == 0


def test_filling_replaces_what_was_there(states: StateStore) -> None:
    states.append("u", _events(("a", 10)), 9)
    states.keep("u", "one", 1, b"state")
    assert states.fill([("u", _events(("b", 5)))]) == 1
    assert (states.history("u") or (None,))[0] == _events(("b", 5))
    assert states.state("u", "one") is None


def test_no_event_is_lost_when_two_processes_append_at_once(states: StateStore, tmp_path: Path) -> None:
    address = getattr(states, "address", f"sqlite:{tmp_path / 'states.db'}")

    def add(writer: int) -> None:
        own = open_states(address)
        for number in range(50):
            own.append("u", _events((f"{writer}-{number}", number)), 1_000)

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = states.history("u")
    assert known is not None
    assert sorted(known[0].items) == sorted(f"{writer}-{number}" for writer in range(4) for number in range(50))


@given(
    st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9), st.sampled_from([None, "yes", 3])), max_size=20),
    st.integers(0, 9),
)
def test_a_packed_history_is_the_same_and_is_cut_at_a_time(rows: list[tuple[str, int, object]], moment: int) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    history = UserHistory([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    assert UserHistory.unpack(history.pack(), "u") == history
    assert history.before(moment).items == [item for item, at, _ in rows if at < moment]


def test_bad_addresses_and_files_are_told_in_a_line(tmp_path: Path) -> None:
    with says("params.yaml", "serve.states", "'mysql:x'", "sqlite:FILE"):
        open_states("mysql:x")
    (tmp_path / "text").write_text("no database at all, but long enough to look at " * 5)
    with says("text", "serve.states", "not a database"):
        SQLiteStates(tmp_path / "text")
    with says("redis://127.0.0.1:1/0", "serve.states"):
        open_states("redis://127.0.0.1:1/0")
    store = SQLiteStates(tmp_path / "states.db")
    store.base.execute("PRAGMA user_version = 9")
    with says("states.db", "serve.states", "another version (9"):
        SQLiteStates(tmp_path / "states.db")
