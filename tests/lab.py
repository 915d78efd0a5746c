"""A copy of the real project with a tiny configuration, and ways to run it and to look at what ran."""

from __future__ import annotations

import compileall
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any, ClassVar

import yaml
from tiny import write_movielens

from hisac_lab.cli.params import defaults

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
RULE = re.compile(
    r"^(?:local)?rule (\w+):\n(?:    (?!wildcards).*\n)*(?:    wildcards: instance=(\S+)\n)?", re.MULTILINE
)
RUNNING = re.compile(r"Running stage '([^']+)'")
TINY: dict[str, Any] = {
    "acquire.path": "log",
    "acquire.sources": ["path"],
    "tokenize.widths": [8, 4],
    "tokenize.limits.min_occupancy": 0.0,
    "tokenize.limits.max_bucket_share": 1.0,
    "experiment.seeds": [0],
    "experiment.models": ["din_50", "mean", "hisac"],
    "models.mean": {"kind": "mean"},
    "backbone.dim": 8,
    "backbone.tower": [16],
    "sweep.trials": 2,
    "sweep.round_size": 2,
    "sweep.epochs": 1,
    "sweep.finalist_seeds": 1,
    "sweep.space.hisac.agents": [2, 4],
    "sweep.space.hisac.depth": [1, 2],
    "train.epochs": 1,
    "train.checkpoint_every": 2,
    "evaluate.bootstrap": 20,
    "abtest.users": 400,
    "abtest.pool": 20,
    "abtest.slate": 5,
    "mlflow.mirror": False,
}
STARTED: list[subprocess.Popen[str]] = []
"""What `Lab.start` has begun."""


@contextmanager
def nothing_left() -> Iterator[None]:
    """Kills what was started inside and still runs: a test that failed waits for nothing."""
    before = len(STARTED)
    try:
        yield
    finally:
        for started in STARTED[before:]:
            if started.poll() is None:
                with suppress(ProcessLookupError):  # it ends just now
                    os.killpg(started.pid, signal.SIGKILL)
        del STARTED[before:]


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    text: str


@dataclass(frozen=True)
class Lab:
    """A project folder.

    Attributes:
        path: Where it is.
        beside: What else is on the path of its processes, as if it were installed.
        commands: Folder of `python`, `dvc`, `hisac-lab` and `snakemake`; the session's forkserver changes the default.
    """

    path: Path
    beside: tuple[Path, ...] = ()
    commands: ClassVar[Path] = BIN

    @classmethod
    def found(cls, path: Path) -> Lab:
        """Copies the project's own files (as git sees them), sets the tiny configuration and commits.

        Settings are the defaults but for `TINY`, whatever the project's own params.yaml says.
        `evaluate` has one process: here, starting torch in more of them takes longer than their work.
        """
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            source = ROOT / name
            if source.is_file() and name != "dvc.lock" and not name.startswith("tests/"):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, path / name)
        (path / "params.yaml").write_text(defaults())
        # Its processes write no bytecode: two edits in one second look alike, unless the content is compared.
        compileall.compile_dir(path / "src", quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        lab = cls(path)
        lab.one_process("evaluate")
        write_movielens(path / "log")
        (path / ".gitignore").open("a").write("/remote/\n/events.log\n")
        lab.set(**TINY)
        lab.git("init", "--quiet", "--initial-branch", "main")
        lab.commit("tiny")
        return lab

    def one_process(self, stage: str) -> None:
        """Gives a stage one process from now on, which makes nothing stale."""
        graph = self.path / "dvc.yaml"
        above, below = graph.read_text().split(f"\n  {stage}:\n")
        graph.write_text(f"{above}\n  {stage}:\n" + below.replace("{threads: 4,", "{threads: 1,", 1))

    def copy(self, path: Path) -> Lab:
        """The same folder elsewhere: outputs, caches, history and all."""
        shutil.copytree(self.path, path, symlinks=True)
        return replace(self, path=path)

    def clone(self, path: Path) -> Lab:
        """A fresh git clone, with the raw log beside it as its user would have."""
        subprocess.run(["git", "clone", "--quiet", str(self.path), str(path)], check=True)
        lab = Lab(path)
        lab.git("config", "user.email", "lab@example.org")
        lab.git("config", "user.name", "lab")
        return lab

    @property
    def environment(self) -> dict[str, str]:
        """The clone's own code comes before the installed one."""
        python_path = os.pathsep.join(map(str, (self.path / "src", *self.beside)))
        own = {"PATH": f"{self.commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": python_path}
        return {**os.environ, **own, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", "HISAC_LAB_THREADS": "1"}

    def run(self, *command: str) -> Answer:
        """Runs a command in the folder."""
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, check=False)
        return Answer(done.returncode, done.stdout + done.stderr)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a command as the leader of a process group of its own, to be killed: nothing of it is a fork."""
        started = subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        STARTED.append(started)
        return started

    def snakemake(self, *options: str) -> list[str]:
        """Runs Snakemake to a good end; gives the stages that were really computed, sorted."""
        shutil.rmtree(self.path / "logs", ignore_errors=True)
        answer = self.run("snakemake", *(options or ("--cores", "2")))
        assert answer.code == 0, answer.text
        logs = (self.path / "logs").glob("*.log")
        return sorted(name for log in logs for name in RUNNING.findall(log.read_text()))

    def planned(self) -> list[str]:
        """The stages that `snakemake -n` would run, by DVC's names, sorted."""
        answer = self.run("snakemake", "--dry-run")
        assert answer.code == 0, answer.text
        jobs = {f"{rule}@{instance}" if instance else rule for rule, instance in RULE.findall(answer.text)}
        return sorted(jobs - {"all"})

    def repro(self, *options: str) -> list[str]:
        """Runs `dvc repro` to a good end; gives the stages that were really computed, sorted."""
        answer = self.run("dvc", "repro", *options)
        assert answer.code == 0, answer.text
        return sorted(RUNNING.findall(answer.text))

    def both_idle(self) -> bool:
        """Whether both doors say that there is nothing to do."""
        snakemake, repro = self.run("snakemake", "--cores", "2"), self.run("dvc", "repro")
        assert "Nothing to be done" in snakemake.text, snakemake.text
        assert "Data and pipelines are up to date" in repro.text, repro.text
        return snakemake.code == repro.code == 0

    def set(self, **changes: Any) -> None:
        """Changes settings, named by dotted path."""
        params = yaml.safe_load((self.path / "params.yaml").read_text())
        for path, value in changes.items():
            *sections, key = path.split(".")
            place = params
            for section in sections:
                place = place[section]
            place[key] = value
        (self.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replaces a text in a file of the project."""
        path = self.path / file
        content = path.read_text()
        assert old in content, f"{old!r} is not in {file}"
        path.write_text(content.replace(old, new, 1))

    def git(self, *words: str) -> str:
        """Runs git."""
        return subprocess.run(["git", *words], cwd=self.path, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str) -> None:
        """Commits everything that is not ignored."""
        self.git("add", "--all")
        author = ("-c", "user.email=lab@example.org", "-c", "user.name=lab")
        self.git(*author, "commit", "--quiet", "--allow-empty", "--message", message)

    def hashes(self) -> dict[str, str]:
        """Output path to hash, from dvc.lock."""
        lock = yaml.safe_load((self.path / "dvc.lock").read_text())
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
