"""Two nodes, each a network namespace of its own, train like one process, also where a process is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kit import BACKBONE, MODELS, Stages
from together import Job, alike, job_of

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.train import TrainConfig
from hisac_lab.models import tables

pytestmark = pytest.mark.services
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ADDRESSES, CARD = ("10.219.73.1", "10.219.73.2"), "node0"
CONFIG = TrainConfig(epochs=1, batch_requests=96, checkpoint_every=2)


def ip(*words: str) -> str:
    """Runs `ip` to its end; the error, or nothing."""
    done = subprocess.run([str(shutil.which("ip", path=PLACES)), *words], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them; each sees itself and the other, and nothing else."""
    if os.getuid() or shutil.which("ip", path=PLACES) is None:
        pytest.skip("network namespaces: Debian's iproute2, as root")
    names = [f"hisac-lab-{os.getpid()}-{place}" for place in (0, 1)]
    with ExitStack() as stack:
        for name in names:
            if error := ip("netns", "add", name):
                pytest.skip(f"network namespaces cannot be had here: {error.strip()}")
            stack.callback(ip, "netns", "delete", name)
        cable = ["link", "add", CARD, "netns", names[0], "type", "veth", "peer", "name", CARD, "netns", names[1]]
        if error := ip(*cable):
            pytest.skip(f"network namespaces cannot be joined here: {error.strip()}")
        for name, address in zip(names, ADDRESSES, strict=True):
            for words in (["addr", "add", f"{address}/24", "dev", CARD], ["link", "set", CARD, "up"]):
                assert not ip("-n", name, *words)
            assert not ip("-n", name, "link", "set", "lo", "up")
        yield names


def job(stages: Stages, home: Path, trouble: str | None = None) -> Job:
    return job_of(stages, home, BACKBONE, MODELS["hisac"], CONFIG, trouble)


def run(nodes: list[str], work: Job, home: Path) -> list[int]:
    """Runs it on both nodes, one process each, replaced when it is lost; the steps that the main process has made."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launcher += ["--max-restarts", "5", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29511"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": CARD}
    started = []
    with ExitStack() as stack:
        for place, (name, address) in enumerate(zip(nodes, ADDRESSES, strict=True)):
            inside = [str(shutil.which("ip", path=PLACES)), "netns", "exec", name]
            log = stack.enter_context((home / f"{name}.log").open("w"))
            own = ["--rdzv-conf", f"is_host={int(place == 0)}", "--local-addr", address]
            command = [*inside, *launcher, *own, *work.command]
            started.append(subprocess.Popen(command, env=settings, stdout=log, stderr=log))
            stack.callback(started[-1].kill)
        for process, name in zip(started, nodes, strict=True):
            assert process.wait(timeout=600) == 0, (home / f"{name}.log").read_text()
    return [int(line) for line in (home / "steps").read_text().split()]


def test_two_nodes_train_like_one_process_and_replace_one_that_is_killed(
    nodes: list[str], stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)
    alone, calm, killed = (tmp_path / name for name in ("alone", "calm", "killed"))
    job(stages, tmp_path / "alone").run()
    steps = run(nodes, job(stages, calm), calm)
    assert steps == list(range(len(steps)))
    alike(alone / "out", calm / "out")
    again = run(nodes, job(stages, killed, "killed"), killed)
    assert again == [0, 1, 2, *steps[2:]], "it goes on from the checkpoint after the second step"
    assert sha256_tree(killed / "out") == sha256_tree(calm / "out")
