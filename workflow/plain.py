"""Every stage of dvc.yaml, one after the other in this one process: without DVC, Snakemake or a cache.

    HISAC_LAB_THREADS=1 python workflow/plain.py

For a machine where starting a process is dear, as under an emulated processor, and for a debugger.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

HOLE = re.compile(r"\$\{([^}]+)\}")


def commands() -> dict[str, list[str]]:
    """Name of each stage, as DVC addresses its instances, to its command, in the order of dvc.yaml."""
    graph = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    params = yaml.safe_load(Path("params.yaml").read_text())
    commands_of = {}
    for name, stage in graph.items():
        matrix: dict[str, list[Any]] = {key: _fill(values, params) for key, values in stage.get("matrix", {}).items()}
        for values in itertools.product(*matrix.values()):
            item = dict(zip(matrix, values, strict=True))
            address = f"{name}@{'-'.join(map(str, values))}" if item else name
            commands_of[address] = shlex.split(str(_fill(stage["cmd"], params | {"item": item})))
    return commands_of


def _fill(text: Any, values: dict[str, Any]) -> Any:
    """`text` with `${dotted.path}` replaced; the value itself where the text is nothing else."""
    if not isinstance(text, str):
        return text

    def look_up(path: str) -> Any:
        return functools.reduce(operator.getitem, path.split("."), values)

    hole = HOLE.fullmatch(text)
    return look_up(hole[1]) if hole else HOLE.sub(lambda match: str(look_up(match[1])), text)


def main() -> None:
    """Runs all stages in the current folder."""
    from hisac_lab.cli.main import app

    for command in commands().values():
        app(command[1:], standalone_mode=False)


if __name__ == "__main__":
    main()
