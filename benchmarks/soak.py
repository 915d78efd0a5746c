"""The demo, three ways, must end in the same bytes: one core, two cores, and killed again and again.

    python benchmarks/soak.py [--kills 10] [--write]

Each way runs in a fresh clone of the committed state, in a folder of its own. With --write the table goes to
reports/reproducibility.md. Takes a few times as long as the demo.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def start(folder: Path, cores: int) -> subprocess.Popen[bytes]:
    """Starts the graph as the leader of a process group."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src")}
    log = (folder / "soak.log").open("ab")
    command = ["snakemake", "--cores", str(cores)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def clone(home: Path, name: str) -> Path:
    """A fresh clone without what an earlier run recorded."""
    folder = home / name
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """Output path to hash, from dvc.lock."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def finish(folder: Path, cores: int) -> float:
    """Runs the graph to its end; gives the seconds."""
    begin = time.monotonic()
    code = start(folder, cores).wait()
    if code:
        sys.exit(f"{folder}: snakemake --cores {cores} ended with {code}; see {folder / 'soak.log'}")
    return time.monotonic() - begin


def killed(folder: Path, kills: int, span: float, seed: int) -> list[float]:
    """Kills the run's whole process group at random moments; gives the moments."""
    moments = random.Random(seed)
    lived = []
    for _ in range(kills):
        run = start(folder, 2)
        seconds = moments.uniform(3, span)
        try:
            run.wait(timeout=seconds)
            break  # it ended before the kill
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        lived.append(round(seconds, 1))
    return lived


def main() -> None:
    """Runs all three ways and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hisac-lab-soak-") as home:
        two = clone(Path(home), "two-cores")
        seconds = finish(two, 2)
        one = clone(Path(home), "one core, in another folder")
        finish(one, 1)
        hurt = clone(Path(home), "killed")
        lived = killed(hurt, options.kills, 2 * seconds / options.kills + 6, options.seed)
        finish(hurt, 2)
        found = [hashes(folder) for folder in (two, one, hurt)]
    lines = [
        "# Reproducibility",
        "",
        f"`python benchmarks/soak.py --kills {options.kills} --write`: hashes of every output in `dvc.lock`,",
        "three fresh clones of one commit.",
        f"The third was killed (SIGKILL, the whole process group) {len(lived)} times, after {lived} seconds each.",
        "",
        "| output | `--cores 2` | `--cores 1` | killed |",
        "|---|---|---|---|",
    ]
    for path in sorted(found[0]):
        lines.append(f"| {path} | " + " | ".join(str(one.get(path))[:12] for one in found) + " |")
    same = found[0] == found[1] == found[2]
    lines += ["", f"All equal: **{'yes' if same else 'NO'}**."]
    print("\n".join(lines))
    if options.write:
        (ROOT / "reports" / "reproducibility.md").write_text("\n".join(lines) + "\n")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
