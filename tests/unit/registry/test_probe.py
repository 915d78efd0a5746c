"""A store that does not answer: seconds, and one line that names it and says what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from kit import says
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from registered import PRODUCT, apart, listing, opened, store_in

from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.registry import probe
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import quiet

LIMIT = 8.0
"""Seconds within which a person is told."""


@contextmanager
def server(status: int, body: str) -> Iterator[str]:
    """A server that answers everything alike; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


@contextmanager
def gone() -> Iterator[str]:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def look(uri: str, writes: bool = True) -> bool:
    """One quick look, in which nothing lasts long."""
    start = time.monotonic()
    try:
        return probe.quick_look(MLflowConfig(tracking_uri=uri, experiment="tests"), writes)
    finally:
        assert time.monotonic() - start < LIMIT


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Path:
    """The file of a store."""
    return Path(shutil.copyfile(empty_store, tmp_path / "mlflow.db"))


def test_a_server_that_is_gone_or_silent_is_told_in_seconds() -> None:
    with (
        gone() as uri,
        says(f"{uri}: does not answer, the connection failed; start the server, or see mlflow.tracking"),
    ):
        look(uri)
    with (
        silent() as uri,
        says(
            f"{uri}: does not answer within 3 seconds; start the server, see mlflow.tracking_uri", "or give it longer"
        ),
    ):
        look(uri)


def test_a_server_has_the_time_that_the_user_gives_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet()
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 30
    with silent() as uri:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        with says(f"{uri}: does not answer within 2 seconds; ", "(MLFLOW_HTTP_REQUEST_TIMEOUT)"):
            look(uri)
        for wrong in ("soon", "0", "-1", "1.5", ""):
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", wrong)
            with says(f"MLFLOW_HTTP_REQUEST_TIMEOUT: is {wrong!r}; give whole seconds, 1 or more"):
                look(uri)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_told_with_where_it_is_given(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame")
    hint = "see user and password (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN)"
    with server(status, "no") as uri, says(f"{uri}: refuses this user (HTTP {status}); {hint}") as told:
        look(uri)
    assert "sesame" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "body"), [(500, "oops"), (503, ""), (404, "<html>"), (200, "<html>log in"), (200, "[]"), (200, "{}")]
)
def test_a_server_that_is_no_mlflow_is_told(status: int, body: str) -> None:
    with server(status, body) as uri, says(f"{uri}: answers with HTTP {status}, not as an MLflow server does; see"):
        look(uri)


def test_a_server_whose_database_is_away_is_told_in_its_own_words() -> None:
    said = json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "connection refused\n\tIs it running?"})
    told = (
        "answers with TEMPORARILY_UNAVAILABLE: connection refused Is it running?; see the server's log and its database"
    )
    with server(503, said) as uri, says(f"{uri}: {told}"):
        look(uri)


def test_a_bucket_that_is_away_is_told_with_what_names_it() -> None:
    error = EndpointConnectionError(endpoint_url="http://127.0.0.1:9/bucket")
    told = (
        'the store of its files: Could not connect to the endpoint URL: "http://127.0.0.1:9/bucket"; see that it works'
    )
    with says(f"postgresql://h/x: {told} (mlflow.artifact_root, AWS_ACCESS_KEY_ID"), probe.told("postgresql://h/x"):
        raise error


