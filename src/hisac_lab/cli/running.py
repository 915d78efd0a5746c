"""The lock of a folder: one run of the graph at a time, and no new log while one runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.cli.paths import RUNNING


def hold(so: str, hint: str) -> IO[str]:
    """Takes the lock of this folder until it is closed or the process ends, however it ends.

    Two Snakemake runs in one folder would only repeat each other's jobs; the second one is refused with one line.
    (A `dvc repro` beside Snakemake is DVC's own affair: its locks make one wait for the other.)

    Args:
        so: What follows from another run, for the message.
        hint: What to do then.

    Raises:
        UserError: Another process has it, or the folder cannot be written.
    """
    try:
        RUNNING.parent.mkdir(exist_ok=True)
        handle = RUNNING.open("a+")
    except OSError as error:
        raise explain_os_error(error, RUNNING) from error
    handle.seek(0)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with handle:
            other = handle.read().strip()
        raise UserError(Path.cwd(), f"another run (process {other}) works here{so}", hint) from error
    handle.truncate()
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def other() -> str | None:
    """The process that runs the graph here; None where none does."""
    if not RUNNING.is_file():
        return None
    with RUNNING.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return handle.read().strip()
    return None
