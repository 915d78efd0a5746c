"""Two dvc.lock's compared: which outputs are equal, where the runs part, and what else differs there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml

from hisac_lab.base.errors import UserError

HASHES = ("md5", "etag", "checksum")
ABSENT = "absent"


@dataclass(frozen=True)
class Entry:
    """What a lock says of one stage.

    Attributes:
        command: The command line.
        settings: Values by dotted name.
        deps: Path to hash.
        outs: Path to hash.
    """

    command: str
    settings: Mapping[str, Any]
    deps: Mapping[str, str | None]
    outs: Mapping[str, str | None]


Lock = Mapping[str, Entry]


@dataclass(frozen=True)
class Difference:
    """A stage whose outputs differ.

    Attributes:
        stage: DVC's name of it.
        first: Whether the stages that it reads are equal: the runs part here.
        settings: Name to its values in this and that lock; the command line counts as one.
        code: Files and folders of code that differ.
        data: Other dependencies that differ and that no stage makes.
        inputs: Outputs of other stages that differ.
        reads: Outputs of other stages that it depends on.
    """

    stage: str
    first: bool
    settings: dict[str, tuple[str, str]]
    code: list[str]
    data: list[str]
    inputs: list[str]
    reads: list[str]

    @property
    def reason(self) -> str:
        """The likely one: settings, code, data, upstream or arithmetic.

        A stage that reads nothing of the graph reads from outside of it, where data may differ.
        """
        causes = {"settings": self.settings, "code": self.code, "data": self.data, "upstream": self.inputs}
        return next((name for name, part in causes.items() if part), "arithmetic" if self.reads else "data")


@dataclass(frozen=True)
class Comparison:
    """Two locks beside each other; stages in the order of the graph.

    Attributes:
        outputs: How many outputs there are in both.
        equal: Stages with equal outputs.
        differing: The others that are in both.
        only_this: Stages that only the first lock has.
        only_that: Stages that only the second lock has.
    """

    outputs: int
    equal: list[str]
    differing: list[Difference]
    only_this: list[str]
    only_that: list[str]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.differing or self.only_this or self.only_that)


def parse(text: str, where: str) -> Lock:
    """Reads the text of a dvc.lock.

    Raises:
        UserError: It is none.
    """
    try:
        stages = yaml.safe_load(text)["stages"]
        return {
            name: Entry(
                command=str(stage["cmd"]),
                settings=_flat(dict(stage.get("params") or {})),
                deps=_hashes(stage.get("deps", ())),
                outs=_hashes(stage.get("outs", ())),
            )
            for name, stage in stages.items()
        }
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(where, "this is not what DVC writes to dvc.lock", "name a whole one") from error


def compare(this: Lock, that: Lock) -> Comparison:
    """Compares stage by stage, in the order of the graph that both locks span.

    Raises:
        UserError: The stages depend on each other in a circle.
    """
    above = _above({**that, **this})
    try:
        order = _sorted(above)
    except CycleError as error:
        raise UserError("dvc.lock", f"stages go in a circle ({' '.join(error.args[1])})", "name a whole one") from error
    both = [name for name in order if name in this and name in that]
    differ = {name for name in both if this[name].outs != that[name].outs}
    equal = [name for name in both if name not in differ]
    return Comparison(
        outputs=sum(len(this[name].outs) for name in equal),
        equal=equal,
        differing=[_difference(name, not above[name] & differ, this, that) for name in both if name in differ],
        only_this=[name for name in order if name not in that],
        only_that=[name for name in order if name not in this],
    )


def _difference(name: str, first: bool, this: Lock, that: Lock) -> Difference:
    one, other = this[name], that[name]
    values = [{"command": entry.command, **entry.settings} for entry in (one, other)]
    outputs = {path for lock in (this, that) for entry in lock.values() for path in entry.outs}
    differing = [path for path in _union(one.deps, other.deps) if one.deps.get(path) != other.deps.get(path)]
    reads = [path for path in _union(one.deps, other.deps) if any(_touch(path, out) for out in outputs)]
    code = [path for path in differing if path not in reads and (path.startswith("src/") or path.endswith(".py"))]
    return Difference(
        stage=name,
        first=first,
        settings={
            key: (str(values[0].get(key, ABSENT)), str(values[1].get(key, ABSENT)))
            for key in _union(*values)
            if values[0].get(key, ABSENT) != values[1].get(key, ABSENT)
        },
        code=code,
        data=[path for path in differing if path not in reads and path not in code],
        inputs=[path for path in differing if path in reads],
        reads=reads,
    )


def _above(lock: Lock) -> dict[str, set[str]]:
    """Stage to the stages whose outputs it reads."""
    return {
        name: {
            other
            for other, made in lock.items()
            if other != name and any(_touch(dep, out) for dep in entry.deps for out in made.outs)
        }
        for name, entry in lock.items()
    }


def _sorted(above: Mapping[str, set[str]]) -> list[str]:
    """Stages in the order of the graph; those that may stand in any order by name."""
    sorter, order = TopologicalSorter(above), []
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order


def _touch(dep: str, out: str) -> bool:
    """Whether one path is the other, or lies below it."""
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")


def _union(*mappings: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key for part in mappings for key in part))


def _hashes(ends: Any) -> dict[str, str | None]:
    return {end["path"]: next((str(end[kind]) for kind in HASHES if kind in end), None) for end in ends}


def _flat(files: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name; those of another file than params.yaml carry its name."""
    flat: dict[str, Any] = {}

    def add(value: Any, name: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, entry in value.items():
                add(entry, f"{name}.{key}" if name else str(key))
        else:
            flat[name] = value

    for file, settings in files.items():
        add(settings, "" if file == "params.yaml" else file)
    return flat
