"""Servers of a team for a test: MLflow behind a password, on PostgreSQL and S3; each can be killed and started again.

moto's S3 server keeps its objects in memory, so what is killed is the door in front of it, not the store.

    python tests/servers.py door PORT BACKEND    # passes connections on
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests
from postgres import Server, free_port, postgres

BIN = Path(sys.executable).parent
PASSWORD = "a long enough password"
BUCKETS = ("dvc", "mlflow")


@dataclass
class Program:
    """A server that is one process group.

    Attributes:
        command: How it is started.
        port: Where it answers.
        log: What it says.
        environment: Variables beside those of this process.
    """

    command: list[str]
    port: int
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """On the loopback."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=os.environ | self.environment, start_new_session=True
            )
        end = time.monotonic() + 600
        while True:
            try:
                requests.get(f"{self.address}/health", timeout=10)
            except requests.RequestException:
                assert self._process.poll() is None, self.log.read_text()[-4000:]
                assert time.monotonic() < end, self.log.read_text()[-4000:]
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        """Kills all of it, as a crash would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        while self._listens():  # its workers end with it, a moment later
            time.sleep(0.1)

    def _listens(self) -> bool:
        with socket.socket() as door:
            return door.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True)
class Team:
    """What the clones of a team share.

    Attributes:
        database: PostgreSQL, for MLflow and for Optuna.
        bucket: The door of the S3 server.
        tracking: The MLflow server.
        environment: Credentials and addresses of a member.
    """

    database: Server
    bucket: Program
    tracking: Program
    environment: dict[str, str]

    def objects(self, bucket: str, prefix: str) -> int:
        """How many lie there, a thousand at most."""
        listed = _s3(self.bucket.address, self.environment).list_objects_v2(Bucket=bucket, Prefix=prefix)
        return int(listed["KeyCount"])


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """All three run; the test skips, with what is missing, where one cannot."""
    missing = [name for name in ("moto", "boto3", "dvc_s3", "flask_wtf") if not find_spec(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: pip install -c constraints.txt -e '.[test]'")
    with postgres() as database:
        store_port, door_port, tracking_port = free_port(), free_port(), free_port()
        moto = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(store_port)]
        store = Program(moto, store_port, folder / "moto.log")
        door = [sys.executable, __file__, "door", str(door_port), str(store_port)]
        bucket = Program(door, door_port, folder / "door.log")
        keys = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "AWS_DEFAULT_REGION": "us-east-1"}
        keys |= {"MLFLOW_S3_ENDPOINT_URL": bucket.address}
        tracking = _mlflow(folder, tracking_port, database, keys)
        programs = (store, bucket, tracking)
        try:
            for program in (store, bucket):
                program.start()
            for name in BUCKETS:
                _s3(bucket.address, keys).create_bucket(Bucket=name)
            tracking.start()
            member = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
            member["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "120"  # where tests of a whole machine run beside
            yield Team(database, bucket, tracking, keys | member)
        finally:
            for program in programs:
                program.kill()


def _mlflow(folder: Path, port: int, database: Server, keys: dict[str, str]) -> Program:
    """MLflow's server, which alone knows the database and the bucket."""
    settings = folder / "auth.ini"
    uri, users = (database.make(name).replace("postgresql:", "postgresql+psycopg2:") for name in ("mlflow", "users"))
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {users}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\nauth_cache_ttl_seconds = 60\n"
    )
    command = [str(BIN / "mlflow"), "server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", uri, "--artifacts-destination", "s3://mlflow/served", "--workers", "1"]
    environment = keys | {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return Program(command, port, folder / "mlflow.log", environment)


def _s3(address: str, keys: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=keys["AWS_DEFAULT_REGION"],
    )


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _door(port: int, backend: int) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", backend)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    async with await asyncio.start_server(meet, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_door(int(sys.argv[2]), int(sys.argv[3])))
