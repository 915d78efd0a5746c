"""Preparation of 1, 10 and 100 million events: time, memory and growth.

    python benchmarks/scale.py [--events 1000000 10000000 100000000] [--write]

Each size is the simulated world `huge` with as many users as it needs. The graph's own stages run on it one after the
other, one process and one thread each: ingest, every shard, prepare. What they cost on a world of 2,000 events is their
start-up (the interpreter, the 200,000 items); cost must grow linearly beyond it, and no process may take more than
8 GiB. With --write the tables go to reports/scale.md. Takes about a quarter of an hour and 14 GB of disk below .work/.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import ours
from usage import Usage

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "scale.md"
EVENTS_PER_USER = 1_000  # of the preset `huge`
EVENTS_PER_SHARD = 2_500_000
SMALLEST = 2 * EVENTS_PER_USER
MEMORY = 8 << 30
SPREAD = 0.25


@dataclass(frozen=True)
class Run:
    """One size.

    Attributes:
        events: Events of the world.
        shards: Parts its users were spread over.
        world: What making the world took; not part of the preparation.
        stages: What ingest, all shards and prepare took; seconds are sums, the peak is that of one process.
        size: Bytes of the event store.
    """

    events: int
    shards: int
    world: Usage
    stages: dict[str, Usage]
    size: int

    @property
    def cpu(self) -> float:
        """CPU seconds of the preparation."""
        return sum(one.cpu for one in self.stages.values())

    @property
    def wall(self) -> float:
        """Seconds of the preparation."""
        return sum(one.wall for one in self.stages.values())

    @property
    def peak(self) -> int:
        """Peak resident bytes of its largest process."""
        return max(one.peak for one in self.stages.values())

    def start_up(self, least: Run) -> float:
        """CPU seconds these processes need before the first event, from the smallest run's."""
        times = {"shard": self.shards / least.shards}
        return sum(one.cpu * times.get(name, 1) for name, one in least.stages.items())

    def rate(self, least: Run) -> float:
        """Events per CPU second beyond the start-up."""
        return (self.events - least.events) / (self.cpu - self.start_up(least))


def measure(events: int, home: Path, seed: int) -> Run:
    """Makes a world of `events` events below `home`, prepares it, and removes it.

    Raises:
        UserError: A stage fails.
    """
    folder = home / str(events)
    shutil.rmtree(folder, ignore_errors=True)
    shards = tuple(range(max(1, -(-events // EVENTS_PER_SHARD))))
    try:
        world = {"preset": "huge", "users": events // EVENTS_PER_USER, "seed": seed}
        ours.write_params(folder, acquire={"dataset": "world", "world": world}, prepare={"shards": list(shards)})
        say(f"{events:,} events: the world")
        made = ours.stage(folder, "acquire")
        say(f"{events:,} events: preparation, {len(shards)} shards")
        used = ours.prepare(folder, shards)
        parts = [used[f"shard {index}"] for index in shards]
        together = Usage(
            sum(one.wall for one in parts), sum(one.cpu for one in parts), max(one.peak for one in parts), ""
        )
        stages = {"ingest": used["ingest"], "shard": together, "prepare": used["prepare"]}
        return Run(events, len(shards), made, stages, ours.folder_bytes(folder / "artifacts" / "prepare"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(runs: list[Run], least: Run, command: str) -> tuple[list[str], bool]:
    """The page as lines of Markdown, and whether both promises hold."""
    rates = [run.rate(least) for run in runs]
    spread = 1 - min(rates) / max(rates)
    peak = max(run.peak for run in runs)
    holds = peak <= MEMORY and spread <= SPREAD
    lines = [
        "# Scale",
        "",
        f"`{command}`: simulated worlds of {EVENTS_PER_USER:,} events per user, every event a sample, prepared by the",
        "stages ingest, shard (one process after the other) and prepare, one thread each.",
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}.",
        "",
        "| events | shards | wall s | CPU s | events per CPU-s | beyond the start-up | peak MiB | bytes per event |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run, rate in zip(runs, rates, strict=True):
        lines.append(
            f"| {run.events:,} | {run.shards} | {run.wall:,.1f} | {run.cpu:,.1f} | {run.events / run.cpu:,.0f} "
            f"| {rate:,.0f} | {run.peak / 2**20:,.0f} | {run.size / run.events:.1f} |"
        )
    lines += ["", "| events | step | wall s | CPU s | peak MiB |", "|---|---|---|---|---|"]
    for run in [least, *runs]:
        for name, used in {"make the world": run.world, **run.stages}.items():
            lines.append(f"| {run.events:,} | {name} | {used.wall:,.1f} | {used.cpu:,.1f} | {used.peak / 2**20:,.0f} |")
    lines += [
        "",
        f"Peak resident memory of one process, mapped file pages included: {peak / 2**30:.2f} GiB; at most "
        f"{MEMORY / 2**30:.0f} GiB: **{'yes' if peak <= MEMORY else 'NO'}**.",
        f"Events per CPU-second beyond the start-up differ by {spread:.0%}; at most {SPREAD:.0%}: "
        f"**{'yes' if spread <= SPREAD else 'NO'}**. The start-up is what each process costs on {SMALLEST:,} events.",
    ]
    return lines, holds


def main() -> None:
    """Measures every size and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, default=ROOT / ".work" / "bench" / "scale", help="where worlds are made")
    parser.add_argument("--write", action="store_true", help="write reports/scale.md")
    options = parser.parse_args()
    try:
        for events in options.events:
            if events % EVENTS_PER_USER or events <= SMALLEST:
                what = f"{events} is no multiple of {EVENTS_PER_USER} above {SMALLEST}"
                raise UserError("scale.py", what, "name whole users", "--events")
        least, *runs = [measure(events, options.home, options.seed) for events in (SMALLEST, *options.events)]
    except UserError as error:
        raise SystemExit(f"scale: error: {error}") from error
    named = " ".join(["python benchmarks/scale.py", "--events", *map(str, options.events), "--write"])
    lines, holds = report(runs, least, named)
    print("\n".join(lines))
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
