"""The command `serve`: checks all that a server needs, then becomes one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.cli.params import Params, load_params
from hisac_lab.cli.paths import WORK
from hisac_lab.cli.registry import check_port
from hisac_lab.registry.aliased import Aliased
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.meters import SHARED
from hisac_lab.serving.service import Service
from hisac_lab.serving.source import Alias, Folder, Source
from hisac_lab.serving.states import open_states

BUNDLE, PORT = "HISAC_LAB_SERVE_BUNDLE", "HISAC_LAB_SERVE_PORT"
"""Environment variables: what the command line asked for, for the processes that it starts."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(bundle: Path | None, port: int | None) -> None:
    """Serves until it is told to stop.

    Args:
        bundle: A folder with a bundle; None: the version that `serve.alias` names.
        port: In place of `serve.port`.
    """
    config = load_params().serve
    where = config.port if port is None else port
    if config.host not in LOOPBACK and not os.environ.get(config.token_variable):
        hint = f"set {config.token_variable}, or listen at 127.0.0.1"
        raise UserError("params.yaml", f"{config.host!r} is open to others, and no token is asked", hint, "serve.host")
    check_port(where)
    if bundle is not None:
        os.environ[BUNDLE] = str(bundle.absolute())
    os.environ[PORT] = str(where)
    WORK.mkdir(exist_ok=True)
    shared = tempfile.mkdtemp(prefix="metrics-", dir=WORK)
    os.environ[SHARED] = str(Path(shared).resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it anew when all requests are answered
    try:
        uvicorn.run(
            "hisac_lab.cli.serve:app",
            factory=True,
            host=config.host,
            port=where,
            workers=config.workers,
            log_level="warning",
            timeout_graceful_shutdown=10,
            timeout_keep_alive=75,  # longer than a balancer keeps an idle connection
        )
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def app() -> FastAPI:
    """The application of one process."""
    from hisac_lab.serving.app import make_app

    params = load_params()
    arithmetic.choose(params.compute.arithmetic, params.compute.math_threads)
    source = _source(params)
    engine = _first(source)
    service = Service(engine, open_states(params.serve.states), params.serve.refresh_seconds, params.serve.max_history)
    address = f"http://{params.serve.host}:{os.environ.get(PORT, params.serve.port)}"
    print(f"version {engine.version} is loaded for {address}: POST /score, GET /schema", flush=True)
    return make_app(params.serve, service, source)


def first_engine(params: Params) -> Engine:
    """The version that the server would begin with.

    Raises:
        UserError: There is none.
    """
    return _first(_source(params))


def _first(source: Source) -> Engine:
    engine = source.newer(None)
    assert engine is not None, "a source has a first version"
    return engine


def _source(params: Params) -> Source:
    if bundle := os.environ.get(BUNDLE):
        return Folder(Path(bundle))
    return Alias(Aliased(params.mlflow.tracking_uri, params.promotion.product, params.serve.alias))
