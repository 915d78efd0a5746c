"""What a billion events a day, 100 million users and 100 million items would cost, from costs that were measured.

    python benchmarks/scale_plan.py [--events-per-day 1e9] [--users 1e8] [--items 1e8] [--write]

Reads the tables of reports/scale.md (events) and reports/scale-items.md (items). A stage costs what it costs on the
smallest log, and so much for each further event, item or shard, by the largest run. Runs between the two check the
formula: predicted against measured. Nothing is run. With --write the page goes to reports/scale-plan.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pages import table

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError

REPORTS = Path(__file__).parents[1] / "reports"
EVENTS_PER_SHARD = 2_500_000
EVENT_BYTES = 57  # of the event store, by scale.md
USER_BYTES = 52  # an id of 16 letters and its end, hash and number in the vocabulary; hash and number at the end
GIB = float(1 << 30)
SHARD_ITEM_BYTES = 48  # four counts and the offsets of two series, int64
LARGE_DISK = 1024.0  # GiB
ROW_BYTES = 64 * 4  # of a vector of 64 float32


@dataclass(frozen=True)
class Line:
    """What one stage took at one size.

    Attributes:
        size: Events or items.
        cpu: CPU seconds.
        memory: MiB.
    """

    size: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Cost:
    """What a stage costs: at the smallest size, and for each unit beyond it.

    Attributes:
        least: The smallest size, where the start-up is measured.
        cpu: CPU seconds of each further unit.
        memory: MiB of each further unit.
    """

    least: Line
    cpu: float
    memory: float

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Cost:
        """By the smallest and the largest size of one stage."""
        first, last = lines[0], lines[-1]
        more = last.size - first.size
        return cls(first, (last.cpu - first.cpu) / more, max(last.memory - first.memory, 0) / more)

    def at(self, size: float) -> Line:
        """Predicted at another size."""
        more = size - self.least.size
        return Line(size, self.least.cpu + self.cpu * more, self.least.memory + self.memory * more)


Stages = dict[str, list[Line]]
"""What was measured, by stage, sizes rising."""


def read(path: Path, head: str, columns: tuple[int, int, int, int]) -> Stages:
    """The lines of a table by stage, sizes rising.

    Args:
        path: The page.
        head: How the table's first line begins.
        columns: Where size, stage, CPU seconds and MiB stand.

    Raises:
        UserError: The page is missing, has no such table, or one of fewer than three sizes.
    """
    if not path.exists():
        raise UserError(path, "does not exist", f"run python benchmarks/{path.stem.replace('-', '_')}.py --write")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in path.read_text().splitlines()]
    begin = next((at for at, row in enumerate(rows) if "|".join(row).startswith(head)), None)
    if begin is None:
        raise UserError(path, f"has no table that begins with {head!r}", "make the page anew")
    found: Stages = {}
    for row in rows[begin + 2 :]:
        if len(row) <= max(columns):
            break
        size, name, cpu, memory = (row[at] for at in columns)
        numbers = (float(word.replace(",", "")) for word in (size, cpu, memory))
        found.setdefault(name, []).append(Line(*numbers))
    for name, lines in found.items():
        if len(lines) < 3:
            what = f"has {len(lines)} sizes of the stage {name!r}"
            raise UserError(path, what, "three are the least: two for the formula, one to check it")
    return found


def check(title: str, measured: Stages, memory: bool) -> list[str]:
    """The sizes between the smallest and the largest: predicted against measured; MiB where they grow with the size."""
    rows = []
    for name, lines in measured.items():
        cost = Cost.of(lines)
        for line in lines[1:-1]:
            told = cost.at(line.size)
            mib = [f"{told.memory:,.0f} / {line.memory:,.0f}"] * memory
            rows.append([f"{line.size:,.0f}", name, f"{told.cpu:,.1f} / {line.cpu:,.1f}", *mib])
    return table([title, "stage", "CPU s, predicted / measured", *["MiB, predicted / measured"] * memory], rows)


def plan(by_events: Stages, by_items: Stages, events: float, items: float) -> list[str]:
    """What each stage takes at these sizes: a table, largest memory last."""
    shards = math.ceil(events / EVENTS_PER_SHARD)
    rows = []
    for name, lines in by_items.items():
        per_item = Cost.of(lines)
        cpu, memory = per_item.at(items).cpu, per_item.at(items).memory
        if name in by_events:
            per_event = Cost.of(by_events[name])
            cpu += per_event.cpu * events
            if name == "shard":  # every shard counts over all items
                cpu += (shards - 1) * per_item.cpu * items
        rows.append((memory, [name, f"{cpu / 3600:,.1f}", f"{memory / 1024:,.1f}", "yes" if name == "shard" else "no"]))
    return table(
        ["stage", "CPU hours", "GiB of one process", "spread over machines"],
        [row for _, row in sorted(rows, key=lambda entry: entry[0])],
    )


def resources(by_events: Stages, by_items: Stages, events: float, users: float, items: float) -> list[str]:
    """Machines, disk and hours at these sizes, and what breaks first: a table and a line below."""
    memory = {name: Cost.of(lines).at(items).memory / 1024 for name, lines in by_items.items()}
    worst = max(memory, key=lambda name: memory[name])
    hours = Cost.of(by_events["ingest"]).cpu * events / 3600
    shards = math.ceil(events / EVENTS_PER_SHARD)
    between = shards * items * SHARD_ITEM_BYTES / GIB
    first = f"the memory of `{worst}`, {memory[worst]:,.0f} GiB in one process"
    if between > LARGE_DISK:
        first = "the disk between `shard` and `prepare`, which grows with items times shards: take larger shards"
    rows = [
        ["largest process", f"{memory[worst]:,.1f} GiB", f"`{worst}`"],
        ["ids of users in `ingest`", f"{users * USER_BYTES / GIB:,.1f} GiB", f"{USER_BYTES} bytes each, counted"],
        ["longest pass over the events", f"{hours:,.1f} hours", "`ingest`, one process"],
        ["shards, side by side", f"{shards:,}", f"of {EVENTS_PER_SHARD:,} events"],
        ["disk: the event store", f"{events * EVENT_BYTES / GIB:,.0f} GiB", f"{EVENT_BYTES} bytes per event"],
        ["disk: counts of shards", f"{between:,.0f} GiB", f"{SHARD_ITEM_BYTES} bytes per item and shard"],
        ["disk: vectors of items", f"{4 * items * ROW_BYTES / GIB:,.0f} GiB", "4 copies of 64 numbers: log to embed"],
    ]
    return [
        *table(["what", "how much", "of which"], rows),
        "",
        f"**What breaks first:** {first}.",
        f"Next is `ingest`: it reads all events in one process, {24 / hours:,.1f} such days in a day.",
    ]


def report(by_events: Stages, by_items: Stages, events: float, users: float, items: float) -> list[str]:
    """The page as lines of Markdown."""
    words = f"--events-per-day {events:g} --users {users:g} --items {items:g}"
    return [
        "# Cost of scale on paper",
        "",
        f"`python benchmarks/scale_plan.py {words} --write`:",
        f"{events:,.0f} events a day, {users:,.0f} users, {items:,.0f} items. **Nothing of this size was run.**",
        "Costs per event are those of [scale.md](scale.md), per item those of [scale-items.md](scale-items.md), on one",
        "core of the machine that is named there.",
        "",
        "## One day's log",
        "",
        *plan(by_events, by_items, events, items),
        "",
        *resources(by_events, by_items, events, users, items),
        "",
        "## The formula against measured runs",
        "",
        "A stage costs what it costs at the smallest size and, for each unit beyond it, what the largest run says. The",
        "sizes between were not used for it.",
        "",
        *check("events", {name: lines for name, lines in by_events.items() if name in by_items}, memory=False),
        "",
        *check("items", by_items, memory=True),
    ]


def main() -> None:
    """Reads the pages and writes the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events-per-day", type=float, default=1e9)
    parser.add_argument("--users", type=float, default=1e8)
    parser.add_argument("--items", type=float, default=1e8)
    parser.add_argument("--write", action="store_true", help="write reports/scale-plan.md")
    options = parser.parse_args()
    try:
        by_events = read(REPORTS / "scale.md", "events|step", (0, 1, 3, 4))
        by_items = read(REPORTS / "scale-items.md", "items|stage", (0, 1, 3, 4))
    except UserError as error:
        raise SystemExit(f"scale-plan: error: {error}") from error
    lines = report(by_events, by_items, options.events_per_day, options.users, options.items)
    print("\n".join(lines))
    if options.write:
        write_file(REPORTS / "scale-plan.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
