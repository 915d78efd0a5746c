"""Two processes that train together: batches shared by the length of histories, an item table spread over processes.

    python benchmarks/parallel.py [--items 2000000] [--requests 512] [--write]

Made-up requests with very unequal histories (log-normal). Shares: one epoch for each size of a batch, by rows and by
events; the CPU seconds of the dearest share of every step, which the others wait for, are summed. Table: the same few
steps with the table whole and sharded; peak memory of a process beyond that of a run with a thousand items, size of
checkpoints, losses, and what a process reads that scores with the finished model. With --write the tables go to
reports/parallel.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import table
from pydantic import TypeAdapter

from hisac_lab.base.artifacts import Array, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import AnyModel, build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.training.loop import train
from hisac_lab.training.parallel import ProcessGroup, join
from hisac_lab.training.train import share_items, write_model

REPORT = Path(__file__).parents[1] / "reports" / "parallel.md"
PROCESSES, CANDIDATES, FEW_ITEMS = 2, 4, 1_000
MEDIAN, SPREAD, LONGEST = 200, 1.2, 5_000  # of the lengths of histories
BATCHES = (32, 128, 512)
STEPS, BATCH = 6, 64  # of the runs with a table
CPU = Runtime(torch.device("cpu"), mixed=False)


class Timed(ProcessGroup):
    """Notes the CPU seconds of this process from the sharing of a batch to the meeting of all."""

    def shares(self, index: Array, costs: Array | None = None) -> list[Array]:
        """As the group's, which starts the clock."""
        _clock.append(-time.thread_time())
        return super().shares(index, costs)

    def sum_gradients(self, model: torch.nn.Module, loss: float) -> float:
        """As the group's, which stops the clock."""
        _clock[-1] += time.thread_time()
        return super().sum_gradients(model, loss)


_clock: list[float] = []
"""CPU seconds of each step."""


