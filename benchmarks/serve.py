"""The server under load, over HTTP on this machine: times of requests, a change of version, a restart, skew.

    python benchmarks/serve.py [--write]

Two instances of `hisac-lab serve` with HiSAC (200 agents, untrained: its costs are those of a trained one) over 100,000
items, two versions of it in an MLflow registry. Requests come at fixed times whatever the server does, so that a stall
shows in all that were due; one that an instance refuses to connect goes to the other, as behind a balancer. Prints one
line of JSON last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch
import yaml
from engine_rates import BULK, CATALOG, encode_ms, extend_us, fill, history, score_rate
from mlflow import MlflowClient
from pages import table
from workload import NOW, Workload

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.model import BackboneConfig
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.registry.versions import BUNDLE, CHAMPION, quiet
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.states import SQLiteStates

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "reports" / "bench-serve.md"
USERS, SLATE, WIDE = 64, 500, 2_048
MODEL = HiSACConfig(agents=200, route_by="items", decay="power")
PRODUCT = "ranker"
CALM = {"poll_seconds": 0.5, "refresh_seconds": 86_400, "budget_ms": 5_000}


@dataclass(frozen=True)
class Load:
    """Requests at fixed times.

    Attributes:
        name: What they are.
        rate: Requests per second.
        bodies: Asked in turn.
        seconds: How long.
    """

    name: str
    rate: float
    bodies: Sequence[bytes]
    seconds: float


@dataclass(frozen=True)
class Times:
    """Of the requests of one load, milliseconds from when each was due.

    Attributes:
        ms: Sorted.
        failed: Requests without an answer, or with another than 200.
        read: How many by what was read of the user.
    """

    ms: list[float]
    failed: int
    read: dict[str, int]

    def at(self, share: float) -> float:
        """A quantile."""
        return float(np.quantile(self.ms, share)) if self.ms else float("nan")


def make_bundle(folder: Path, load: Workload, seed: int) -> None:
    """An untrained HiSAC over the items of the workload."""
    folder.mkdir()
    space = load.space()
    save_model(folder, build(MODEL, BackboneConfig(features=("length",)), space, seed), MODEL, space)
    VocabularyFile(items=[str(item) for item in range(len(load.semantic))], history_limit=10_000).save(folder)


def bodies(load: Workload, candidates: int, stored: bool, seed: int) -> list[bytes]:
    """One request for each user: of a user that the server knows, or with the history."""
    random = np.random.default_rng(seed)
    made = []
    for row in range(len(load.items)):
        slate = random.integers(1, len(load.semantic), candidates)
        told: dict[str, Any] = {"user": str(row)} if stored else history(load, row).request()
        if not stored:
            told.pop("history_feedback")
        made.append(json.dumps({**told, "time": NOW, "candidates": [str(item) for item in slate]}).encode())
    return made


class Instance:
    """One server process.

    Args:
        folder: Where it works; its params.yaml is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it; `ready` waits for it."""
        command = [str(Path(sys.executable).with_name("hisac-lab")), "serve", "--port", str(self.port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL)

    async def ready(self, session: aiohttp.ClientSession) -> str:
        """Waits until it answers; the version."""
        for _ in range(600):
            try:
                async with session.get(f"{self.url}/readyz") as answer:
                    return str((await answer.json())["version"])
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
        raise SystemExit(f"{self.url} does not come up; see its output above")

    def stop(self) -> None:
        """Asks it to end, and waits."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()


