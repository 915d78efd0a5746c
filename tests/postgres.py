"""A real PostgreSQL server of its own for a test, on this machine's loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

HOMES = [None, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
"""Where its programs may be; Debian keeps them out of PATH."""
OWNER = "postgres"
"""Whom the server runs as where a test is root, whom it refuses."""


def _program(name: str) -> str | None:
    found = (shutil.which(name) if home is None else shutil.which(name, path=str(home)) for home in HOMES)
    return next((path for path in found if path), None)


@dataclass(frozen=True)
class Server:
    """A server and its folder.

    Attributes:
        folder: Holds its data.
        port: On the loopback.
    """

    folder: Path
    port: int

    @property
    def address(self) -> str:
        """Of the database that is there from the start."""
        return f"postgresql://lab@127.0.0.1:{self.port}/postgres"

    def make(self, name: str) -> str:
        """Makes a database; gives its address."""
        import psycopg2

        line = psycopg2.connect(self.address)
        line.autocommit = True
        with line.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        line.close()
        return self.address.replace("/postgres", f"/{name}")

    def start(self) -> None:
        """Returns when it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Ends all connections and then itself."""
        self._control("stop", "-m", "fast")

    def _control(self, *command: str) -> None:
        done = _run("pg_ctl", "-w", "-D", str(self.folder / "data"), *command)
        assert done.returncode == 0, done.stdout


@contextmanager
def postgres() -> Iterator[Server]:
    """A server that runs; the test skips where there is none to start."""
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if not _program(name)]
    missing += [] if find_spec("psycopg2") else ["psycopg2"]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: Debian's postgresql, and the extra postgres")
    folder = Path(tempfile.mkdtemp(prefix="hisac-lab-postgres-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, OWNER)
        made = _run("initdb", "-A", "trust", "-U", "lab", "--no-sync", "-D", str(folder / "data"))
        assert made.returncode == 0, made.stdout
        server = Server(folder, free_port())
        server.start()
        try:
            yield server
        finally:
            if (folder / "data/postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs one of its programs; what a server it starts says goes to the server's log."""
    as_owner = ["setpriv", "--reuid", OWNER, "--regid", OWNER, "--clear-groups"] if os.getuid() == 0 else []
    with tempfile.TemporaryFile("w+") as said:
        command = [*as_owner, str(_program(name)), *options]
        done = subprocess.run(command, cwd="/", stdout=said, stderr=said, check=False)
        said.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, said.read())
