"""The tiny graph on a real Slurm while its driver, jobs, nodes and controller are killed: a table of what happened.

make bench-slurm    # writes reports/slurm.md; needs root, Debian's Slurm and the extra slurm
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from lab import BIN, ROOT, TINY, Lab
from slurm import Cluster, cluster

SETTINGS: dict[str, Any] = TINY | {"train.epochs": 6, "train.batch_requests": 8, "train.checkpoint_every": 10}
"""Trainings of some hundred steps, which can be met half-way."""
LIMITED = "train@hisac-0"
SNAKEMAKE = """
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
main()
"""
"""Snakemake that asks for its jobs every second; the plug-in waits 10 s longer after each look at which none has ended,
and these jobs take seconds."""
DRIVER = (
    *(sys.executable, "-c", SNAKEMAKE, "--profile", "profiles/slurm", "--slurm-status-command", "squeue"),
    *("--set-resources", "train:runtime=1 if attempt < 2 else 60"),
)
STARTS = 8
"""How often the driver may be started in all."""
KEPT = 6
"""Seconds after which the controller has written down what runs; it does so every five."""
MET = 30
"""Steps of a training after which it is met."""
FEW = ("ingest", "shard@1", "prepare", "tokenize", "codebook", "sweep@hisac", LIMITED, "evaluate")
"""Stages that are met in the test: a disturbance of each kind."""
CARDS = {"instances", "sweep@hisac", "train@din_50-0", "train@mean-0", "train@hisac-0", "evaluate", "abtest"}
"""Stages of this graph that ask for a GPU."""


@dataclass
class Disturbed:
    """One run through disturbances.

    Attributes:
        cluster: Where its jobs run.
        lab: The project.
        rows: Stage, what was done to it, in the order of time.
        jobs: Number of each job ever seen running to its stage.
        cards: For each moment looked at, the cards in use, each as often as a job held it.
        asked: Stages whose jobs held a card.
        steps: What the checkpoints of each training said, whenever they were looked at.
        starts: How often the driver was started.
    """

    cluster: Cluster
    lab: Lab
    rows: list[tuple[str, str]] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    cards: list[list[str]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    steps: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    starts: int = 0
    _driver: subprocess.Popen[bytes] | None = None

    def run(self, stages: Collection[str] = ()) -> None:
        """Starts the driver until it ends well, and meets each stage of the plan once, at its work.

        Args:
            stages: To be met; none: all of the plan.
        """
        plan: dict[str, tuple[str, Callable[[str], None]]] = {
            "ingest": ("kill -9 of the driver; started again", self._kill_driver),
            "shard@0": ("scancel of the job", self._cancel),
            "shard@1": ("kill -9 of all that the job runs", self._kill),
            "prepare": ("preempted by a job of an urgent partition", self._preempt),
            "embed": ("its node is drained", self._drain),
            "tokenize": ("kill -9 of slurmctld; started again", self._restart_controller),
            "codebook": ("scontrol requeue", self._requeue),
            "sweep@hisac": ("its node goes down", self._down),
            LIMITED: ("stands still until its time limit", self._stand_still),
            "train@din_50-0": ("scancel of the job", self._cancel),
            "train@mean-0": ("kill -9 of the driver; started again", self._kill_driver),
            "evaluate": ("kill -9 of the job, then of the driver", self._kill_both),
            "abtest": ("scancel of the job, then kill -9 of the driver", self._cancel_both),
            "report": ("kill -9 of all that the job runs", self._kill),
        }
        plan = {stage: disturbance for stage, disturbance in plan.items() if not stages or stage in stages}
        with (self.lab.path / "driver.log").open("ab") as log:
            try:
                self._follow(plan, log)
            except BaseException:
                print(f"still to be met: {', '.join(plan) or 'none'}", *self._state(), sep="\n")
                raise
            finally:
                self._kill_driver("")
        assert not plan, f"never met at work: {', '.join(plan)}"

    def _follow(self, plan: dict[str, tuple[str, Callable[[str], None]]], log: io.BufferedWriter) -> None:
        """Takes from the plan what it has done."""
        while (code := self._start(log).poll()) != 0:
            if code is not None:
                self._driver = None
                continue
            running = self._look()
            for job, stage in running.items():
                if stage in plan and self._at_work(stage):
                    what, disturb = plan.pop(stage)
                    disturb(job)
                    self.rows.append((stage, what))
            time.sleep(0.2)

    def _state(self) -> list[str]:
        """Where it stands, for a run that does not end."""
        asked = (("squeue", "--long"), ("sinfo", "-N", "--long"), ("scontrol", "--oneliner", "show", "job"))
        told = (self.lab.path / "driver.log").read_text()[-8000:]
        return [*(self.cluster.run(*command).stdout for command in asked), told]

    def ends(self) -> dict[str, list[str]]:
        """Stage to how each of its jobs ended, oldest first, as Slurm tells it."""
        ends: dict[str, list[str]] = defaultdict(list)
        lines = self.cluster.ask("scontrol", "--oneliner", "show", "job").splitlines()
        every = [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]
        for facts in sorted(every, key=lambda facts: int(facts["JobId"])):
            if (stage := _stage_of(facts.get("Comment", ""))) is not None:
                again = int(facts["Restarts"])
                ends[stage].append(facts["JobState"].lower() + (f" after {again} requeue" if again else ""))
        return ends

    def _start(self, log: io.BufferedWriter) -> subprocess.Popen[bytes]:
        if self._driver is None:
            self.starts += 1
            assert self.starts <= STARTS, "the driver does not end"
            path = os.pathsep.join(map(str, (BIN, self.cluster.bin, os.environ["PATH"])))
            self._driver = subprocess.Popen(
                DRIVER, cwd=self.lab.path, env=self.lab.environment | {"PATH": path}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self._driver

    def _look(self) -> dict[str, str]:
        """Running jobs; keeps which cards they hold and how far trainings are."""
        try:
            running = {job: stage for job, name in self.cluster.jobs().items() if (stage := _stage_of(name))}
            held = self.cluster.cards()
        except AssertionError:  # the controller is away
            return {}
        self.jobs |= running
        self.cards.append([card for cards in held.values() for card in cards])
        self.asked |= {self.jobs[job] for job, cards in held.items() if cards and job in self.jobs}
        for stage in running.values():
            if stage.startswith("train@") and (step := self._step(stage)) is not None:
                self.steps[stage].append(step)
        return running

    def _at_work(self, stage: str) -> bool:
        if stage.startswith("train@"):
            return (self._step(stage) or 0) >= MET
        log = self.lab.path / f"logs/{stage}.log"
        return log.exists() and "Running stage" in log.read_text()

    def _step(self, stage: str) -> int | None:
        for path in (self.lab.path / ".work/train" / stage.removeprefix("train@")).glob("*/checkpoint.pt"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # the training has ended
                return None
            state = torch.load(io.BytesIO(content[: content.rindex(b"sha256:")]), weights_only=True)
            return int(state["progress"]["step"])
        return None

    def _node(self, job: str) -> str:
        return self.cluster.ask("squeue", "-h", "-j", job, "-o", "%N").strip()

    def _kill_driver(self, _job: str) -> None:
        if self._driver is not None:
            with suppress(ProcessLookupError):  # it has ended, and so have its children
                os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait()
            self._driver = None

    def _cancel(self, job: str) -> None:
        self.cluster.ask("scancel", job)

    def _kill(self, job: str) -> None:
        self.cluster.ask("scancel", "--signal=KILL", "--full", job)

    def _kill_both(self, job: str) -> None:
        self._kill(job)
        self._kill_driver(job)

    def _cancel_both(self, job: str) -> None:
        self._cancel(job)
        self._kill_driver(job)

    def _requeue(self, job: str) -> None:
        self.cluster.ask("scontrol", "requeue", job)

    def _preempt(self, job: str) -> None:
        urgent = ("sbatch", "-p", "urgent", "-w", self._node(job), "-c", "4", "--mem=100", "-o", "/dev/null")
        self.cluster.ask(*urgent, "--wrap", "sleep 2")

    def _drain(self, job: str) -> None:
        self._set_node(self._node(job), "DRAIN")

    def _down(self, job: str) -> None:
        node = self._node(job)
        self._set_node(node, "DOWN")
        time.sleep(3)
        for one in self.cluster.nodes():  # and the drained one
            self._set_node(one, "RESUME")

    def _set_node(self, node: str, state: str) -> None:
        self.cluster.run("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")

    def _restart_controller(self, job: str) -> None:
        """While the job stands still: it is lost, and held when it starts again, until the controller has kept it."""
        self.cluster.signal(signal.SIGSTOP, job)
        time.sleep(KEPT)
        self.cluster.kill_controller()
        time.sleep(3)
        self.cluster.start_controller()
        self.cluster.signal(signal.SIGCONT, job)

    def _stand_still(self, job: str) -> None:
        self.cluster.signal(signal.SIGSTOP, job)


def prepare(path: Path) -> Lab:
    """A project whose trainings last long enough to be met."""
    lab = Lab.found(path)
    lab.set(**SETTINGS)
    lab.one_process("sweep")
    lab.commit("trainings of some hundred steps")
    return lab


def page(run: Disturbed, equal: int) -> str:
    """The report of a run.

    Args:
        run: What happened.
        equal: Outputs whose hash is that of the undisturbed run.
    """
    twice = sum(len(set(held)) < len(held) for held in run.cards)
    ends, version = run.ends(), run.cluster.ask("sinfo", "--version").split()[-1]
    lines = [
        "# The graph on a real Slurm, disturbed",
        "",
        f"The tiny graph of the tests, with `profiles/slurm`, on {len(run.cluster.nodes())} nodes of a Slurm {version}",
        f"that lie on one machine: {len(run.rows)} disturbances, {run.starts} starts of the driver.",
        f"All {equal} outputs have the hashes of an undisturbed local run. `make bench-slurm` writes this page;",
        "`make test-services` has the test.",
        "",
        "| stage at work | what was done | how its jobs ended |",
        "|---|---|---|",
        *(f"| `{stage}` | {what} | {', '.join(ends[stage])} |" for stage, what in run.rows),
        "",
        f"Trainings are met after step {MET} and go on from their checkpoints. Steps seen in these:",
        *(f"`{stage}`: {_told(seen)}." for stage, seen in sorted(run.steps.items())),
        f"In {sum(map(bool, run.cards))} looks at running jobs a card was held twice {twice} times;",
        f"{', '.join(f'`{stage}`' for stage in sorted(run.asked))} held one.",
        "",
    ]
    return "\n".join(lines)


def _stage_of(name: str) -> str | None:
    """The stage that a job works for, by what Snakemake's plug-in writes on it; None: it is none of Snakemake's."""
    if not name.startswith("rule_"):
        return None
    stage, _, instance = name.removeprefix("rule_").partition("_wildcards_")
    return f"{stage}@{instance}" if instance else stage


def _told(steps: list[int]) -> str:
    return f"{steps[0]} to {steps[-1]}, {'never' if steps == sorted(steps) else 'at least once'} back"


def main() -> None:
    """Runs both and writes the page."""
    with tempfile.TemporaryDirectory() as home, cluster() as nodes:
        local = prepare(Path(home) / "local")
        away = local.copy(Path(home) / "away")
        local.snakemake("--cores", "2")
        run = Disturbed(nodes, away)
        run.run()
        if away.hashes() != local.hashes():
            sys.exit("error: the outputs of the disturbed run differ from those of the local one")
        (ROOT / "reports/slurm.md").write_text(page(run, len(local.hashes())))


if __name__ == "__main__":
    main()