async def run(session: aiohttp.ClientSession, instances: Sequence[Instance], load: Load) -> Times:
    """Sends a load; requests take the instances in turn, and the other one where the first is not there."""
    times, reads, failed = list[float](), dict[str, int](), 0
    begin = time.perf_counter() + 0.2

    async def one(number: int) -> None:
        nonlocal failed
        due = begin + number / load.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        for place in range(len(instances)):
            url = f"{instances[(number + place) % len(instances)].url}/score"
            try:
                async with session.post(url, data=load.bodies[number % len(load.bodies)], headers=JSON) as answer:
                    reply = await answer.json()
                    if answer.status == 200:
                        times.append(1e3 * (time.perf_counter() - due))
                        reads[reply["read"]] = reads.get(reply["read"], 0) + 1
                        return
            except aiohttp.ClientConnectionError:
                continue
            except (aiohttp.ClientError, TimeoutError):
                break
        failed += 1

    await asyncio.gather(*(one(number) for number in range(int(load.rate * load.seconds))))
    return Times(sorted(times), failed, reads)


JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def serving(instances: Sequence[Instance]) -> AsyncIterator[aiohttp.ClientSession]:
    """The instances, up, and a client; all are stopped at the end."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        try:
            for instance in instances:
                instance.start()
            for instance in instances:
                await instance.ready(session)
            yield session
        finally:
            for instance in instances:
                instance.stop()


def registered(uri: str, bundles: Sequence[Path]) -> MlflowClient:
    """A registry with a version of the product for each bundle, the first one champion."""
    quiet()
    client = MlflowClient(uri, uri)
    client.create_registered_model(PRODUCT)
    for bundle in bundles:
        client.create_model_version(PRODUCT, str(bundle), tags={BUNDLE: sha256_tree(bundle)})
    client.set_registered_model_alias(PRODUCT, CHAMPION, "1")
    return client


async def under_change(
    session: aiohttp.ClientSession, two: Sequence[Instance], load: Load, client: MlflowClient
) -> Times:
    """A load during which the alias moves to version 2 and each instance is ended by SIGTERM and started anew."""

    async def disturb() -> None:
        await asyncio.sleep(load.seconds * 0.15)
        await asyncio.to_thread(client.set_registered_model_alias, PRODUCT, CHAMPION, "2")
        for instance in two:
            await asyncio.sleep(load.seconds * 0.1)
            assert await instance.ready(session) == "2", "an instance kept the old version"
            await asyncio.to_thread(instance.stop)
            instance.start()
            await instance.ready(session)
        for instance in two:
            assert await instance.ready(session) == "2", "an instance came up with the old version"

    times, _ = await asyncio.gather(run(session, two, load), disturb())
    return times


async def skew(session: aiohttp.ClientSession, instance: Instance, load: Workload, bundle: Path) -> float:
    """Largest difference of a score over HTTP, from a history and from a state, to the model's own on arrays."""
    engine, worst = Engine(bundle, "offline"), 0.0
    for stored in (False, True):
        for row, body in enumerate(bodies(load, SLATE, stored, seed=3)):
            slate = torch.tensor([[int(item) for item in json.loads(body)["candidates"]]])
            with torch.inference_mode():
                mask = np.ones((1, load.items.shape[1]), bool)
                one = History.of(HistoryArrays(load.items[row : row + 1], load.ages[row : row + 1], mask))
                wanted = torch.sigmoid(engine.model(one, slate))[0]
            async with session.post(f"{instance.url}/score", data=body, headers=JSON) as answer:
                scores = torch.tensor((await answer.json())["scores"])
            worst = max(worst, float((scores - wanted).abs().max()))
    return worst


