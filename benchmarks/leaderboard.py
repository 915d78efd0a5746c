"""The whole graph on another data set: a file of settings in, a report out.

    python benchmarks/leaderboard.py long-world [--write]

Takes benchmarks/leaderboards/NAME.yaml, settings that differ from the defaults or, where it names another such file in
`like`, from that one, and runs the project's own graph with them in .work/leaderboards/NAME, a copy of this working
tree. A second start goes on where the first one stopped. With --write the report goes to reports/leaderboards/NAME.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hisac_lab.cli.params import defaults

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "benchmarks" / "leaderboards"


def merged(base: Any, changes: Any) -> Any:
    """`changes` laid over `base`, mapping by mapping; `models` is replaced as a whole."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {
        key: value if key == "models" and isinstance(value, dict) else merged(base.get(key), value)
        for key, value in changes.items()
    }


def settings(name: str) -> dict[str, Any]:
    """All settings of a leaderboard."""
    changes = yaml.safe_load((SETTINGS / f"{name}.yaml").read_text())
    like = changes.pop("like", None)
    base = yaml.safe_load(defaults()) if like is None else settings(like)
    found: dict[str, Any] = merged(base, changes)
    return found


def copy_project(folder: Path) -> None:
    """Brings the copy up to this working tree; files that did not change keep their times."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if not source.is_file() or name in ("dvc.lock", "params.yaml") or name.startswith(("tests/", "reports/")):
            continue
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], cwd=folder, check=True)


def run_graph(folder: Path, chosen: dict[str, Any], targets: Sequence[str] = (), cores: str = "all") -> None:
    """The project's graph in a copy of this working tree, up to some outputs or to its end.

    Args:
        folder: Of the copy; made, or brought up to this working tree.
        chosen: Settings.
        targets: Outputs, relative to the folder; none: all.
        cores: As Snakemake takes it.

    Raises:
        SystemExit: The graph did not end well.
    """
    copy_project(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src")}
    command = ["snakemake", "--cores", cores, *targets]
    code = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if code:
        sys.exit(f"{folder}: the graph ended with {code}; its logs are in {folder / 'logs'}")


def main() -> None:
    """Copies, sets, runs and, when asked, keeps the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(path.stem for path in SETTINGS.glob("*.yaml")))
    parser.add_argument("--cores", default="all")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder = ROOT / ".work" / "leaderboards" / options.name
    run_graph(folder, settings(options.name), cores=options.cores)
    report = (folder / "reports" / "report.md").read_text()
    command = f"python benchmarks/leaderboard.py {options.name} --write"
    lines = [f"<!-- Made by `{command}` from benchmarks/leaderboards/{options.name}.yaml -->", "", report]
    if options.write:
        kept = ROOT / "reports" / "leaderboards" / f"{options.name}.md"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("\n".join(lines))
        print(f"report: {kept.relative_to(ROOT)}")
    else:
        print(f"report: {folder / 'reports' / 'report.md'}")


if __name__ == "__main__":
    main()
