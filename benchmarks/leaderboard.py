"""The whole graph on another data set: a file of settings in, a report out.

    python benchmarks/leaderboard.py long-world [--write]
    python benchmarks/leaderboard.py long-world --sizes 0.008,0.03,0.1 [--write]
    python benchmarks/leaderboard.py movielens --values prepare.history=positives,all [--write]
    python benchmarks/leaderboard.py long-world --tune 8
    python benchmarks/leaderboard.py kuairand-27k --data /data/KuaiRand-27K [--write]

Takes benchmarks/leaderboards/NAME.yaml, settings that differ from the defaults or, where it names another such file in
`like`, from that one, and runs the project's own graph with them in .work/leaderboards/NAME, a copy of this working
tree. A second start goes on where the first one stopped. With --write the report goes to reports/leaderboards/NAME.md.

With --tune it tries the same number of settings for every model in the validation period, from the grid that the file
has under `tune`, and writes what it chose to benchmarks/leaderboards/NAME.tuned.yaml, which the board then reads (see
tuning.py).

With --sizes it runs the graph once for each share of the training requests (`prepare.keep.train`), with the file's
settings under `curve` laid over, which name the chief models, and puts their AUCs into one table; with --write that
goes to reports/leaderboards/NAME-sizes.md.

With --values it runs the graph up to the evaluation once for each value of one setting, with the same settings laid
over, and compares every chief model with itself at the first value, on the same test samples; with --write that goes to
reports/leaderboards/NAME-SETTING.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pages import table
from tuning import Trials, tune
from values import page

from hisac_lab.base.errors import UserError
from hisac_lab.cli.params import defaults
from hisac_lab.evaluation.records import SLATE, Scores, Timings
from hisac_lab.events.records import Prepared

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "benchmarks" / "leaderboards"


def names() -> list[str]:
    """The leaderboards."""
    return sorted(path.stem for path in SETTINGS.glob("*.yaml") if not path.name.endswith(".tuned.yaml"))


def merged(base: Any, changes: Any) -> Any:
    """`changes` laid over `base`, mapping by mapping; `models` is replaced as a whole."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {
        key: value if key == "models" and isinstance(value, dict) else merged(base.get(key), value)
        for key, value in changes.items()
    }


def settings(name: str, data: Path | None = None, *changes: dict[str, Any]) -> dict[str, Any]:
    """All settings of a leaderboard; what is tuned, of the models that it has.

    Args:
        name: Of the leaderboard.
        data: The download, where the data set has to be fetched by hand.
        changes: Laid over them, one after the other.
    """
    board = reduce(merged, changes, _written(name))
    if data is not None:
        board["acquire"]["path"] = str(data.resolve())
    for other in ("curve", "tune"):
        board.pop(other, None)
    tuned, models = board["experiment"].get("tuned", {}), board["experiment"]["models"]
    board["experiment"]["tuned"] = {model: own for model, own in tuned.items() if model in models}
    return board


def untuned(name: str, data: Path | None = None) -> dict[str, Any]:
    """The same with nothing tuned but the labels that controls learn from."""
    board = settings(name, data)
    return board | {"experiment": board["experiment"] | {"tuned": _labels(board["experiment"]["tuned"])}}


def _labels(tuned: dict[str, Any]) -> dict[str, Any]:
    """Of what is set for single models the labels: what they learn from is no choice of a tuning."""
    return {model: {"labels": own["labels"]} for model, own in tuned.items() if "labels" in own}


def settings_with(name: str, key: str, value: Any, data: Path | None = None) -> dict[str, Any]:
    """All settings of a leaderboard's chief models, with one of them, named like `prepare.history`, at a value.

    Raises:
        SystemExit: The leaderboard names no chief models.
    """
    change = value
    for part in reversed(key.split(".")):
        change = {part: change}
    return settings(name, data, _part(name, "curve", "name its chief models there"), change)


