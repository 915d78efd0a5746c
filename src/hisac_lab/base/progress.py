"""Progress of long steps: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")
PLAIN_EVERY_SECONDS = 10.0


def say(message: str) -> None:
    """One plain line on standard error; workflow/job.py passes it on to the terminal that started the graph."""
    print(message, file=sys.stderr, flush=True)


def counted(number: int, what: str) -> str:
    """So many of something: 1 trial, 1,200 trials."""
    return f"{number:,} {what}{'s' * (number != 1)}"


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
    if sys.stderr.isatty():
        with _bar(unit) as bar:
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


def _bar(unit: str) -> Progress:
    """An empty bar; only a terminal needs rich, which is slow to import."""
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

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.1f} {unit}/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