async def measure(home: Path, seconds: float) -> tuple[list[tuple[Load, Times]], dict[str, float]]:
    """All loads, and what is measured beside them."""
    long, short = (Workload.make(USERS, length, 1, seed=0) for length in (10_000, 1_000))
    first, second, uri = home / "first", home / "second", f"sqlite:///{home / 'mlflow.db'}"
    make_bundle(first, long, 0)
    make_bundle(second, long, 1)
    client = registered(uri, (first, second))
    settings = {
        "serve": {**CALM, "states": f"sqlite:{home / 'states.db'}"},
        "mlflow": {"tracking_uri": uri},
        "promotion": {"product": PRODUCT},
    }
    (home / "params.yaml").write_text(yaml.safe_dump(settings))
    engine = Engine(first, "first")
    rate, state_bytes = fill(SQLiteStates(home / "states.db"), engine, long)
    two, loads = [Instance(home), Instance(home)], list[tuple[Load, Times]]()
    async with serving(two[:1]) as session:
        for load in (
            Load("state, 500 candidates", 20, bodies(long, SLATE, True, 1), seconds),
            Load("state, 2,048 candidates", 10, bodies(long, WIDE, True, 1), seconds),
            Load("history of 1,000, 500 candidates", 10, bodies(short, SLATE, False, 1), seconds),
            Load("history of 10,000, 500 candidates", 10, bodies(long, SLATE, False, 1), seconds),
            Load("history of 1,000, 2,048 candidates", 5, bodies(short, WIDE, False, 1), seconds),
            Load("history of 10,000, 2,048 candidates", 5, bodies(long, WIDE, False, 1), seconds),
        ):
            await run(session, two[:1], Load("warm", load.rate, load.bodies, 1))
            loads.append((load, await run(session, two[:1], load)))
        worst = await skew(session, two[0], long, first)
    async with serving(two) as session:
        known, while_changing = bodies(long, SLATE, True, 1), 3 * seconds
        load = Load("state, 500 candidates; alias and both instances change", 20, known, while_changing)
        loads.append((load, await under_change(session, two, load, client)))
    extended, anew = extend_us(home / "votes", long)
    beside = {
        "extend_us": round(extended),
        "votes_encode_us": round(anew),
        "state_bytes": round(state_bytes),
        "encode_ms": round(encode_ms(engine, long), 2),
        "skew_max": worst,
        "users_per_second": round(rate, 1),
        "score_users_per_second": round(score_rate(engine, Workload.make(BULK, 100, 1, seed=0)), 1),
    }
    return loads, beside


def page(loads: list[tuple[Load, Times]], beside: dict[str, float], command: str) -> str:
    """The page."""
    head = ["requests", "per second", "answered", "failed", "p50, ms", "p95, ms", "p99, ms"]
    rows = []
    for load, times in loads:
        quantiles = [f"{times.at(share):.1f}" for share in (0.5, 0.95, 0.99)]
        rows.append([load.name, f"{load.rate:g}", f"{len(times.ms):,}", str(times.failed), *quantiles])
    lines = [
        "# Serving: requests over HTTP",
        "",
        f"`{command}` on {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}; the client too.",
        "",
        "HiSAC with 200 agents over 100,000 items, one process with one thread; histories of 10,000 events unless said",
        "otherwise. Requests come at fixed times; a time is from when a request was due to its whole answer.",
        "",
        *table(head, rows),
        "",
        f"A state has {beside['state_bytes']:,} bytes. From a stored history of 10,000 events to a state takes",
        f"{beside['encode_ms']:.1f} ms alone; {beside['users_per_second']:,.0f} users a second are encoded in groups.",
        f"An event goes into a state of votes in {beside['extend_us']:,} µs; its history of 10,000 events anew takes",
        f"{beside['votes_encode_us']:,} µs.",
        f"`hisac-lab score` ranks {beside['score_users_per_second']:,.0f} users a second on one thread: {CATALOG:,}",
        "candidates, the best 100 of each, histories of 100 events.",
        f"Scores over HTTP, from histories and states, are off the model's own by {beside['skew_max']:.1g} at most.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures, and prints the page and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="of each load; three times as many under change")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    (ROOT / ".work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".work") as folder:
        loads, beside = asyncio.run(measure(Path(folder), options.seconds))
    text = page(loads, beside, "python benchmarks/serve.py --write")
    print(text)
    if options.write:
        PAGE.write_text(text)
    print(json.dumps({
        "p99_ms": round(loads[0][1].at(0.99), 2),
        "p99_2048_ms": round(loads[1][1].at(0.99), 2),
        "failed": sum(times.failed for _, times in loads),
        **beside,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
