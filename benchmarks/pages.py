"""Pages of results as Markdown: tables, and a page that grows cell by cell and can be taken up again.

The page and what it is made of are written whole or not at all after every cell, so that a stop in the middle loses
the cell in hand and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hisac_lab.base.artifacts import write_file

BEGUN = "begun"
"""What is kept of a cell while it runs; found there later, the process ended in it."""
Outcome = dict[str, Any]
"""Of one cell, as JSON: `rows` of its table and `numbers` by name, or one line under `failed`, `absent` or `late`."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, its columns aligned for a terminal."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    line = "| " + " | ".join("-" * width for width in widths) + " |"
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *rows)
    ]
    return [lines[0], line, *lines[1:]]


class Page:
    """A page of sections, each a table of cells that are measured one after another.

    Args:
        path: The page; what it is made of stands beside it in a hidden JSON file until all is done.
        head: Lines above the sections.
        machine: What the numbers are of.
        resume: Goes on from that file, where there is one of the same machine. A cell that had only begun counts as
            failed, one that was stopped for want of time runs again.
    """

    def __init__(self, path: Path, head: Sequence[str], machine: str, resume: bool = False) -> None:
        self.path = path
        self.kept = path.with_name(f".{path.stem}.json")
        self.head, self.machine = list(head), machine
        self.sections: dict[str, dict[str, Any]] = {}
        found = json.loads(self.kept.read_text()) if resume and self.kept.exists() else {}
        if found.get("machine") != machine:
            return
        self.head = [*found["head"], "", "Stopped on the way, and taken up again."]
        self.sections = found["sections"]
        for section in self.sections.values():
            for name, outcome in section["cells"].items():
                if outcome == BEGUN:
                    section["cells"][name] = {"failed": "the process ended while this ran"}
                elif outcome and "late" in outcome:
                    section["cells"][name] = None

    def plan(self, title: str, notes: Sequence[str], columns: Sequence[str], cells: Sequence[str]) -> None:
        """Announces a section; cells that were measured before stay."""
        found = self.sections.get(title, {}).get("cells", {})
        kept = {name: found.get(name) for name in cells}
        self.sections[title] = {"notes": list(notes), "columns": list(columns), "cells": kept}

    def open(self, title: str) -> list[str]:
        """Cells of a section that nothing is known of."""
        return [name for name, outcome in self.sections[title]["cells"].items() if outcome is None]

    def put(self, title: str, cell: str, outcome: Outcome | str) -> None:
        """Keeps the outcome of a cell and writes the page."""
        self.sections[title]["cells"][cell] = outcome
        self.write()

    def write(self) -> None:
        """Writes the page, and what it is made of."""
        write_file(self.kept, json.dumps({"head": self.head, "machine": self.machine, "sections": self.sections}))
        write_file(self.path, "\n".join(self.lines()) + "\n")

    def close(self) -> None:
        """Writes the page for the last time; what it is made of goes, when nothing is left to do."""
        self.write()
        if not self.named("late") and not any(self.open(title) for title in self.sections):
            self.kept.unlink()

    def named(self, kind: str) -> list[str]:
        """Cells with this outcome, `failed`, `absent` or `late`, as "section: cell"."""
        return [f"{title}: {name}" for title, name, outcome in self._outcomes() if kind in outcome]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of all cells."""
        found: dict[str, float] = {}
        for _, _, outcome in self._outcomes():
            found |= outcome.get("numbers", {})
        return found

    def lines(self) -> list[str]:
        """The page."""
        lines = list(self.head)
        for title, part in self.sections.items():
            lines += ["", f"## {title}", "", *part["notes"]]
            lines += _body(part["columns"], part["cells"])
        return lines

    def _outcomes(self) -> list[tuple[str, str, Outcome]]:
        return [
            (title, name, outcome)
            for title, part in self.sections.items()
            for name, outcome in part["cells"].items()
            if isinstance(outcome, dict)
        ]


def one_line(error: BaseException) -> str:
    """An exception as one line: its kind and what it says, shortened."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:299] + "…"


def _body(columns: Sequence[str], cells: Mapping[str, Outcome | str | None]) -> list[str]:
    """The table of a section, a line for each cell without rows, and what was not run."""
    known = {name: outcome for name, outcome in cells.items() if isinstance(outcome, dict)}
    rows = [row for outcome in known.values() for row in outcome.get("rows", [])]
    lines = ["", *table(columns, rows)] if rows else []
    reasons: dict[str, list[str]] = {}
    for name, outcome in known.items():
        for kind, word in (("failed", "**failed**"), ("absent", "not run"), ("late", "stopped")):
            if kind in outcome:
                reasons.setdefault(f"{word}, {outcome[kind]}", []).append(name)
    remarks = [f"- {reason}: {'; '.join(names)}" for reason, names in reasons.items()]
    left = [name for name, outcome in cells.items() if not isinstance(outcome, dict)]
    if left:
        remarks.append(f"- not run yet, or no time was left: {'; '.join(left)}")
    return [*lines, "", *remarks] if remarks else lines
