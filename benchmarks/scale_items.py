"""Catalogs of 1 and 10 million items from the log to the codebook: time and memory of every stage.

    python benchmarks/scale_items.py [--items 1000000 10000000] [--memory 8] [--by supplied] [--write] [--resume]

Each size is a made-up log of 400,000 events, a table of items with texts and categories, and vectors. The graph's own
stages run on it one after the other under a limit of their own memory (RLIMIT_DATA: what no file stands behind). Memory
that grows with the items is told from what a stage takes on the smallest catalog. The page is whole after every size;
with --write it is reports/scale-items.md. Needs about 1.5 GB of disk below .work/ for each million items.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import catalog
import ours
from pages import BEGUN, Outcome, Page, one_line
from usage import Usage

from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "scale-items.md"
SMALLEST = 20_000
CODES = ("embed", "tokenize", "codebook")
"""Stages that make the codes of the items of what was prepared."""
MILLION, MIB = 1_000_000, 1 << 20
TITLE = "Stage by stage"
NOTES = (
    "A process's own memory is what no file stands behind; it is looked at ten times a second, and the limit is the",
    "kernel's (RLIMIT_DATA). Pages of mapped files come and go as memory allows. The last column is beyond the catalog",
    f"of {SMALLEST:,} items.",
)
COLUMNS = ("items", "stage", "wall s", "CPU s", "own MiB", "with mapped files", "own MiB per million items")


@dataclass(frozen=True)
class Run:
    """One size.

    Attributes:
        items: Items of the catalog.
        stages: What each stage took; `shard` is one process, with all events.
    """

    items: int
    stages: dict[str, Usage]


def measure(items: int, home: Path, by: str, seed: int) -> Run:
    """Makes a catalog below `home`, runs all stages on it, and removes it.

    Raises:
        UserError: A stage fails, for want of memory for one.
    """
    folder = home / str(items)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        say(f"{items:,} items: the log")
        catalog.write_log(folder / "log", items, seed)
        log = {"path": "log/events.parquet", "items_path": "log/items.parquet", "vectors_path": "log/vectors.npy"}
        codes: dict[str, Any] = {
            "embed": {"method": by},
            "tokenize": {"widths": [min(256, max(16, items // 5_000))] * 3},
        }
        ours.write_params(
            folder,
            acquire={"dataset": "own", **log},
            prepare={"shards": [0], "history": "all", "columns": {"text": ["title"], "fields": ["category"]}},
            **codes,
        )
        ours.stage(folder, "acquire")
        shutil.rmtree(folder / "log")
        say(f"{items:,} items: ingest, shard, prepare")
        stages = {name.split()[0]: used for name, used in ours.prepare(folder, (0,)).items()}
        for name in CODES:
            say(f"{items:,} items: {name}")
            stages[name] = ours.stage(folder, name)
        return Run(items, stages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def row_of(items: int, stage: str, used: Usage, least: float | None) -> list[str]:
    """One row of the table; `least` is the MiB of its own that the stage takes on the smallest catalog."""
    more = "" if least is None else f"{(used.own / MIB - least) / ((items - SMALLEST) / MILLION):,.0f}"
    return [
        f"{items:,}",
        stage,
        f"{used.wall:,.1f}",
        f"{used.cpu:,.1f}",
        f"{used.own / MIB:,.0f}",
        f"{used.peak / MIB:,.0f}",
        more,
    ]


def outcome(run: Run, numbers: Mapping[str, float]) -> Outcome:
    """What the page keeps of a run.

    Args:
        run: The run.
        numbers: MiB of its own of each stage on the smallest catalog; empty: it is that one.
    """
    rows = [row_of(run.items, name, used, numbers.get(name)) for name, used in run.stages.items()]
    own = {name: used.own / MIB for name, used in run.stages.items()}
    return {"rows": rows, "numbers": {} if numbers else own}


def make(options: argparse.Namespace) -> bool:
    """Measures every size that the page has not, smallest first; whether all ended well."""
    limit = int(options.memory * (1 << 30))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    words = f"--items {' '.join(map(str, options.items))} --memory {options.memory:g} --by {options.by} --write"
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}."
    head = [
        "# Scale in items",
        "",
        f"`python benchmarks/scale_items.py {words}`: made-up logs of {catalog.EVENTS:,} events;",
        f"items have a text, a category and {catalog.WIDTH} numbers; semantic IDs have three levels.",
        machine,
    ]
    page = Page(REPORT if options.write else options.home / "scale-items.md", head, machine, options.resume)
    sizes = {f"{items:,} items": items for items in (SMALLEST, *sorted(options.items))}
    page.plan(TITLE, NOTES, COLUMNS, list(sizes))
    for cell in page.open(TITLE):
        page.put(TITLE, cell, BEGUN)
        try:
            run = measure(sizes[cell], options.home, options.by, options.seed)
        except UserError as error:
            page.put(TITLE, cell, {"failed": one_line(error)})
            continue
        page.put(TITLE, cell, outcome(run, page.numbers))
    page.close()
    print("\n".join(page.lines()))
    return not page.named("failed")


def main() -> None:
    """Measures every size and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--memory", type=float, default=8, help="GiB of its own that a process may take")
    parser.add_argument("--by", choices=["supplied", "text"], default="supplied", help="embed.method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, default=ROOT / ".work" / "bench" / "items", help="where catalogs are made")
    parser.add_argument("--resume", action="store_true", help="go on with the page of a run that was stopped")
    parser.add_argument("--write", action="store_true", help="write reports/scale-items.md")
    options = parser.parse_args()
    if min(options.items) <= SMALLEST:
        what = f"{min(options.items)} items are too few"
        error = UserError("scale_items.py", what, f"name more than {SMALLEST}", "--items")
        raise SystemExit(f"scale-items: error: {error}")
    raise SystemExit(not make(options))


if __name__ == "__main__":
    main()
