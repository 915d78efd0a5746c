"""Progress of long steps: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")
PLAIN_EVERY_SECONDS = 10.0


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.1f} {self.unit}/s")


def say(message: str) -> None:
    """One plain line on standard error; workflow/job.py passes it on to the terminal that started the graph."""
    print(message, file=sys.stderr, flush=True)


def track(
    items: Iterable[Item], total: int, what: str, unit: str, done: int = 0, note: Callable[[], str] | None = None
) -> Iterator[Item]:
    """Yields `items` and shows how far, how fast and how long still.

    Args:
        items: What is worked through.
        total: How many there are, `done` included.
        what: The step's name.
        unit: What is counted, in the plural.
        done: How many were finished before a resume.
        note: What else to show, asked for whenever something is shown.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total, completed=done, note="")
            for item in items:
                yield item
                bar.update(task, advance=1, note=note() if note else "")
    else:
        start = last = time.monotonic()
        for count, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - last >= PLAIN_EVERY_SECONDS and done + count < total:
                rate, last = count / (now - start), now
                left = (total - done - count) / rate
                more = f", {note()}" if note else ""
                say(f"{what}: {done + count:,} of {total:,} {unit}, {rate:,.1f} {unit}/s, {left:,.0f} s left{more}")
    say(f"{what}: {total:,} {unit} done" + (f", {note()}" if note and total > done else ""))
