"""One quick look at a store before MLflow opens it: what does not answer costs seconds and is told in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests
import sqlalchemy
from alembic.script import ScriptDirectory
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_alembic_config
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.config.mlflow import MLflowConfig

SECONDS = 3
"""How long a store may take for the first answer, unless MLflow's own variable or the address says otherwise."""
CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
BUCKETS = ("boto3", "botocore")
BUCKET_SETTINGS = "mlflow.artifact_root, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, MLFLOW_S3_ENDPOINT_URL"
SETTING = "mlflow.tracking_uri in params.yaml"
TIMED_CONNECTIONS = ("postgresql", "mysql")
LOOK = "SELECT version_num FROM alembic_version"


def address(uri: str) -> str:
    """The address of a store as messages name it, without a password."""
    url = _url(uri)
    return uri if url is None or url.password is None else url.render_as_string(hide_password=True)


def database(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other."""
    url = _url(uri)
    if url is None or url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database)).absolute()


def quick_look(config: MLflowConfig, writes: bool) -> bool:
    """Asks a store for one answer.

    Args:
        config: The section `mlflow`.
        writes: Whether it is about to be written.

    Returns:
        Whether it holds anything.

    Raises:
        UserError: It does not answer, refuses, is locked, or is of another version of MLflow.
    """
    uri = config.tracking_uri
    if uri.startswith(("http://", "https://")):
        _ask_server(config)
        return True
    path, url = database(uri), _url(uri)
    if url is None:
        return True
    return _ask_database(url, uri) if path is None else _ask_file(path, uri, writes)


def make_private(uri: str) -> None:
    """Makes the file of an SQLite store that is not there yet, for its owner alone."""
    path = database(uri)
    if path is None or path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise explain_os_error(error, path) from error


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Turns what a store throws into one line.

    Raises:
        UserError: In place of an error of MLflow, of a connection, of a database, of a bucket or of the file system.
    """
    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, sqlite3.Error) as error:
        raise UserError(address(uri), _first_line(error), "see that it works, then `hisac-lab sync`") from error
    except OSError as error:
        raise explain_os_error(error, address(uri)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in BUCKETS:
            raise
        hint = f"see that it works ({BUCKET_SETTINGS}), then `hisac-lab sync`"
        raise UserError(address(uri), f"the store of its files: {_first_line(error)}", hint) from error


def _url(uri: str) -> URL | None:
    try:
        return make_url(uri)
    except ArgumentError:  # a folder, or a scheme of MLflow's own
        return None


def _ask_server(config: MLflowConfig) -> None:
    uri, seconds = config.tracking_uri, _patience()
    asked = {"experiment_name": config.experiment}
    route = "/api/2.0/mlflow/experiments/get-by-name"
    try:
        answer = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            route,
            "GET",
            max_retries=0,
            timeout=seconds,
            raise_on_status=False,
            retry_codes=(),
            params=asked,
        )
    except (MlflowException, requests.RequestException) as error:
        slow = "timed out" in str(error) or "timeout" in str(error).lower()
        if slow:
            hint = f"start the server, see {SETTING}, or give it longer ({MLFLOW_HTTP_REQUEST_TIMEOUT.name})"
            raise UserError(address(uri), f"does not answer within {seconds} seconds", hint) from error
        what, hint = "does not answer, the connection failed", f"start the server, or see {SETTING}"
        raise UserError(address(uri), what, hint) from error
    if answer.status_code in (401, 403):
        what = f"refuses this user (HTTP {answer.status_code})"
        raise UserError(address(uri), what, f"see user and password ({CREDENTIALS})")
    try:
        said = answer.json()
        known = "experiment" in said or said["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    except (ValueError, KeyError, TypeError):
        known, said = False, {}
    if not known and "error_code" in said:  # as when its database is away
        what = f"answers with {said['error_code']}: {' '.join(str(said.get('message')).split())[:200]}"
        raise UserError(address(uri), what, "see the server's log and its database")
    if not known:
        what = f"answers with HTTP {answer.status_code}, not as an MLflow server does"
        raise UserError(address(uri), what, f"see the server's log, or {SETTING}")


def _patience() -> int:
    """Seconds that a server may take for the first answer: those that the user gives each request, if any."""
    name = MLFLOW_HTTP_REQUEST_TIMEOUT.name
    given = os.environ.get(name)
    if given is None:
        return SECONDS
    if not given.isdecimal() or int(given) == 0:
        raise UserError(name, f"is {given!r}", "give whole seconds, 1 or more")
    return int(given)


def _ask_file(path: Path, uri: str, writes: bool) -> bool:
    if not path.exists():
        return False
    try:
        where = f"{path.as_uri()}?mode={'rw' if writes else 'ro'}"
        with closing(sqlite3.connect(where, uri=True, timeout=SECONDS)) as base:
            if writes:
                base.execute("BEGIN IMMEDIATE")
                base.rollback()
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            revision = base.execute(LOOK).fetchone() if "alembic_version" in tables else None
    except sqlite3.DatabaseError as error:
        hint = "see who may read and write it and its folder"
        if "locked" in str(error):
            hint = "end what writes to it (a notebook, another command), then run again"
        elif "not a database" in str(error) or "malformed" in str(error):
            hint = "move it away: `hisac-lab sync` rebuilds it from the files"
        raise UserError(address(uri), _first_line(error), hint) from error
    if revision is not None:
        _check_schema(uri, str(revision[0]))
    return bool(tables)


def _ask_database(url: URL, uri: str) -> bool:
    ours = url.get_backend_name() in TIMED_CONNECTIONS and "connect_timeout" not in url.query
    timed = {"connect_timeout": SECONDS} if ours else {}
    try:
        with sqlalchemy.create_engine(url, connect_args=timed, poolclass=NullPool).connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return False
            revision = connection.execute(sqlalchemy.text(LOOK)).scalar()
    except ImportError as error:
        what = f"needs a driver that is not here ({error})"
        raise UserError(address(uri), what, f"install it, or see {SETTING}") from error
    except SQLAlchemyError as error:
        hint = f"see that it runs, its user and its password, or {SETTING}"
        raise UserError(address(uri), _first_line(getattr(error, "orig", None) or error), hint) from error
    if revision is not None:
        _check_schema(uri, str(revision))
    return True


def _check_schema(uri: str, revision: str) -> None:
    """Compares a database's schema with the one that the MLflow installed here wants."""
    scripts = ScriptDirectory.from_config(_get_alembic_config(""))  # type: ignore[no-untyped-call]
    wanted = scripts.get_heads()
    if revision in wanted:
        return
    if any(script.revision == revision for script in scripts.walk_revisions()):
        hint = f"back it up, then run `mlflow db upgrade {address(uri)}`"
        raise UserError(address(uri), f"is of an older MLflow (schema {revision}, here {wanted[0]})", hint)
    hint = "install that MLflow, or take another store (mlflow.tracking_uri)"
    raise UserError(address(uri), f"is of a newer MLflow (schema {revision}, here {wanted[0]})", hint)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
