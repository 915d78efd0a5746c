"""The command `day`: what was appended to the log goes through the graph, and the best of today is proposed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hisac_lab.base.errors import UserError
from hisac_lab.cli import origin, running
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.sources.records import Acquired


def run(cores: int | None) -> None:
    """Takes new files of the log, runs what must run, mirrors it and says who challenges the champion.

    Args:
        cores: For Snakemake; None: all.

    Raises:
        UserError: A graph runs here, the log is no own one, a file of it has changed or is gone, or a command failed.
    """
    # A log that is taken while a graph runs here would change what its stages read.
    with running.hold(", so the log is not taken", "wait for it or stop it, then `hisac-lab day` again"):
        new = origin.appended()
        if new and (ARTIFACTS.acquire / Acquired.FILE).is_file():
            _run("dvc", "repro", "--force", "--single-item", "acquire")
    print(f"new files of the log: {', '.join(path.name for path in new) or 'none'}", flush=True)
    _run("snakemake", "--quiet", "rules", "host", "--cores", "all" if cores is None else str(cores), "all")
    from hisac_lab.cli import registry

    print(registry.proposed())


def _run(*command: str) -> None:
    """Runs a command of this environment; what it says is for the user.

    Raises:
        UserError: It is not here, or it has failed.
    """
    here, path = str(Path(sys.executable).parent), os.environ.get("PATH", "")
    if here not in path.split(os.pathsep):  # the environment is not activated
        path = here + os.pathsep + path
    found = shutil.which(command[0], path=path)
    if found is None:
        raise UserError("environment", f"package {command[0]} is missing", "pip install 'hisac-lab[graph]'")
    code = subprocess.run([found, *command[1:]], env=os.environ | {"PATH": path}, check=False).returncode
    if code:
        what, hint = f"`{' '.join(command)}` ended with {code}", "mend what it says above, then `hisac-lab day` again"
        raise UserError("day", what, hint)
