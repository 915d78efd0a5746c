"""`hisac-lab models rebuild`: a version made again from its commit, and compared byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hisac_lab.base.artifacts import copy_tree, files_below, sha256_file, sha256_tree, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.base.stages import STAGES, Artifacts
from hisac_lab.cli.lineage import CODE, git
from hisac_lab.cli.paths import ARTIFACTS, CHAMPION, RECORDS, WORK
from hisac_lab.config.base import PARAMS_FILE, load_yaml
from hisac_lab.registry.origin import Change, Origin
from hisac_lab.registry.promotion import Promoter
from hisac_lab.registry.records import Evidence, Registered
from hisac_lab.registry.versions import MODEL, Version
from hisac_lab.sources.records import Acquired

ACQUIRED = ("path", "items_path", "users_path", "vectors_path")
PATHS = (*(("acquire", key) for key in ACQUIRED), ("embed", "model_path"))
"""Settings that lead to files outside of the graph."""
CHAMPIONS = "models.champion.digest"


def rebuild(promoter: Promoter, version: Version, into: Path | None, data: str | None) -> None:
    """Makes a version again in a clean folder, and compares its bundle.

    Args:
        promoter: The registry.
        version: One of its versions.
        into: A folder that is not there yet, and stays; None: one that goes when the bundles are equal.
        data: Raw files in place of those that `acquire.path` names.

    Raises:
        UserError: It cannot be made again, or a file differs; one line says which, and where the runs part.
    """
    name, model = f"{promoter.versions.product} version {version.version}", version.tags[MODEL]
    wanted, origin = promoter.versions.bundle(version), promoter.origin(version)
    if Evidence.open(wanted).appended:
        what = "it has items that were appended after its training, which no run makes"
        raise UserError(name, what, "rebuild the version that they were appended to")
    if origin is None:
        raise UserError(name, "nobody recorded its commit", "`hisac-lab sync` does, of the outputs that are here")
    if not origin.whole:
        hint = "commit the code, run the graph, then `hisac-lab sync`"
        raise UserError(name, f"its code is not all in commit {origin.commit[:12] or 'none, without git'}", hint)
    folder = into or WORK / "rebuild" / f"{promoter.versions.product}-{version.version}"
    home = _checkout(origin.commit, folder)
    _settle(home, origin, data, promoter)
    say(f"{name}: the graph of commit {origin.commit[:12]} runs in {home}, for the log see {home / 'logs'}")
    made = Artifacts(home / ARTIFACTS.root)
    _run(home, ARTIFACTS.acquire)
    if other := changes(origin.source.files, Acquired.open(made.acquire).files):
        what = f"raw files are not those of then: {', '.join(other)}"
        raise UserError(name, what, "name a folder with those of then by --data, see `hisac-lab models show`")
    _run(home, ARTIFACTS.register)
    if differing := differences(wanted, made.bundle(model)):
        parted = _parted(origin, Registered.open(made.register))
        raise UserError(name, f"not rebuilt: {', '.join(differing)}; {parted}", _clue(origin, home))
    print(f"{name} is rebuilt from commit {origin.commit[:12]}: every file of its bundle is equal")
    print(f"SHA-256 {sha256_tree(wanted)}" + (f", {made.bundle(model)}" if into else ""))
    if into is None:
        shutil.rmtree(folder)


def differences(one: Path, other: Path) -> list[str]:
    """How the files of two folders differ, in words; nothing where they are equal to the byte."""
    digests = (
        {path.relative_to(side).as_posix(): sha256_file(path) for path in files_below(side)} for side in (one, other)
    )
    return changes(*digests)


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has become of files, in words; digests by name."""
    told = []
    for name in sorted(then.keys() | now.keys()):
        if name not in then or name not in now:
            told.append(f"{name} is {'missing' if name in then else 'new'}")
        elif then[name] != now[name]:
            told.append(f"{name} differs")
    return told


def _run(home: Path, target: Path) -> None:
    """Runs the clone's graph up to an output."""
    command = [sys.executable, "-m", "snakemake", "--cores", "all", str(target)]
    if subprocess.run(command, cwd=home, env=_environment(home), stdout=sys.stderr, check=False).returncode:
        raise UserError(home, "its graph did not run to the end", "see its output above; the folder stays")


