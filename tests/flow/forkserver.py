"""A Python that has loaded the libraries already: commands of the flow tests fork from it.

A stage that needs torch computes for three seconds before it works, `dvc` and `snakemake` for one each, and the flow
tests start some five hundred of them. `Forkserver` makes a folder with a `python` and the console scripts that the
tests use. Each is forkclient.py, which sends its words, folder, environment and open files to the server and ends as
the forked process ends. The server has loaded what src and workflow import from others, never hisac_lab itself: that
comes after the fork, from the lab's own copy. Where a difference between a fork and a fresh process could matter
(kills, other processors), tests start real processes.

    python forkserver.py SOCKET MODULE...
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SCRIPTS = ("dvc", "hisac-lab", "snakemake")
ENGINES = (
    *("dvc.analytics", "dvc.cli.parser", "dvc.compare", "dvc.data_cloud", "dvc.lock", "dvc.repo", "dvc.rwlock"),
    *("dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.graph", "dvc.repo.index", "dvc.repo.metrics"),
    *("dvc.repo.open_repo", "dvc.repo.params", "dvc.repo.plots", "dvc.repo.stage", "dvc_data.hashfile.db.local"),
    *("dvc_data.hashfile.status", "dvc_render.vega", "dulwich.index", "dulwich.worktree", "email.policy"),
    *("fsspec.implementations.memory", "platformdirs.unix", "ruamel.yaml", "scmrepo.git"),
    *("scmrepo.git.backend.dulwich.client", "snakemake.cli", "snakemake.profiles", "snakemake.report.html_reporter"),
    *("snakemake.storage", "snakemake.workflow", "pyarrow.dataset", "smart_open", "torch._dynamo"),
)
"""What DVC, Snakemake and torch load when they are used, which no import of ours names."""
OWN = ("hisac_lab", "job", "repair", "repro", "graph")
SIZE = 1 << 20  # the longest request: words and environment


@contextlib.contextmanager
def forkserver(home: Path, sources: Iterable[Path]) -> Iterator[Path]:
    """Starts a server; gives the folder of its commands, to be put on the path.

    Args:
        home: A new folder. It holds the server's socket, so its path is short.
        sources: Python files; the server loads what they import from others.
    """
    home.mkdir()
    for name in ("python", *SCRIPTS):
        (home / name).write_text(f"#!{sys.executable} -IS\n" + (HERE / "forkclient.py").read_text())
        (home / name).chmod(0o755)
    command = [sys.executable, str(HERE / "forkserver.py"), str(home / "socket"), *ENGINES, *imported(sources)]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home)
    try:
        while not (home / "socket").exists():
            assert server.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
        yield home
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(home)


def imported(sources: Iterable[Path]) -> list[str]:
    """Names of the modules of others that Python files import, wherever in the file."""
    names: set[str] = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return sorted(name for name in names if name.partition(".")[0] not in OWN)


def serve(path: str) -> dict[str, Any] | None:
    """Forks one process a request until this process is killed; returns in each fork, with its request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    ends: dict[int, tuple[int, socket.socket]] = {}  # descriptor of a fork, or of its client, to both
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        for handle, _ in poller.poll():
            if handle == listener.fileno():
                client, _ = listener.accept()
                request, files = _receive(client)
                child = os.fork()
                if not child:
                    for end in (listener, *(end for _, end in ends.values())):
                        end.close()
                    for number, file in enumerate(files):
                        os.dup2(file, number)
                        os.close(file)
                    return request
                for file in files:
                    os.close(file)
                watched = os.pidfd_open(child)
                ends |= {watched: (child, client), client.fileno(): (child, client)}
                poller.register(watched, select.POLLIN)
                poller.register(client, select.POLLHUP | select.POLLIN)
            elif handle in ends:
                child, client = ends.pop(handle)
                poller.unregister(handle)
                if handle == client.fileno():  # the client was killed
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGTERM)
                    continue
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                os.close(handle)
                if ends.pop(client.fileno(), None):
                    poller.unregister(client)
                    with contextlib.suppress(BrokenPipeError):
                        client.send(str(code).encode())
                client.close()


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, files, _, _ = socket.recv_fds(client, SIZE, 3)
    while not data.endswith(b"\n"):
        data += client.recv(SIZE)
    return json.loads(data), files


def become(request: dict[str, Any], own_path: list[str]) -> None:
    """Makes this fork the process that was asked for, as if Python had just started in it."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    command, *words = request["words"]
    name = Path(command).name
    script, *words = words if name == "python" else [str(BIN / name), *words]
    sys.argv = [script, *words]
    sys.executable = str(Path(command).with_name("python"))  # what it starts by its Python, or beside, forks too
    before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(Path(script).resolve().parent), *before, *own_path]
    importlib.invalidate_caches()
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking all that is loaded apart would cost more than most commands


def main() -> None:
    """Loads the modules, then serves."""
    _, path, *modules = sys.argv
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own_path = [place for place in sys.path[1:] if place not in inherited]
    gc.disable()  # in the forks, too: they are soon over
    for module in modules:
        with contextlib.suppress(ImportError):  # a name in a module, or a package of an extra
            importlib.import_module(module)
    gc.freeze()
    request = serve(path)
    assert request is not None
    become(request, own_path)


if __name__ == "__main__":
    main()
