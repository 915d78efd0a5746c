"""The demo, three ways, must end in the same bytes: one core, two cores, and killed again and again.

    python benchmarks/soak.py [--kills 10] [--write]

Each way runs in a fresh clone of the committed state, in a folder of its own, all three at once. With --write the table
goes to reports/reproducibility.md. Takes a few times as long as the demo.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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


def finish(folder: Path, cores: int) -> None:
    """Runs the graph to its end."""
    code = start(folder, cores).wait()
    if code:
        raise SystemExit(f"{folder}: snakemake --cores {cores} ended with {code}; see {folder / 'soak.log'}")


def killed(folder: Path, kills: int, span: float, seed: int) -> list[float]:
    """Kills the run's whole process group at random moments, then lets it end; gives the moments."""
    moments = random.Random(seed)
    lived = []
    for _ in range(kills):
        run = start(folder, 2)
        seconds = moments.uniform(3, span)
        time.sleep(seconds)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            lived.append(round(seconds, 1))
        run.wait()
    finish(folder, 2)
    return lived


def main() -> None:
    """Runs all three ways at once and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--span", type=float, default=60, help="seconds a run lives at most before its kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep the three clones here")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="hisac-lab-soak-"))
    two, one, hurt = (clone(home, name) for name in ("two cores", "one core", "killed"))
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(finish, two, 2), pool.submit(finish, one, 1)]
        lived = pool.submit(killed, hurt, options.kills, options.span, options.seed).result()
        for run in runs:
            run.result()
    digests = [hashes(folder) for folder in (two, one, hurt)]
    if not options.home:
        shutil.rmtree(home)
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
    lines += [
        f"| {path} | " + " | ".join(str(one.get(path))[:12] for one in digests) + " |" for path in sorted(digests[0])
    ]
    same = digests[0] == digests[1] == digests[2]
    lines += ["", f"All equal: **{'yes' if same else 'NO'}**."]
    print("\n".join(lines))
    if options.write:
        (ROOT / "reports" / "reproducibility.md").write_text("\n".join(lines) + "\n")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
