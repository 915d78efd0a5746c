"""Commands about an own log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hisac_lab.base.errors import UserError

if TYPE_CHECKING:
    from hisac_lab.tables.check import Check
    from hisac_lab.tables.survey import Problem

ROLES = ("user", "item", "time", "label")
COLUMN = f"ROLE=COLUMN, the role one of {', '.join(ROLES)}"

KINDS = (
    "Problems: a run stops at each of them",
    "Left out by the settings below, and counted by a run",
    "Notes: no run stops at them",
)

app = typer.Typer(no_args_is_help=True, help="Look at an own log before anything runs.")


@app.callback()
def _group() -> None:
    """Keeps `check` a command of its own, though there is no other."""


@app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="The log: a file, or a folder of files with the same columns.")],
    items: Annotated[Path | None, typer.Option(help="The table of items.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Item vectors, .npy, one row per row of that table.")] = None,
    users: Annotated[Path | None, typer.Option(help="The table of users.")] = None,
    column: Annotated[list[str] | None, typer.Option(help=f"{COLUMN}, as label=verdict.")] = None,
    positive: Annotated[list[str] | None, typer.Option(help="A word of the feedback that is positive.")] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out rows that cannot be used, and events on items without a row.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the mapping into params.yaml, if no run stops.")] = False,
) -> None:
    """Say what a log holds and what is wrong with it, and print the mapping for params.yaml.

    Everything but the mapping is a comment. Exit code 1 when a run would stop.
    """
    from hisac_lab.tables.check import check

    named = dict(_column(text) for text in column or ())
    checked = check(path, items, vectors, users, named=named, positive=positive or (), drop=drop)
    print(render(checked), end="")
    if checked.stops and write:
        droppable = all(problem.setting for problem in checked.problems if problem.stops)
        hint = "mend it, or leave it out with --drop" if droppable else "mend it, or change params.yaml by hand"
        raise UserError(path, "a run would stop at it, so nothing is written", hint, "--write")
    if checked.stops:
        sys.exit(1)
    if write:
        print("\n".join(_write(checked)))


def _column(text: str) -> tuple[str, str]:
    """Role and column of `ROLE=COLUMN`."""
    role, _, name = text.partition("=")
    if role not in ROLES or not name:
        raise UserError("hisac-lab data check", f"{text!r} names no column", f"write {COLUMN}", "--column")
    return role, name


def _write(checked: Check) -> list[str]:
    """Puts the mapping into params.yaml; gives what it changed, as comments."""
    from hisac_lab.cli.settings import changes
    from hisac_lab.tables.check import proposal

    values: dict[str, Any] = {}
    for section, keys in proposal(checked).items():
        for key, value in keys.items():
            inner = {f"columns.{name}": entry for name, entry in value.items()} if key == "columns" else {key: value}
            values |= {f"{section}.{name}": entry for name, entry in inner.items()}
    changed = [line for line in changes(values) if not line.endswith("# as it was")]
    return ["", "# Written into params.yaml", *(f"# {line}" for line in changed)] if changed else [
        "", "# params.yaml says so already"]  # fmt: skip


def render(checked: Check) -> str:
    """The facts and problems as comments, the mapping as YAML."""
    from hisac_lab.tables.check import own_source, proposal

    lines = _facts(checked) if checked.survey.rows else []
    if checked.log is not None and checked.log.official is not None:
        lines.append(f"{'layout':<10}the official one of {checked.log.official}, which has a loader of its own")
    for head in KINDS:
        chosen = [problem for problem in checked.problems if _kind(problem) == head]
        lines += ["", head] if chosen else []
        for problem in chosen:
            lines += [f"  {line}" for line in problem.lines]
            if problem.count > len(problem.lines):
                lines.append(f"  ... and {problem.count - len(problem.lines):,} more like this")
    text = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    if checked.log is not None and (checked.survey.rows or checked.log.official):
        text += "\n# To paste into params.yaml, over the keys that are there\n" + _yaml(proposal(checked))
        if checked.log.official is not None and checked.log.has_header and checked.survey.rows:
            text += "# Or, as an own log with the columns above:\n# " + _yaml({"acquire": own_source(checked)})
    return text


def _kind(problem: Problem) -> str:
    stops, left_out, note = KINDS
    return stops if problem.stops else left_out if problem.setting else note


def _yaml(sections: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000))


def _facts(checked: Check) -> list[str]:
    import numpy as np

    from hisac_lab.tables.files import JSON_LINES

    log, survey = checked.log, checked.survey
    assert log is not None
    lengths = np.sort(survey.lengths[survey.lengths > 0])
    quantiles = {f"p{q}": lengths[int(q / 100 * (len(lengths) - 1))] for q in (10, 50, 90, 99)}
    form = "Parquet" if log.layout is None else f"text, separator {log.layout.separator!r}"
    form = "JSON lines" if log.layout == JSON_LINES else form
    begin, end = (str(np.datetime64(at, "s")).replace("T", " ") for at in (survey.first, survey.last))
    rows = [
        ("files", f"{len(checked.files):,}, {form}"),
        ("events", f"{survey.rows:,}"),
        ("users", f"{len(lengths):,}; events of one: " + ", ".join(f"{q} {n:,}" for q, n in quantiles.items())),
        ("items", f"{len(survey.items):,}"),
        ("time", f"{begin} to {end} UTC, written in {log.time_format}"),
        ("order", f"{survey.backwards:,} events are earlier than the event of the same user before them"),
        ("repeated", f"{survey.repeated:,} events (user, item and time again; looked for inside blocks of the file)"),
        ("feedback", _feedback(checked)),
        ("not read", ", ".join(log.unread) or "no column"),
    ]
    return [f"{head:<10}{text}" for head, text in rows]


def _feedback(checked: Check) -> str:
    labels, threshold = checked.survey.labels, checked.positive_from
    if not labels and checked.log is not None and checked.log.doubts:
        names = ", ".join(checked.log.doubts)
        return f"none is read, though {names} may be: see the notes; as it stands every event is a positive"
    if not labels:
        unread = checked.log is not None and checked.log.unread
        hint = "; if a column that is not read tells it: --column label=COLUMN" if unread else ""
        return f"none: every event is a positive, negatives are drawn{hint}"
    about = "" if checked.survey.labels_whole else "about "
    text = f"{min(labels):g} to {max(labels):g}, {about}{len(labels):,} levels"
    if threshold is None:
        return text
    share = sum(count for value, count in labels.items() if value >= threshold) / sum(labels.values())
    return f"{text}; {about}{share:.1%} of the events at or above {threshold:g}"
