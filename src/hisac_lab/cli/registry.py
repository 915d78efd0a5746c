"""User commands around the registry: sync, models, promote, rollback, ui."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.cli import execution
from hisac_lab.cli.paths import ARTIFACTS, FIGURES, LEDGER, REPORTS, TIMINGS, WORK
from hisac_lab.config.base import PARAMS_FILE, load_section
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.probe import address, quick_look
from hisac_lab.registry.store import Registry

if TYPE_CHECKING:
    from hisac_lab.cli.params import Params

RUNS = "#/experiments/{}/runs?workflowType=machine_learning&orderByKey=attributes.start_time&orderByAsc=true"
"""Page of the table of runs: MLflow else shows that of chats, and the last stage first."""
ATTACHED = [PARAMS_FILE, REPORTS / "report.html", REPORTS / "report.md"]


def load_params() -> Params:
    """All settings: with them come the models and torch, which a look at versions does not wait for."""
    from hisac_lab.cli import params

    return params.load_params()


def mirror_or_say(params: Params) -> str:
    """Brings MLflow up to date; a store that does not answer costs a line, not the stage.

    Returns:
        Identifier of the experiment; empty: the store does not answer.
    """
    try:
        with _open(params) as registry:
            _mirror(registry, params)
            return registry.experiment
    except Exception as error:  # noqa: BLE001 - whatever a foreign store throws
        what = f"{error}" if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        say(f"MLflow at {address(params.mlflow.tracking_uri)} was not updated ({' '.join(what.split())})")
        say("the files are whole; `hisac-lab sync` tries again")
        return ""


def sync() -> None:
    """Mirrors the present outputs."""
    from hisac_lab.cli import champion  # brings torch

    with _synced(load_params()) as (registry, top, new):
        champion.restore(registry)
        print(f"MLflow run {top}: {'mirrored' if new else 'was there already'}")


COLUMNS = {
    "AUC": "auc",
    "from": "auc_low",
    "to": "auc_high",
    "A/B test": "verdict",
    "lift from": "lift_low",
    "lift to": "lift_high",
    "calibration": "calibration_error",
    "request MACs": "request_macs",
    "state bytes": "state_bytes",
    "protocol": "fingerprint",
}
"""Columns of `hisac-lab models` and the tags they show."""
FIRST = ("AUC", "from", "to", "A/B test")
"""Those that a narrow terminal has room for."""
NARROW = 120


def models(as_json: bool = False) -> None:
    """Prints the product's versions, with what the terminal has room for, or as JSON with all tags; writes nothing."""
    product = load_section("promotion", PromotionConfig).product
    with Registry.look(load_section("mlflow", MLflowConfig), product, LEDGER) as promoter:
        listed, moved = promoter.list(), promoter.moved()
    if not listed:
        what = f"{product} has no version of this project yet"
        raise UserError("registry", what, "run the graph, or `hisac-lab sync`")
    if moved:
        say(f"{moved}: `hisac-lab sync` puts it back")
    if as_json:
        facts = [{"version": one.version, "model": one.model, "aliases": [*one.aliases], **one.tags} for one in listed]
        print(json.dumps(facts, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    columns = {name: COLUMNS[name] for name in (FIRST if console.width < NARROW else COLUMNS)}
    table = Table("version", "model", "alias", *columns)
    for version in listed:
        told = [version.tags.get(key, "") for key in columns.values()]
        table.add_row(version.version, version.model, ", ".join(version.aliases), *told)
    console.print(table)


def promote(model: str | None, version: str | None, *, force: bool = False, reason: str | None = None) -> None:
    """Promotes or says why not; a refusal exits with 1."""
    from hisac_lab.cli import champion  # brings torch

    params = load_params()
    if force != bool(reason and reason.strip()):
        raise UserError("promote", "--force and --reason belong together", 'write --force --reason "WHY"')
    with _synced(params) as (registry, top, _new):
        done = registry.promoter.promote(model, version, params.promotion, reason)
        registry.judge(ARTIFACTS, top, params.promotion)
        seated = champion.seat(registry) if done.promoted else ""
    for gate in done.gates:
        print(f"  {'ok  ' if gate.holds else 'FAIL'} {gate.name}: {gate.says}")
    name, product = f"{done.model} version {done.version}", params.promotion.product
    if not done.promoted:
        raise UserError(
            name,
            f"not promoted, {len(done.failed)} of {len(done.gates)} gates failed ({', '.join(done.failed)})",
            "fix the model, or the gates in params.yaml: promotion",
        )
    if done.failed:
        print(f"forced past {', '.join(done.failed)}; the ledger keeps the reason")
    print(f"{name} is champion: load it with models:/{product}@champion")
    print(seated)


def rollback() -> None:
    """Restores the previous champion."""
    from hisac_lab.cli import champion  # brings torch

    params = load_params()
    with _synced(params) as (registry, top, _new):
        was, now = registry.promoter.rollback()
        registry.judge(ARTIFACTS, top, params.promotion)
        seated = champion.seat(registry)
    print(
        f"{params.promotion.product}: champion was version {was}, "
        + (f"is version {now} again" if now else "now there is none, as before")
    )
    print(seated)


def ui(port: int) -> None:
    """Replaces this process by MLflow's server, on this machine only; says where its first page is."""
    params = load_params()
    uri = params.mlflow.tracking_uri
    quick_look(params.mlflow, writes=True)
    if uri.startswith(("http://", "https://")):
        experiment = mirror_or_say(params)
        page = f"/{RUNS.format(experiment)}" if experiment else ""
        print(f"open {address(uri).rstrip('/')}{page}, the server that params.yaml names (mlflow.tracking_uri)")
        return
    check_port(port)
    experiment = mirror_or_say(params)
    page = RUNS.format(experiment) if experiment else ""
    print(f"open http://127.0.0.1:{port}/{page} (stop with Ctrl-C)", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # five sixths of its memory, for nothing used here
    mlflow = str(Path(sys.executable).parent / "mlflow")
    server = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(mlflow, [mlflow, *server])


def check_port(port: int) -> None:
    """Refuses a port that this machine cannot listen at.

    Raises:
        UserError: It is taken, or no port.
    """
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just left is free
        try:
            door.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            what = f"cannot be listened at ({getattr(error, 'strerror', None) or error})"
            raise UserError(f"127.0.0.1:{port}", what, "name a free port with --port") from error


@contextmanager
def _open(params: Params) -> Iterator[Registry]:
    with Registry.open(params.mlflow, params.promotion.product, LEDGER, WORK) as registry:
        yield registry


@contextmanager
def _synced(params: Params) -> Iterator[tuple[Registry, str, bool]]:
    with _open(params) as registry:
        top, new = _mirror(registry, params)
        yield registry, top, new


def _mirror(registry: Registry, params: Params) -> tuple[str, bool]:
    top, new = registry.mirror(ARTIFACTS, execution.lineage(params), TIMINGS)
    registry.attach(top, ATTACHED, sorted(FIGURES.glob("*.svg")))
    registry.judge(ARTIFACTS, top, params.promotion)
    return top, new