def settings_of_size(name: str, share: float, data: Path | None = None) -> dict[str, Any]:
    """`settings_with` a share of the training requests."""
    return settings_with(name, "prepare.keep.train", share, data)


def _part(name: str, key: str, hint: str) -> dict[str, Any]:
    """What a leaderboard has beside its settings."""
    found: dict[str, Any] | None = _written(name).get(key)
    if found is None:
        sys.exit(f"benchmarks/leaderboards/{name}.yaml has no `{key}`: {hint}")
    return found


def _written(name: str) -> dict[str, Any]:
    changes = yaml.safe_load((SETTINGS / f"{name}.yaml").read_text())
    like = changes.pop("like", None)
    base = yaml.safe_load(defaults()) if like is None else _written(like)
    written: dict[str, Any] = merged(base, changes)
    tuned = SETTINGS / f"{name}.tuned.yaml"
    if tuned.exists():  # in place of what the file says by hand: the trials were of a board with nothing tuned
        by_hand = written["experiment"]["tuned"]
        written["experiment"] = {**written["experiment"], "tuned": merged(Trials.read(tuned).tuned, _labels(by_hand))}
    return written


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


def run_sizes(name: str, shares: Sequence[float], cores: str, data: Path | None = None) -> list[str]:
    """Runs the chief models at every size, the smallest first; a page with AUCs, and with what they are ahead by."""
    cells: dict[str, list[str]] = {}
    gaps: dict[str, list[str]] = {}
    columns, chosen = ["model"], settings_of_size(name, max(shares), data)
    reference, seeds = chosen["evaluate"]["reference"], len(chosen["experiment"]["seeds"])
    for share in sorted(shares):
        folder = ROOT / ".work" / "leaderboards" / f"{name}-{share:g}"
        run_graph(folder, settings_of_size(name, share, data), cores=cores)
        scores = Scores.open(folder / "artifacts" / "evaluate")
        requests = Prepared.open(folder / "artifacts" / "prepare").splits["train"].requests
        columns.append(f"{requests:,} requests")
        for model, entry in scores.models.items():
            low, high = entry.auc.interval
            cells.setdefault(model, []).append(f"{entry.auc.value:.4f} [{low:.4f}, {high:.4f}]")
            low, high = entry.auc.difference_interval
            gaps.setdefault(model, []).append(f"{entry.auc.difference:+.4f} [{low:+.4f}, {high:+.4f}]")
    head = [
        f"# {name}: AUC by the number of training requests",
        "",
        f"Means over {seeds} seeds on the same test requests, 95 % intervals over users and seeds.",
        "",
    ]
    gaps.pop(reference, None)
    return [
        *head,
        *table(columns, [[model, *row] for model, row in cells.items()]),
        "",
        f"Less that of `{reference}`, paired.",
        "",
        *table(columns, [[model, *row] for model, row in gaps.items()]),
        "",
    ]


def run_values(name: str, key: str, values: Sequence[Any], cores: str, data: Path | None = None) -> list[str]:
    """Runs the chief models at every value of a setting, up to the evaluation; `values.page` of them.

    Raises:
        SystemExit: The values cannot be compared.
    """
    if len(values) < 2:
        sys.exit("leaderboard: error: --values wants SETTING=VALUE,VALUE: one setting, two values or more")
    folders = {}
    for value in values:
        folder = folders[str(value)] = ROOT / ".work" / "leaderboards" / f"{name}-{key}-{value}"
        run_graph(folder, settings_with(name, key, value, data), ("artifacts/evaluate",), cores)
    try:
        return page(f"# {name}: what `{key}` is worth", folders, _workers(cores))
    except UserError as error:
        sys.exit(f"leaderboard: error: {error}")


def _workers(cores: str) -> int:
    return (os.cpu_count() or 1) if cores == "all" else int(cores)


