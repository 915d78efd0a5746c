"""A real Slurm of its own on this machine: one controller and several nodes, all on the loopback.

    python tests/slurm.py start FOLDER    # then: export PATH=FOLDER/bin:$PATH
    python tests/slurm.py stop FOLDER

Debian's slurmctld, slurmd, slurm-client and munge, and root, whose jobs it runs. The programs in FOLDER/bin know its
slurm.conf; /etc/slurm is left alone, so that no other Snakemake here waits for this controller.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from postgres import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PLACES = f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}"
NODES = ("node1", "node2", "node3")
CARDS = {"node1": 1, "node2": 2}
"""GPUs of each node: stand-in device files."""
SETTINGS = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,default_queue_depth=50
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=2
MinJobAge=3600
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=60
ReturnToService=2
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 MaxTime=UNLIMITED
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster and its folder, which holds settings, state, logs and the clients.

    Attributes:
        folder: Readable for all.
    """

    folder: Path

    @property
    def bin(self) -> Path:
        """Clients that know this cluster; they come first in PATH."""
        return self.folder / "bin"

    def make(self) -> None:
        """Writes the settings; nothing runs yet."""
        for name in ("bin", "dev", "munge", "spool", "state"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        ports = [free_port() for _ in range(1 + len(NODES))]
        nodes = []
        for node, port in zip(NODES, ports[1:], strict=True):
            cards = CARDS.get(node, 0)
            gres = f" Gres=gpu:{cards}" if cards else ""
            facts = f"NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=16000"
            nodes.append(f"NodeName={node} {facts}{gres} State=UNKNOWN")
        texts = {
            "slurm.conf": SETTINGS.format(
                host=socket.gethostname(), ports=ports, folder=self.folder, nodes="\n".join(nodes)
            ),
            "gres.conf": "".join(
                f"NodeName={node} Name=gpu File={self.card(node, index)}\n"
                for node, cards in CARDS.items()
                for index in range(cards)
            ),
            "cgroup.conf": "CgroupAutomount=no\n",
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        for node, cards in CARDS.items():
            for index in range(cards):
                self.card(node, index).symlink_to("/dev/null")  # Slurm wants a device
        for name in CLIENTS:  # Snakemake's job steps drop SLURM_CONF from the environment
            client = self.bin / name
            program = shutil.which(name, path=PLACES)
            client.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {program} "$@"\n')
            client.chmod(0o755)

    def card(self, node: str, index: int) -> Path:
        """The stand-in device file of a GPU."""
        return self.folder / f"dev/{node}-gpu{index}"

    def start(self) -> None:
        """Returns when every node is idle."""
        home = self.folder / "munge"
        options = [f"--{name}-file={home / name}" for name in ("key", "pid", "log", "seed")]
        _run(["munged", "--force", f"--socket={home}/socket", *options])
        self.start_controller()
        for node in NODES:
            self._daemon("slurmd", "-N", node)
        self.wait_for(lambda: {*self.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()} == {*NODES})

    def start_controller(self) -> None:
        """Starts the controller, which reads what it has kept."""
        self._daemon("slurmctld")

    def kill_controller(self) -> None:
        """Kills the controller, as a crash would."""
        _end(self.folder / "slurmctld.pid", signal.SIGKILL)

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        if (self.folder / "slurmctld.pid").exists():
            self.run("scancel", "--signal=KILL", "--full", "--state=RUNNING", "--user=root")
            self.run("scancel", "--user=root")
            end = time.monotonic() + 20
            while self.run("squeue", "-h").stdout.strip() and time.monotonic() < end:
                time.sleep(0.5)
        for name in (*NODES, "slurmctld", "munge/pid"):
            _end(self.folder / (name if "/" in name else f"{name}.pid"), signal.SIGTERM)
        self.signal(signal.SIGKILL)  # what a node that went down has left

    def signal(self, how: signal.Signals, job: str = "") -> None:
        """Signals all processes of a job, or of every job; unlike `scancel` it reaches those below a job's steps."""
        mark = f"SLURM_JOB_ID={job}\0" if job else "SLURM_JOB_ID="
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
                if f"{self.bin}:".encode() in environment and mark.encode() in environment:
                    os.kill(int(process.name), how)
            except OSError:  # it has ended, or is another's
                pass

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a client."""
        line = [str(self.bin / command[0]), *command[1:]]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    def ask(self, *command: str) -> str:
        """What a client says; it may not fail."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def jobs(self, states: str = "running") -> dict[str, str]:
        """Number of each job in these states to the rule or name it has."""
        lines = self.ask("squeue", "-h", "-t", states, "-o", "%A|%k|%j").splitlines()
        told = [line.split("|") for line in lines]
        return {number: (name if comment == "(null)" else comment) for number, comment, name in told}

    def nodes(self) -> dict[str, str]:
        """Each node to its state."""
        return dict(line.split() for line in self.ask("sinfo", "-h", "-N", "-o", "%N %t").splitlines())

    def cards(self) -> dict[str, list[str]]:
        """Number of each running job to the cards it holds."""
        held: dict[str, list[str]] = {}
        for line in self.ask("scontrol", "--details", "--oneliner", "show", "job").splitlines():
            if " JobState=RUNNING " in line:
                job = str(_field("JobId", line))
                node, gres = _field("Nodes", line.partition("JOB_GRES=")[2]), _field("GRES", line)
                held[job] = [f"{node}:{index}" for index in re.findall(r"\d+", (gres or "").partition("IDX:")[2])]
        return held

    def wait_for(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        """Returns when something holds; while the controller is away, nothing does."""
        end = time.monotonic() + seconds
        while True:
            try:
                if holds():
                    return
            except AssertionError:
                pass
            assert time.monotonic() < end, self.run("squeue", "--long").stdout + self.run("sinfo", "-N").stdout
            time.sleep(0.5)

    def _daemon(self, *command: str) -> None:
        _run([command[0], "-f", str(self.folder / "slurm.conf"), *command[1:]])


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that runs; the test skips, with what is missing, where none can be started."""
    lacks = missing()
    if lacks:
        pytest.skip(f"Slurm: {', '.join(lacks)} not found: Debian's slurmctld, slurmd, slurm-client and munge, as root")
    made = Cluster(Path(tempfile.mkdtemp(prefix="hisac-lab-slurm-")))  # not pytest's: all may enter
    try:
        made.make()
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)


def missing() -> list[str]:
    """Programs that are not here, or root."""
    lacks = [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=PLACES) is None]
    return lacks + ([] if os.getuid() == 0 else ["root"])


def _field(name: str, line: str) -> str | None:
    found = re.search(rf"(?:^| ){name}=(\S*)", line)
    return None if found is None else found[1]


def _run(command: list[str]) -> None:
    """Starts a daemon, which goes to the background."""
    program = shutil.which(command[0], path=PLACES)
    done = subprocess.run([str(program), *command[1:]], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _end(file: Path, how: signal.Signals) -> None:
    """Signals the daemon whose process file this is, and returns when it is gone."""
    if not file.exists():
        return
    process = int(file.read_text())
    end = time.monotonic() + 20
    while Path(f"/proc/{process}").exists():
        try:
            os.kill(process, how if time.monotonic() < end else signal.SIGKILL)
        except ProcessLookupError:
            break
        time.sleep(0.2)
    file.unlink(missing_ok=True)


def main(what: str, folder: str) -> None:
    """Starts or stops a cluster in a folder."""
    made = Cluster(Path(folder).absolute())
    if what == "stop":
        made.stop()
        return
    if lacks := missing():
        sys.exit(f"error: {', '.join(lacks)} not found: apt-get install slurmctld slurmd slurm-client munge, as root")
    made.make()
    made.start()
    print(made.ask("sinfo", "-N", "--long"), f"\nexport PATH={made.bin}:$PATH", sep="", end="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
