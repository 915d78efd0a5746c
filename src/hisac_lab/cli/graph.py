"""`hisac-lab graph`: the code that each stage of dvc.yaml depends on, read from its imports.

A stage names every module that its entry imports, directly or not, file by file, so that an edit makes stale what runs
it and nothing else. A room that holds more than Python (templates) is named whole. A package's docstring is not named.
The stage `code` names whole the rooms that a model may import, so that it sees a new file.
"""

from __future__ import annotations

from pathlib import Path

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.code import OURS
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.cli.paths import GRAPH

PACKAGE = OURS.name
SOURCE = "src"
DOORS = {f"{PACKAGE}.base.stages", f"{PACKAGE}.cli.paths"}
"""These decide whether a stage starts and where it writes, never what it writes."""
ROOMS = "base codebook config events models ops sources tables tokens world".split()
"""The layers up to `models`."""
CODE = f"    - {SOURCE}/"


def write() -> bool:
    """Writes the lists of code into dvc.yaml; gives whether one has changed.

    Raises:
        UserError: There is no dvc.yaml here.
    """
    try:
        before = GRAPH.read_text()
    except OSError as error:
        raise explain_os_error(error, GRAPH) from error
    after = with_code(before)
    if after != before:
        write_file(GRAPH, after)
    return after != before


def with_code(text: str) -> str:
    """dvc.yaml with the code of each stage in place of what it lists; all else stays as it is.

    Raises:
        UserError: A stage without a list of dependencies.
    """
    head, *stages = _stages(text)
    return head + "".join(_with_code(stage) for stage in stages)


def code_of(stage: str) -> list[str]:
    """Paths of the code a stage runs, sorted: files, and rooms that hold more than Python."""
    paths = {f"{SOURCE}/{PACKAGE}/{room}" for room in ROOMS} if stage == "code" else set()
    for module in OURS.reached([f"{PACKAGE}.cli.stages.{stage}"]) - DOORS:
        path = OURS.file_of(module)
        room = OURS.home / path.relative_to(OURS.home).parts[0]
        if _relative(room) in paths or (path.name == "__init__.py" and path.read_text().count("\n") <= 1):
            continue
        paths.add(_relative(room if room.is_dir() and _holds_more_than_python(room) else path))
    return sorted(paths)


def _holds_more_than_python(room: Path) -> bool:
    folders = [entry for entry in room.iterdir() if entry.is_dir() and entry.name != "__pycache__"]
    return any(not list(folder.glob("*.py")) for folder in folders)


def _stages(text: str) -> list[str]:
    """The text in front of the stages, and each stage's."""
    sections, lines = [""], text.splitlines(keepends=True)
    for line in lines:
        if line.startswith("  ") and line[2:3].isalpha() and line.rstrip().endswith(":"):
            sections.append("")
        sections[-1] += line
    return sections


def _with_code(stage: str) -> str:
    name = stage.strip().partition(":")[0]
    lines = stage.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(CODE)]
    try:
        at = kept.index("    deps:\n") + 1
    except ValueError as error:
        raise UserError(GRAPH, "has no list", "write one, empty perhaps", f"stages.{name}.deps") from error
    while at < len(kept) and kept[at].startswith("    - "):
        at += 1
    return "".join([*kept[:at], *(f"    - {path}\n" for path in code_of(name)), *kept[at:]])


def _relative(path: Path) -> str:
    return f"{SOURCE}/{PACKAGE}/{path.relative_to(OURS.home).as_posix()}".removesuffix("/.")
