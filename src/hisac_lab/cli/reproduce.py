"""`hisac-lab reproduce`: where two runs part, and why."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.base.machines import MachineRecord
from hisac_lab.cli import machine
from hisac_lab.cli.locks import Comparison, Difference, Lock, compare, parse
from hisac_lab.cli.paths import LOCK, RECORDS

PINS = Path("constraints.txt")
LONGEST = 60  # characters of a value of a setting


def reproduce(this: str, that: str, as_json: bool) -> bool:
    """Prints the comparison of two locks, each a file or a git revision.

    Returns:
        Whether all outputs are equal.

    Raises:
        UserError: There is no such file or revision, or it is no dvc.lock.
    """
    locks = read(this), read(that)
    comparison = compare(*locks)
    reasons = {difference.stage: explain(difference, locks) for difference in comparison.differing}
    if as_json:
        differences = [
            asdict(difference) | {"reason": difference.reason, "likely": reasons[difference.stage]}
            for difference in comparison.differing
        ]
        sides = {"this": this, "that": that, "same": comparison.same}
        print(json.dumps(sides | asdict(comparison) | {"differing": differences}, indent=2))
    elif comparison.same:
        print(f"all {comparison.outputs} outputs equal")
    else:
        _show(this, that, comparison, reasons)
    return comparison.same


def read(side: str) -> Lock:
    """The lock in a file, or at a git revision.

    Raises:
        UserError: There is none, or it is no dvc.lock.
    """
    path = Path(side)
    if path.is_file():
        try:
            return parse(path.read_bytes().decode(errors="replace"), side)
        except OSError as error:
            raise explain_os_error(error, path) from error
    if path == LOCK:
        raise UserError(side, "does not exist", "run the graph first, or name another file or a git revision")
    if shutil.which("git") is None:
        raise UserError(side, "is no file, and there is no git to ask for a revision", "name a dvc.lock")
    if _git("rev-parse", "--git-dir") is None:
        raise UserError(side, "is no file, and this folder is in no git repository", "name a dvc.lock")
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{side}^{{commit}}")
    if commit is None:
        raise UserError(side, "is neither a file nor a git revision", "name a dvc.lock, a commit, a branch or a tag")
    text = _git("show", f"{commit.strip()}:./{LOCK}")
    if text is None:
        raise UserError(side, f"has no {LOCK}", f"name a revision with a committed {LOCK}")
    return parse(text, f"{side}:{LOCK}")


def explain(difference: Difference, locks: tuple[Lock, Lock]) -> str:
    """The likely reason of a difference, in words."""
    match difference.reason:
        case "settings":
            return f"other settings: {', '.join(difference.settings)}"
        case "code":
            return f"other code: {', '.join(difference.code)}"
        case "data" if difference.data:
            return f"other data: {', '.join(difference.data)}"
        case "data":
            clues = "; ".join(_clues(difference.stage, locks))
            return f"another raw log, which lies outside the graph; or, in a simulated world, arithmetic: {clues}"
        case "upstream" if difference.first:
            alone = "one of the runs is unfinished, or a stage is in one of them alone"
            return f"it read other inputs, {', '.join(difference.inputs)}, though the stages above are equal: {alone}"
        case "upstream":
            return f"other inputs: {', '.join(difference.inputs)}"
        case _:
            return f"processor, libraries or arithmetic: {'; '.join(_clues(difference.stage, locks))}"


def clues(record: MachineRecord, pins: dict[str, str]) -> list[str]:
    """What in a record may have cost equal bytes.

    Args:
        record: Of the machine that made the output.
        pins: Package to version in constraints.txt.
    """
    listed = []
    if record.arithmetic != "portable":
        listed.append(f"arithmetic was {record.arithmetic} here ({record.native_because})")
    if record.gpu:
        listed.append(f"computed on a GPU here ({record.gpu})")
    for name, version in record.versions.items():
        if name in pins and version.split("+")[0] != pins[name]:
            listed.append(f"{name} is {version} here, {PINS} says {pins[name]}")
    if not listed:
        machine_here = f"{record.processor.model}, glibc {record.versions['glibc']}"
        listed.append(
            f"here arithmetic was portable and the libraries those of {PINS} ({machine_here}); "
            f"compare {RECORDS}/{record.stage}.json of both machines"
        )
    return listed


def _clues(stage: str, locks: tuple[Lock, Lock]) -> list[str]:
    """What is known of the machine that made the output that is here, if one of the two locks speaks of it."""
    here = read(str(LOCK)).get(stage) if LOCK.exists() else None
    if here is None or here.outs not in [lock[stage].outs for lock in locks]:
        return [f"neither output is here, so {RECORDS} knows nothing of them"]
    record = machine.record_of(stage)
    return clues(record, _pins()) if record else [f"the output here was {machine.UNKNOWN}"]


def _pins() -> dict[str, str]:
    lines = PINS.read_text().splitlines() if PINS.exists() else []
    pairs = [line.partition("==") for line in lines if "==" in line]
    return {name.strip().lower(): version.strip() for name, _, version in pairs}


def _show(this: str, that: str, comparison: Comparison, reasons: dict[str, str]) -> None:
    print(f"this is {this}, that is {that}")
    names = {
        "equal": comparison.equal,
        "differ": [difference.stage for difference in comparison.differing],
        "only this": comparison.only_this,
        "only that": comparison.only_that,
    }
    for head, listed in names.items():
        if listed:
            print(f"{head:<10} {', '.join(listed)}")
    for difference in comparison.differing:
        if difference.first:
            print(f"\nthe runs part at {difference.stage}")
            _show_first(difference)
            print(f"  {'likely':<9} {reasons[difference.stage]}")
    below = [
        f"{difference.stage}: {reasons[difference.stage]}"
        for difference in comparison.differing
        if difference.settings and not difference.first
    ]
    if below:
        print("\nbelow, also", *below, sep="\n  ")


def _show_first(difference: Difference) -> None:
    inputs = f"differ: {', '.join(difference.inputs)}" if difference.inputs else f"equal: {', '.join(difference.reads)}"
    print(f"  {'inputs':<9} {inputs if difference.reads else 'none from the graph'}")
    for head, listed in (
        (
            "settings",
            [f"{name}: {_short(one)}, that {_short(other)}" for name, (one, other) in difference.settings.items()],
        ),
        ("code", difference.code),
        *([("data", difference.data)] if difference.data else []),
    ):
        print(f"  {head:<9} {', '.join(listed) if listed else 'equal'}")


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 3]}..."


def _git(*words: str) -> str | None:
    """What git prints; None when it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout if done.returncode == 0 else None
