"""What `make demo` says at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from hisac_lab.abtest.records import NO_VERDICT, ABTests
from hisac_lab.base.machines import MachineRecord
from hisac_lab.base.progress import counted
from hisac_lab.cli import machine, origin, running
from hisac_lab.cli.paths import ARTIFACTS, REPORTS, TIMINGS
from hisac_lab.evaluation.records import ModelScores, Scores, Seconds, Timings
from hisac_lab.events.records import Prepared
from hisac_lab.sweep.records import Swept
from hisac_lab.tokens.records import Tokenized


def show() -> None:
    """Prints the results, which machine made them, and what to do next."""
    if (process := running.other()) is not None:
        print(f"a run (process {process}) works here: what follows is of before it, or of both\n")
    data, tokens = Prepared.open(ARTIFACTS.prepare), Tokenized.open(ARTIFACTS.tokenize)
    sweeps = [Swept.open(path) for path in ARTIFACTS.sweeps()]
    models, tests = Scores.open(ARTIFACTS.evaluate).models, ABTests.open(ARTIFACTS.abtest)
    seconds = Timings.read(TIMINGS).models if TIMINGS.exists() else {}
    quality = tokens.quality
    results = [
        ("data", f"{data.events:,} events, {data.users:,} users, {data.items:,} items; {data.negatives}"),
        (
            "tokens",
            f"{quality.ids:,} semantic IDs in {tokens.depth} levels, {quality.collision_rate:.1%} of items share",
        ),
        *(
            (
                "sweep",
                f"{one.model}: {counted(one.trials, 'trial')}, {len(one.front)} on the front, "
                f"chosen: trial {one.chosen}",
            )
            for one in sweeps
        ),
        *(
            (head, text)
            for name, entry in models.items()
            for head, text in zip((name, ""), _result(entry, _tested(name, tests), seconds.get(name)), strict=True)
        ),
    ]
    steps = [
        ("report", f"{REPORTS / 'report.html'} (twin: {REPORTS / 'report.md'})"),
        ("MLflow", "source .venv/bin/activate && hisac-lab ui    at http://127.0.0.1:5000"),
        ("promote", "source .venv/bin/activate && hisac-lab promote    each gate answers"),
    ]
    width = max(len(head) for head, _ in results + steps) + 2
    for head, text in results:
        print(f"{head:<{width}}{text}")
    print()
    show_machines(machine.records())
    print()
    if line := origin.changed():
        print(f"{'log':<{width}}{line}")
    for head, text in steps:
        print(f"{head:<{width}}{text}")


def show_machines(records: Mapping[str, MachineRecord | None]) -> None:
    """One line a stage, its instances together; what is the same for all, and outputs of unknown machines, below."""
    by_stage: dict[str, list[MachineRecord]] = {}
    for name, record in records.items():
        if record:
            by_stage.setdefault(name.partition("@")[0], []).append(record)
    made = [(record.arithmetic, record.processor.model) for record in records.values() if record]
    differ = len(set(made)) > 1
    table = Table("stage", "started (UTC)", "seconds", "CPU seconds", "peak MB", *(["made by"] if differ else []))
    table.box, table.pad_edge = None, False
    for column in table.columns[2:5]:
        column.justify = "right"
    for stage, each in by_stage.items():
        table.add_row(
            f"{stage} ({len(each)})" if len(each) > 1 else stage,
            min(record.started for record in each)[:19].replace("T", " "),
            f"{sum(record.seconds for record in each):,.1f}",
            f"{sum(record.cpu_seconds for record in each):,.1f}",
            f"{max(record.peak_mb for record in each):,}",
            *(["; ".join(sorted({f"{one.arithmetic}, {one.processor.model}" for one in each}))] if differ else []),
        )
    if by_stage:
        Console(width=None if sys.stdout.isatty() else 160).print(table)
        print("" if differ else f"all in {made[0][0]} arithmetic, by {made[0][1]}\n", end="")
    if unknown := [name for name, record in records.items() if record is None]:
        print(f"{machine.UNKNOWN}: {', '.join(unknown)}")


def _tested(name: str, tests: ABTests) -> str:
    """The verdict on a model, with its lift where there is one."""
    if name == tests.control:
        return "control of the A/B test"
    test = tests.tests.get(name)
    if test is None or test.verdict == NO_VERDICT:
        return f"A/B {NO_VERDICT}"
    return f"A/B {test.verdict}: {test.lift.low:+.2%} to {test.lift.high:+.2%}"


def _result(scores: ModelScores, tested: str, seconds: Seconds | None) -> tuple[str, str]:
    """A model in two lines: quality and state; the A/B test and the time on this machine."""
    low, high = scores.auc.interval
    quality = f"AUC {scores.auc.value:.4f} [{low:.4f}, {high:.4f}], {scores.cost.state_bytes:,.0f} bytes a user"
    said = [] if seconds is None else [f"{seconds.score_us_per_candidate:.1f} us a candidate here"]
    return quality, ", ".join([tested, *said])