@pytest.mark.parametrize(
    ("status", "facts"),
    [(200, {"experiment": {"name": "tests"}}), (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"})],
)
def test_a_server_that_answers_is_left_in_peace(status: int, facts: dict[str, object]) -> None:
    with server(status, json.dumps(facts)) as uri:
        assert look(uri)


def test_a_locked_store_is_told_when_it_is_to_be_written(store: Path) -> None:
    uri = f"sqlite:///{store}"
    with sqlite3.connect(store) as other:
        other.execute("BEGIN IMMEDIATE")
        with says(f"{uri}: database is locked; end what writes to it (a notebook, another command), then run again"):
            look(uri)
        assert look(uri, writes=False)
        other.rollback()
        other.execute("BEGIN EXCLUSIVE")
        with says(f"{uri}: database is locked"):
            look(uri, writes=False)
        other.rollback()
    assert look(uri)


def test_a_look_changes_nothing(store: Path) -> None:
    before = listing(store.parent)
    for writes in (False, True):
        assert look(f"sqlite:///{store}", writes)
    assert not look(f"sqlite:///{store.parent}/nothing.db")
    assert listing(store.parent) == before


@pytest.mark.parametrize("content", [b"no database at all, but a text", b"SQLite format 3\0" + b"x" * 500])
def test_a_damaged_store_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    with says(f"sqlite:///{tmp_path}/mlflow.db: ", "move it away: `hisac-lab sync` rebuilds it from the files"):
        look(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize(
    ("revision", "what", "hint"),
    [
        (
            "451aebb31d03",
            "is of an older MLflow (schema 451aebb31d03, here ",
            "back it up, then run `mlflow db upgrade",
        ),
        ("ffffffffffff", "is of a newer MLflow (schema ffffffffffff, here ", "install that MLflow, or take another"),
    ],
)
def test_a_store_of_another_version_of_mlflow_is_told(store: Path, revision: str, what: str, hint: str) -> None:
    with sqlite3.connect(store) as base:
        base.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    for writes in (False, True):
        with says(f"sqlite:///{store}: {what}", hint):
            look(f"sqlite:///{store}", writes)


def test_a_database_server_that_cannot_be_reached_is_told_without_the_password() -> None:
    with says("postgresql://me:***@127.0.0.1:1/lab: ", "mlflow.tracking_uri in params.yaml") as told:
        look("postgresql://me:sesame@127.0.0.1:1/lab")
    assert "sesame" not in str(told.value)


def test_a_database_server_has_the_time_that_its_address_gives() -> None:
    with silent() as uri, says("timeout expired"):
        start = time.monotonic()
        try:
            look(f"postgresql{uri.removeprefix('http')}/lab?connect_timeout=5")
        finally:
            assert time.monotonic() - start > probe.SECONDS + 1


def test_a_new_store_is_its_owners_alone(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/deep/mlflow.db"
    before = os.umask(0)
    try:
        probe.make_private(uri)
    finally:
        os.umask(before)
    path = tmp_path / "deep/mlflow.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    probe.make_private(uri)  # what is there stays as its owner wants it
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    probe.make_private("http://127.0.0.1:1")
    assert not look(uri)


def test_a_deleted_experiment_is_told_with_what_brings_it_back(empty_store: Path, tmp_path: Path) -> None:
    with opened(empty_store, tmp_path) as registry:
        registry.client.delete_experiment(registry.experiment)
        number = registry.experiment
    uri = store_in(tmp_path).tracking_uri
    hint = f"`mlflow experiments restore --experiment-id {number}` brings it back, or name another"
    with says(f"{uri}: the experiment 'tests' was deleted there; {hint}"), opened(empty_store, tmp_path):
        pass
    MlflowClient(uri).restore_experiment(number)
    with opened(empty_store, tmp_path) as registry:
        assert registry.experiment == number


def test_what_a_store_throws_later_is_one_line_and_other_errors_stay(empty_store: Path, tmp_path: Path) -> None:
    with (
        says(f"sqlite:///{tmp_path}/mlflow.db: Run with id=nothing not found; see that"),
        opened(empty_store, tmp_path) as registry,
    ):
        registry.client.get_run("nothing")
    with says(f"{tmp_path}/mlruns: permission denied"), opened(empty_store, tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "mlruns"))
    with pytest.raises(ZeroDivisionError), opened(empty_store, tmp_path):
        raise ZeroDivisionError


def test_a_store_that_does_not_answer_makes_no_ledger(tmp_path: Path) -> None:
    with gone() as uri, apart(tmp_path), says(f"{uri}: does not answer"):
        config = MLflowConfig(tracking_uri=uri)
        with Registry.open(config, PRODUCT, tmp_path / "reports/ledger.jsonl", tmp_path / ".work"):
            pass
    assert not (tmp_path / "reports").exists()