def run_board(name: str, cores: str, data: Path | None = None) -> list[str]:
    """Runs the whole leaderboard; its report, with the trials and with times of this machine."""
    folder = ROOT / ".work" / "leaderboards" / name
    run_graph(folder, settings(name, data), cores=cores)
    page = (folder / "reports" / "report.md").read_text().rstrip("\n").split("\n")
    return [*page, *trials_of(name), *times_of(folder), ""]


def trials_of(name: str) -> list[str]:
    """The table of the board's trials; nothing where nothing was tuned."""
    path = SETTINGS / f"{name}.tuned.yaml"
    if not path.exists():
        return []
    trials = Trials.read(path)
    titles = [", ".join(f"{key} {value}" for key, value in trial.items()) or "as the board" for trial in trials.trials]
    return [
        "",
        "## Tuning",
        "",
        f"AUC in the validation period, one seed, {len(titles)} trials for each model, the chosen one in bold.",
        "",
        *table(["model", *titles], trials.rows()),
    ]


def times_of(folder: Path) -> list[str]:
    """The table of measured times, which differ between machines."""
    timings = Timings.read(folder / "logs" / "timings.json")
    rows = [
        [
            name,
            f"{one.encode_us_per_request / 1e3:.2f}",
            f"{one.score_us_per_candidate:.2f}",
            f"{(one.encode_us_per_request + SLATE * one.score_us_per_candidate) / 1e3:.2f}",
        ]
        for name, one in timings.models.items()
    ]
    head = ["model", "encode, ms per request", "score, us per candidate", f"request of {SLATE} candidates, ms"]
    note = "Medians on the machine that made this page, one request at a time, of 100 candidates."
    return ["", "## Times", "", note, "", *table(head, rows)]


def run_tuning(name: str, number: int, cores: str, data: Path | None = None) -> Path:
    """Tries settings for every model of the leaderboard; the file of what was chosen."""
    folder, chosen = ROOT / ".work" / "leaderboards" / name, untuned(name, data)
    grid = _part(name, "tune", "give the values to try")
    run_graph(folder, chosen, ("artifacts/codebook", "artifacts/instances"), cores)
    path = SETTINGS / f"{name}.tuned.yaml"
    tune(folder, chosen, grid, number, _workers(cores)).write(
        path, f"python benchmarks/leaderboard.py {name} --tune {number}"
    )
    return path


def main() -> None:
    """Copies, sets, runs and, when asked, keeps the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=names())
    parser.add_argument("--cores", default="all")
    parser.add_argument("--data", type=Path, help="the download of a set that has to be fetched by hand")
    parser.add_argument("--sizes", metavar="SHARE,SHARE", help="shares of the training requests")
    parser.add_argument("--values", metavar="SETTING=VALUE,VALUE", help="values of one setting to compare")
    parser.add_argument("--tune", type=int, metavar="TRIALS", help="of each model, in the validation period")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.tune:
        print(f"tuned: {run_tuning(options.name, options.tune, options.cores, options.data).relative_to(ROOT)}")
        return
    name, command = options.name, f"python benchmarks/leaderboard.py {options.name}"
    if options.sizes:
        name, command = f"{name}-sizes", f"{command} --sizes {options.sizes}"
        lines = run_sizes(
            options.name, [float(share) for share in options.sizes.split(",")], options.cores, options.data
        )
    elif options.values:
        key, _, values = options.values.partition("=")
        name, command = f"{name}-{key}", f"{command} --values {options.values}"
        lines = run_values(options.name, key, yaml.safe_load(f"[{values}]"), options.cores, options.data)
    else:
        lines = run_board(options.name, options.cores, options.data)
    made = f"<!-- Made by `{command} --write` from benchmarks/leaderboards/{options.name}.yaml -->"
    kept = ROOT / ("reports" if options.write else ".work") / "leaderboards" / f"{name}.md"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("\n".join([made, "", *lines]))
    print(f"page: {kept.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
