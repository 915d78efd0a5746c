"""User commands around the registry: sync, promote, rollback, ui."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import MANIFEST, sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.cli import execution, paths, running
from hisac_lab.cli.paths import ARTIFACTS, FIGURES, LEDGER, REPORTS, TIMINGS, WORK
from hisac_lab.config.base import PARAMS_FILE
from hisac_lab.evaluation.records import Evaluated
from hisac_lab.events.store import EventStore
from hisac_lab.registry.gates import Gate
from hisac_lab.registry.probe import address, quick_look
from hisac_lab.registry.promotion import Replay
from hisac_lab.registry.records import Evidence, Registered
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import CHALLENGER, CHAMPION, MODEL

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
        Identifier of the experiment; empty: the store does not answer, or nothing is made yet.
    """
    if not (ARTIFACTS.register / MANIFEST).is_file():
        say("MLflow has nothing to show of this project yet: run the graph (snakemake --cores all)")
        return ""
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


def promote(model: str | None, version: str | None, *, force: bool = False, reason: str | None = None) -> None:
    """Promotes or says why not; a refusal exits with 1."""
    from hisac_lab.cli import champion  # brings torch

    params = load_params()
    if force != bool(reason and reason.strip()):
        raise UserError("promote", "--force and --reason belong together", 'write --force --reason "WHY"')
    replay = _replay(params) if params.promotion.replay_requests else None
    with _alone(), _synced(params) as (registry, top, _new):
        done = registry.promoter.promote(model, version, params.promotion, reason, replay)
        registry.judge(ARTIFACTS, top, params.promotion)
        seated = champion.seat(registry) if done.promoted else ""
    if model is None and version is None:
        why = "of all that are not champion it has the best AUC in the validation period"
        print(f"{done.model} version {done.version} is the challenger: {why}")
    for gate in done.gates:
        print(f"  {'ok  ' if gate.holds else 'FAIL'} {gate.name}: {gate.says}")
    name, product = f"{done.model} version {done.version}", params.promotion.product
    if not done.promoted:
        raise UserError(
            name,
            f"not promoted, {len(done.failed)} of {len(done.gates)} gates failed ({', '.join(done.failed)})",
            "fix the model, or the gates in params.yaml: promotion",
        )
    if done.ahead:
        better = ", ".join(f"{other} by {gap:.4f}" for other, gap in done.ahead.items())
        print(f"on its board these are ahead of it in AUC by the whole interval: {better}")
    if done.failed:
        print(f"forced past {', '.join(done.failed)}; the ledger keeps the reason")
    print(f"{name} is champion: load it with models:/{product}@champion")
    print(seated)


def _replay(params: Params) -> Replay:
    """The gate that serves a candidate and asks it requests of the prepared log."""
    from hisac_lab.serving.skew import replay

    def ask(bundle: Path, evidence: Evidence) -> Gate:
        try:
            present = Evaluated.open(ARTIFACTS.evaluate).fingerprint
            if evidence.fingerprint != present:
                what = f"the evaluation here is {present}, its own {evidence.fingerprint}"
                raise UserError("replay", what, "check out its commit, or set promotion.replay_requests to 0")
            arithmetic.choose(params.compute.arithmetic, params.compute.math_threads)
            store, count = EventStore.open(ARTIFACTS.prepare), params.promotion.replay_requests
            return replay(bundle, store, count, ARTIFACTS.instances).gate(params.promotion)
        except UserError as error:
            return Gate("max_skew", False, f"{error}")

    return ask


def proposed() -> str:
    """Brings MLflow up to date; who challenges the champion, in a line."""
    params = load_params()
    with _synced(params) as (registry, _, _new):
        champion, challenger = (registry.versions.alias(alias) for alias in (CHAMPION, CHALLENGER))
    present = "no champion" if champion is None else f"{champion.tags[MODEL]} version {champion.version}"
    if challenger is None:
        return f"champion: {present}; nothing challenges it"
    name = f"{challenger.tags[MODEL]} version {challenger.version}"
    return f"champion: {present}; challenger: {name}, AUC {challenger.tags['auc']}: `hisac-lab promote` asks the gates"


def register_from(alias: str, made: Callable[[Path], Path]) -> tuple[str, str, str]:
    """Registers a bundle that is made of an alias's version, under the training run of that one; no alias moves.

    Args:
        alias: As `champion`.
        made: Makes the bundle of the earlier one's folder.

    Returns:
        The product, the earlier version and the new one.

    Raises:
        UserError: No version has the alias, or it is damaged.
    """
    params = load_params()
    product = params.promotion.product
    with _synced(params) as (registry, _, _new):
        earlier = registry.versions.alias(alias)
        if earlier is None:
            raise UserError(product, f"has no {alias}", "`hisac-lab promote` makes one, or name another with --alias")
        bundle = made(registry.versions.bundle(earlier))
        version = registry.versions.register(bundle, sha256_tree(bundle), str(earlier.run_id))
    return product, str(earlier.version), version


def rollback() -> None:
    """Restores the previous champion."""
    from hisac_lab.cli import champion  # brings torch

    params = load_params()
    with _alone(), _synced(params) as (registry, top, _new):
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


def _alone() -> IO[str]:
    """While a graph runs, outputs are of two runs, and a champion that takes its seat would change the graph."""
    return running.hold(", so no champion moves", "wait for it or stop it")


@contextmanager
def _open(params: Params) -> Iterator[Registry]:
    Registered.open(ARTIFACTS.register)  # nothing is begun, no ledger and no store, before there is something to keep
    with Registry.open(params.mlflow, params.promotion.product, LEDGER, WORK) as registry:
        yield registry


@contextmanager
def _synced(params: Params) -> Iterator[tuple[Registry, str, bool]]:
    with _open(params) as registry:
        top, new = _mirror(registry, params)
        yield registry, top, new


def _mirror(registry: Registry, params: Params) -> tuple[str, bool]:
    top, new = registry.mirror(ARTIFACTS, execution.lineage(params), TIMINGS, paths.CHAMPION)
    registry.attach(top, ATTACHED, sorted(FIGURES.glob("*.svg")))
    registry.judge(ARTIFACTS, top, params.promotion)
    return top, new