def _checkout(commit: str, folder: Path) -> Path:
    """The project at a commit in a new folder; gives the project's own folder in it."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError(folder, "is not empty", "remove it, or name another with --into")
    top, inside = git("rev-parse", "--show-toplevel"), git("rev-parse", "--show-prefix")
    if top is None or inside is None:
        raise UserError(Path.cwd(), "is in no git repository", "run it in the project's clone")
    if git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise UserError(Path.cwd(), f"has no commit {commit}", "fetch it from the clone that made the version")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for words in (
        ("clone", "--quiet", "--no-checkout", top.rstrip("\n"), str(folder)),
        ("-C", str(folder), "checkout", "--quiet", "--detach", commit),
    ):
        if git(*words) is None:
            raise UserError(folder, "git could not make a clone there", "see that it can be written")
    return (folder / inside.rstrip("\n")).resolve()


def _settle(home: Path, origin: Origin, data: str | None, promoter: Promoter) -> None:
    """Writes the version's settings into the clone, and what its graph reads from outside."""
    command = [sys.executable, "-m", "hisac_lab.cli.main", "params", "default"]
    done = subprocess.run(command, cwd=home, env=_environment(home), capture_output=True, text=True, check=False)
    if done.returncode:
        what = f"the code of that commit does not start ({(done.stderr.strip().splitlines() or ['no reason'])[-1]})"
        raise UserError(home, what, "install what it needs")
    settings = with_changes(load_yaml(done.stdout), origin.settings)
    if data is not None:
        settings["acquire"]["path"] = data
    for section, key in PATHS:
        if settings[section].get(key):
            settings[section][key] = str(Path(settings[section][key]).absolute())
    settings["mlflow"]["mirror"] = False
    write_file(home / PARAMS_FILE, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    if CHAMPIONS in origin.settings:
        digest = str(origin.settings[CHAMPIONS].value)
        champion = promoter.versions.by_digest(digest)
        if champion is None:
            what = f"was compared with the champion {digest[:12]}, which is not in the registry"
            raise UserError("registry", f"the version {what}", "bring that one back first")
        copy_tree(promoter.versions.bundle(champion), home / CHAMPION)


def with_changes(settings: dict[str, Any], changes: Mapping[str, Change]) -> dict[str, Any]:
    """Settings with others in place of their defaults; a model of another kind begins anew.

    Args:
        settings: All, nested; changed in place.
        changes: By dotted key.
    """
    for key in sorted(changes, key=lambda key: not key.endswith(".kind")):
        *above, last = key.split(".")
        place = settings
        for step in above[:-1] if last == "kind" else above:
            place = place.setdefault(step, {})
        if last == "kind":
            place[above[-1]] = {"kind": changes[key].value}
        elif "value" in changes[key].model_fields_set:
            place[last] = changes[key].value
        else:
            place.pop(last, None)
    return settings


def _environment(home: Path) -> dict[str, str]:
    """The clone's own code, and the tools of this environment."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": tools, "PYTHONPATH": str(home / CODE)}


def _parted(origin: Origin, made: Registered) -> str:
    """The first stage whose output differs."""
    differ = [stage for stage in STAGES if stage in origin.stages and origin.stages[stage] != made.stages.get(stage)]
    return f"the runs part at the stage {differ[0]}" if differ else "all stages above `register` are equal"


def _clue(origin: Origin, home: Path) -> str:
    """What may have cost equal bytes, as far as the environment tells."""
    from hisac_lab.base.machines import MachineRecord

    records = [MachineRecord.read(path) for path in sorted((home / RECORDS).glob("*.json"))]
    here = {name: version for record in records for name, version in record.versions.items()}
    then = origin.environment.versions
    other = [
        f"{name} is {here[name]}, was {then[name]}"
        for name in sorted(then)
        if here.get(name, then[name]) not in then[name]
    ]
    return f"{', '.join(other) or 'libraries are those of then'}; the folder {home} stays to be looked at"