def requests_of(count: int, items: int) -> Requests:
    """Requests of as many users, each at the end of a history; the same in every process."""
    random = np.random.default_rng(0)
    lengths = np.exp(random.normal(np.log(MEDIAN), SPREAD, count)).astype(int).clip(1, LONGEST)
    offsets = np.r_[0, np.cumsum(lengths)]
    stored, unread = random.integers(0, items, offsets[-1]).astype(np.int32), dict[str, Any]()
    times = np.arange(offsets[-1], dtype=np.int64) + 10**9
    store = EventStore(Path("nowhere"), Prepared.model_construct(**unread), stored, times, offsets, None)
    candidates = random.integers(0, items, (count, CANDIDATES))
    labels = random.integers(0, 2, candidates.shape).astype(np.float32)
    return Requests(
        store, offsets[:-1], offsets[1:], times[offsets[1:] - 1] + 1, candidates, labels, candidates >= 0, candidates,
        np.arange(count),
    )  # fmt: skip


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What one process does of a job; the main one's answer counts.

    Args:
        job: Settings of the training, number of requests and of items, kind of model, folder.
    """
    requests = requests_of(job["requests"], job["items"])
    space = ItemSpace.blank(items=job["items"], width=4, field_sizes=[], nodes=[1])
    config = TypeAdapter(AnyModel).validate_python(job["model"])
    settings, folder = TrainConfig.model_validate(job["train"]), Path(job["folder"])
    backbone = BackboneConfig(features=("length",), dropout=0.0)
    losses, steps = list[float](), int(job["steps"])

    def note(step: int, loss: float) -> bool:
        losses.append(loss)
        return step + 1 == steps

    _clock.clear()
    with join(CPU.device) as joined:
        group = Timed(joined.rank, joined.world_size, joined.device)
        model = build(config, backbone, share_items(space, settings, group), 0)
        loader = Loader.of(model, requests, CPU)
        few = Loader.of(model, requests.take(np.arange(32)), CPU)
        train(model, loader, few, settings, 0, job["name"], folder / "work", group=group, on_step=note)
        saved = sum(path.stat().st_size for path in (folder / "work").glob("*.pt"))
        write_model(folder / "out", model, config, space, group)
        each = np.zeros((group.world_size, len(_clock)))
        each[group.rank] = _clock
        each = group.sum(each)
        peaks = np.zeros(group.world_size)
        peaks[group.rank] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "losses": losses,
            "dearest": float(each.max(axis=0).sum()),
            "mean": float(each.mean(axis=0).sum()),
            "peak": float(group.sum(peaks).max()),
            "saved": saved,
        }


def serve(folder: Path, items: int) -> dict[str, Any]:
    """What a process reads that scores 32 requests with the finished model."""
    before = _resident()
    model, _ = load_model(folder / "out")
    loaded = _resident()
    score(model, Loader.of(model, requests_of(32, items), CPU))
    return {"load": loaded - before, "scored": _resident() - before}


def _resident() -> float:
    """Bytes of this process in memory, pages of files among them."""
    return float(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def start(job: dict[str, Any]) -> dict[str, Any]:
    """Runs a job in processes of its own, as `torchrun` starts them.

    Raises:
        UserError: A process fails.
    """
    say(job["name"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return in_processes(PROCESSES, port, work, job)


def in_processes(count: int, port: int, what: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Calls a function in that many copies of this process; what the main one gives.

    Raises:
        UserError: One of them fails.
    """
    fork = multiprocessing.get_context("fork")
    answers: SimpleQueue[dict[str, Any]] = fork.SimpleQueue()

    def one(rank: int) -> None:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", TORCHELASTIC_RUN_ID="bench")
        answer = what(*given)
        if rank == 0:
            answers.put(answer)

    processes = [fork.Process(target=one, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise UserError("parallel.py", "a process has failed", "see its lines above")
    return answers.get()


@contextmanager
def folder_for(name: str) -> Iterator[str]:
    """A folder that is removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix=f"hisac-lab-{name}-"))
    try:
        (home / "out").mkdir()
        yield str(home)
    finally:
        shutil.rmtree(home)


def measure_shares(requests: int) -> list[list[str]]:
    """Rows of the table of shares: an epoch for each size of a batch."""
    rows = []
    for batch in BATCHES:
        found = {}
        for by in ("rows", "events"):
            settings = {"epochs": 1, "batch_requests": batch, "share_by": by, "checks_per_epoch": 1}
            with folder_for("shares") as folder:
                found[by] = start({
                    "name": f"batches of {batch} by {by}", "requests": requests, "items": FEW_ITEMS, "steps": -1,
                    "model": {"kind": "din"}, "train": settings, "folder": folder,
                })  # fmt: skip
        one, two = found["rows"], found["events"]
        apart = max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True))
        waits = [1 - part["mean"] / part["dearest"] for part in (one, two)]
        rows.append([
            str(batch), f"{one['dearest']:.2f}", f"{two['dearest']:.2f}", f"{one['dearest'] / two['dearest']:.2f}",
            f"{waits[0]:.0%}", f"{waits[1]:.0%}", f"{apart:.1e}",
        ])  # fmt: skip
    return rows


def measure_table(items: int) -> tuple[list[list[str]], list[str]]:
    """Rows of the table of the two layouts, and lines about losses and the finished model."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    served, size = dict[str, Any](), 0
    for layout, count in (("whole", FEW_ITEMS), ("whole", items), ("sharded", items)):
        settings = {"epochs": 100, "batch_requests": BATCH, "item_table": layout, "checkpoint_every": STEPS // 2}
        settings |= {"checks_per_epoch": 1}
        with folder_for("table") as folder:
            found[layout, count] = start({
                "name": f"{count:,} items, {layout}", "requests": BATCH * 3, "items": count, "steps": STEPS,
                "model": {"kind": "mean"}, "train": settings, "folder": folder,
            })  # fmt: skip
            if layout == "sharded":
                size = (Path(folder) / "out" / "weights.safetensors").stat().st_size
                served = in_processes(1, 0, serve, Path(folder), items)
    start_up = found["whole", FEW_ITEMS]["peak"]
    rows, mebi = [], 2**20
    for layout in ("whole", "sharded"):
        part = found[layout, items]
        rows.append([layout, f"{(part['peak'] - start_up) / mebi:,.0f}", f"{part['saved'] / mebi:,.0f}",
                     f"{part['dearest'] / STEPS:.3f}"])  # fmt: skip
    pairs = zip(found["whole", items]["losses"], found["sharded", items]["losses"], strict=True)
    apart = max(abs(a - b) for a, b in pairs)
    lines = [
        f"Losses of the two differ by {apart:.1e} at most over {STEPS} steps. The finished model is one file of "
        f"{size / mebi:,.0f} MiB; a process that loads it holds {served['load'] / mebi:,.0f} MiB more, and "
        f"{served['scored'] / mebi:,.0f} MiB more after scoring 32 requests, with the pages of the rows asked for.",
    ]
    return rows, lines


def report(requests: int, items: int, command: str) -> list[str]:
    """The page as lines of Markdown."""
    shares, (layouts, lines) = measure_shares(requests), measure_table(items)
    return [
        "# Processes that train together",
        "",
        f"`{command}`: {PROCESSES} processes, made-up requests, histories log-normal with a median of {MEDIAN} "
        f"events, at most {LONGEST:,}.",
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}.",
        "",
        "## Batches shared by rows and by events",
        "",
        f"`train.share_by`; one epoch of {requests} requests of `din` over whole histories. CPU seconds of the "
        "dearest share of each step, summed; the ratio is what a machine gains that has a core for each process.",
        "",
        *table(["batch", "rows, s", "events, s", "ratio", "waits, rows", "waits, events", "losses differ by"], shares),
        "",
        "An epoch sorts requests by length in buckets of sixteen batches, so the histories of a batch are of like "
        "length already, and most is gained where a batch is a large part of the data. Where waits are small either "
        "way, the gain is less padding: by rows every share has a long history to pad to.",
        "",
        "## An item table spread over processes",
        "",
        f"`train.item_table`; {items:,} items of width 16, the model `mean`, {STEPS} steps of {BATCH} requests with "
        f"two checkpoints and the finished model. Peak memory of a process beyond that with {FEW_ITEMS:,} items.",
        "",
        *table(["table", "peak of a process, MiB", "checkpoints, MiB", "CPU s a step"], layouts),
        "",
        *lines,
    ]


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2_000_000, help="of the large table")
    parser.add_argument("--requests", type=int, default=512, help="of an epoch of the shares")
    parser.add_argument("--write", action="store_true", help="write reports/parallel.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if options.items < FEW_ITEMS or options.requests < max(BATCHES):
            what = f"{options.items} items, {options.requests} requests"
            hint = f"give at least {FEW_ITEMS} items and {max(BATCHES)} requests"
            raise UserError("parallel.py", what, hint, "--items, --requests")
        command = f"python benchmarks/parallel.py --items {options.items} --requests {options.requests} --write"
        lines = report(options.requests, options.items, command)
    except UserError as error:
        raise SystemExit(f"parallel: error: {error}") from error
    print("\n".join(lines))
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
