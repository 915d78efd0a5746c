"""What a job of the graph costs before and after its work: DVC, imports, Snakemake, here and at another revision.

    python benchmarks/job_cost.py [--revisions REV HEAD] [--write]

Each revision is cloned, with its own dvc.lock, and its stage `code` is run as Snakemake runs it: the smallest stage, as
it reads files of the project alone. CPU seconds of all processes, the least of several runs. DVC's part is the job less
the stage; Snakemake's is a run of one job that has nothing to do, less that job. Imports are those of a stage's entry,
without its work; torch alone stands beside. With --write the tables go to reports/job-cost.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pages import table
from usage import run

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "job-cost.md"
PYTHON = Path(sys.executable)
JOB = ["workflow/job.py", "code", "logs/code.log"]
IMPORTS = ("shard", "prepare", "train")
PARTS = ("the stage, imports and work", "DVC", "Snakemake, of one job", "together")


def clone(home: Path, revision: str) -> Path:
    """The project at a revision, in a folder of its own.

    Raises:
        UserError: There is no such revision.
    """
    folder = home / revision.replace("/", "-")
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(folder)], check=True)
    asked = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        what = f"there is no revision {revision!r}"
        raise UserError("job_cost.py", what, "name one of this repository", "--revisions")
    subprocess.run(["git", "checkout", "--quiet", done.stdout.strip()], cwd=folder, check=True)
    return folder


def measure(folder: Path, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds of the parts of a job, and of the imports of some stages.

    Raises:
        UserError: A command fails.
    """
    own = {"PYTHONPATH": str(folder / "src"), "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    environment = own | {"HISAC_LAB_THREADS": "1"}

    def least(*command: str | Path) -> float:
        return min(run(command, folder, environment).cpu for _ in range(repeats))

    snakemake: list[str | Path] = [
        PYTHON.with_name("snakemake"),
        "--cores",
        "1",
        "--quiet",
        "all",
        "--forcerun",
        "code",
        "--",
        "code",
    ]
    run(snakemake, folder, environment)  # the first run makes the output, and the notes of both engines
    stage = least(PYTHON.with_name("hisac-lab"), "stage", "code")
    job, idle = least(PYTHON, *JOB, "--force"), least(PYTHON, *JOB)
    scheduled = least(*snakemake)
    seconds = (stage, job - stage, scheduled - idle, job + scheduled - idle)
    imports = {name: least(PYTHON, "-c", f"import hisac_lab.cli.main, hisac_lab.cli.stages.{name}") for name in IMPORTS}
    imports["`import torch` alone"] = least(PYTHON, "-c", "import torch")
    return dict(zip(PARTS, seconds, strict=True)), imports


def report(found: dict[str, tuple[dict[str, float], dict[str, float]]], command: str) -> list[str]:
    """The page as lines of Markdown.

    Args:
        found: What was measured, by revision.
        command: How.
    """
    revisions = list(found)

    def rows(which: int) -> list[list[str]]:
        names = found[revisions[0]][which]
        return [[name, *(f"{found[revision][which][name]:.2f}" for revision in revisions)] for name in names]

    def around(name: str) -> list[str]:
        seconds = [found[revision][0]["DVC"] + found[revision][1][name] for revision in revisions]
        return [f"`{name}`", *(f"{one:.2f} ({one / seconds[0]:.0%})" for one in seconds)]

    return [
        "# What a job costs before and after its work",
        "",
        f"`{command}`: CPU seconds of all processes, the least of several runs.",
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}.",
        "",
        *table(["a job of the stage `code`", *revisions], rows(0)),
        "",
        *table(["imports of a stage", *revisions], rows(1)),
        "",
        *table(["DVC and imports of a job of", *revisions], [around(name) for name in IMPORTS]),
        "",
        "DVC's part is the job less the stage; Snakemake's is a run of one job that has nothing to do, less that job,",
        "and so holds the start of Snakemake, once for all jobs of a run.",
    ]


def main() -> None:
    """Measures every revision and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", nargs="+", default=["HEAD"], help="of git; the committed state of each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write reports/job-cost.md")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="hisac-lab-job-"))
    try:
        found = {}
        for revision in options.revisions:
            say(f"revision {revision}")
            found[revision] = measure(clone(home, revision), options.repeats)
    except UserError as error:
        raise SystemExit(f"job-cost: error: {error}") from error
    finally:
        shutil.rmtree(home)
    words = f"--revisions {' '.join(options.revisions)} --repeats {options.repeats}"
    lines = report(found, f"python benchmarks/job_cost.py {words} --write")
    print("\n".join(lines))
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
