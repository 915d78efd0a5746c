"""What this machine and folder have of what the platform needs, and how to mend what is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from hisac_lab.base import arithmetic
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import counted
from hisac_lab.cli import door
from hisac_lab.cli.paths import GRAPH, LEDGER
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import PARAMS_FILE, load_section
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.mlflow import MLflowConfig

LEAST_DISK_GB, LEAST_MEMORY_GB = 5, 4
PORT = 5000
EXTRAS = ("graph", "mlflow", "report", "serve", "sweep", "text", "trees")
ALL = "pip install -c constraints.txt -e '.[all]'"


class Finding(NamedTuple):
    """What one look found.

    Attributes:
        state: fails: a run would stop; warns: something is slower, missing or other than usual.
        what: What was looked at.
        says: What is there, and the mend.
    """

    state: Literal["ok", "warns", "fails"]
    what: str
    says: str


def examine(as_json: bool) -> bool:
    """Prints every finding; gives whether none fails."""
    findings = [finding for look in LOOKS for finding in look()]
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        width = max(len(finding.what) for finding in findings)
        for state, what, says in findings:
            print(f"{state:<6}{what:<{width + 2}}{says}")
    return all(finding.state != "fails" for finding in findings)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    right = sys.version_info[:2] in ((3, 11), (3, 12))
    yield Finding(
        "ok" if right else "fails", "Python", version if right else f"{version}; make .venv with 3.11 or 3.12"
    )


def _packages() -> Iterator[Finding]:
    """Packages of the whole product: those missing, those of another version."""
    missing, other = dict[str, None](), dict[str, None]()  # ordered; two extras may want one package
    for line in metadata.requires("hisac-lab") or ():
        requirement = Requirement(line)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in EXTRAS)
        if not wanted or requirement.name == "hisac-lab":
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing[requirement.name] = None
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            other[f"{requirement.name} {version} (wants {requirement.specifier})"] = None
    for what, names in (("missing", missing), ("of another version", other)):
        if names:
            yield Finding("warns", "packages", f"{what}: {', '.join(names)}; {ALL}")
    if not missing and not other:
        yield Finding("ok", "packages", "all there")


def _processor() -> Iterator[Finding]:
    reason = arithmetic.unsupported()
    cores = len(os.sched_getaffinity(0))
    says = f"{cores} cores; {reason or 'portable arithmetic: the same bytes as elsewhere'}"
    yield Finding("warns" if reason else "ok", "processor", says)


def _memory() -> Iterator[Finding]:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    enough = size >= LEAST_MEMORY_GB
    yield Finding("ok" if enough else "warns", "memory", f"{size:.1f} GiB" + ("" if enough else "; lower --cores"))


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= LEAST_DISK_GB
    mend = "" if enough else "; free some: `dvc gc --workspace` removes outputs that no commit names"
    yield Finding("ok" if enough else "warns", "disk", f"{free:.0f} GiB free here{mend}")
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("fails", "folder", f"{Path.cwd()} cannot be written; see who owns it")


def _gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("ok", "GPU", "none; training runs on the CPU")
        return
    yield Finding("ok", "GPU", f"{torch.cuda.get_device_name()}; values are near the CPU's, bytes are not")


def _tools() -> Iterator[Finding]:
    for tool in ("git", "dvc", "snakemake"):
        path = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        mend = "install git" if tool == "git" else ALL
        yield Finding("ok", tool, path) if path else Finding("fails", tool, f"not found; {mend}")


def _project() -> Iterator[Finding]:
    """Settings, graph, ledger and store of the project in this folder."""
    if not PARAMS_FILE.is_file():
        yield Finding("warns", "project", f"no {PARAMS_FILE} in {Path.cwd()}; go to the project's folder")
        return
    yield _asked("settings", _settings)
    yield _asked("log", _log)
    yield _asked("DVC", _graph)
    yield _asked("MLflow", _store)


def _settings() -> str:
    door.check()
    return f"{PARAMS_FILE} is right"


def _log() -> str:
    """Whether the own log that the settings name has the columns that they name."""
    from hisac_lab.tables.files import log_files
    from hisac_lab.tables.layouts.own import first_rows

    config, prepare = load_section("acquire", AcquireConfig), load_section("prepare", PrepareConfig)
    if config.dataset != "own":
        return f"{config.dataset}, which has a loader of its own"
    files = [] if config.path is None else log_files(Path(config.path))
    if not all(file.is_file() for file in files) or not files:
        raise UserError(PARAMS_FILE, f"{config.path!r} names no table", "name your log", "acquire.path")
    first_rows(files, Path(config.items_path) if config.items_path else None, prepare)
    return f"{config.path}: the first rows of {counted(len(files), 'file')} read as the settings say"


def _graph() -> str:
    if not GRAPH.is_file():
        raise UserError(GRAPH, "is missing", "restore it with git")
    return "has a cache" if Path(".dvc/cache").exists() else "no cache yet: nothing has run"


def _store() -> str:
    from hisac_lab.registry.ledger import Ledger
    from hisac_lab.registry.probe import address, quick_look

    Ledger(LEDGER).entries()
    config = load_section("mlflow", MLflowConfig)
    there = quick_look(config, writes=False)
    return f"{address(config.tracking_uri)}, {'answers' if there else 'holds nothing yet'}"


def _asked(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", what, ask())
    except UserError as error:
        return Finding("fails", what, str(error.told(PARAMS_FILE)))
    except ModuleNotFoundError as error:
        return Finding("warns", what, f"package {error.name} is missing; {ALL}")


def _port() -> Iterator[Finding]:
    with socket.socket() as asked:
        asked.settimeout(0.5)
        taken = asked.connect_ex(("127.0.0.1", PORT)) == 0
    yield Finding("warns" if taken else "ok", f"port {PORT}", "is taken; hisac-lab ui --port 5001" if taken else "free")


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _packages, _tools, _processor, _memory, _disk, _gpu, _project, _port,
)  # fmt: skip
