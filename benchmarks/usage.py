"""What a command costs: wall clock, CPU and peak memory of it and of every process it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hisac_lab.base.errors import UserError

LOOK_EVERY = 0.1  # seconds between looks at the tree of processes


@dataclass(frozen=True)
class Usage:
    """What one command took.

    Attributes:
        wall: Seconds.
        cpu: Seconds of CPU, user and system, of all its processes.
        peak: Largest resident memory of any one of its processes, bytes; mapped file pages count, and so does the
            memory of the process that measured, of which every child starts as a copy: keep that one small.
        output: What it printed.
        own: Largest memory of the command's first process that no file stands behind, bytes, of all looks; 0 where the
            system does not say. Pages of mapped files beyond it are given back when memory is wanted elsewhere.
    """

    wall: float
    cpu: float
    peak: int
    output: str
    own: int = 0


def run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Runs a command to its end and measures it.

    The kernel counts what the command and the processes it waited for used. Daemons that nobody waits for (Ray's
    workers) are missing there, so the tree is also looked at while it runs; the larger of the two sums is taken. What a
    daemon used after the last look is lost, in its favor.

    Args:
        command: Program and arguments.
        folder: Where it runs.
        environment: Variables beside those of this process.

    Raises:
        UserError: It ended with an error; the message holds the last line it printed.
    """
    words = [str(word) for word in command]
    seen: dict[tuple[int, float], float] = {}
    own = 0
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        child = subprocess.Popen(
            words, cwd=folder, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                ended, status, used = os.wait4(child.pid, os.WNOHANG)
                if ended:
                    break
                _look(child.pid, seen)
                own = max(own, _own(child.pid))
                time.sleep(LOOK_EVERY)
            wall = time.perf_counter() - begin
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if child.returncode is None:
                _kill(child.pid)
                child.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if child.returncode:
        last = (text.strip().splitlines() or ["it printed nothing"])[-1]
        name = " ".join([Path(words[0]).name, *(Path(word).name for word in words[1:])])
        raise UserError(name, f"ended with {child.returncode} ({last})", "fix that and run again")
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = max(used.ru_utime + used.ru_stime, sum(seen.values()))
    return Usage(wall, cpu, used.ru_maxrss * unit, text, own)


def tree_seconds(process: psutil.Process) -> dict[tuple[int, float], float]:
    """CPU seconds of a process and of all living ones below it, by (number, time of birth)."""
    seconds = {}
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            seconds[one.pid, one.create_time()] = times.user + times.system
    return seconds


def _look(number: int, seen: dict[tuple[int, float], float]) -> None:
    with contextlib.suppress(psutil.Error):
        seen.update(tree_seconds(psutil.Process(number)))


def _own(number: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{number}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


def _kill(number: int) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(number)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                one.kill()
