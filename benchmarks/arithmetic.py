"""What portable arithmetic costs, and which of its settings matter on this processor.

    python benchmarks/arithmetic.py [--write]

First the demo (one seed, two trials), stage by stage, in portable and in native arithmetic: CPU seconds on the same
inputs. Then one training of HiSAC and the golden losses of every model, with one setting of `arithmetic.PORTABLE` taken
away at a time: what it costs and whether bytes change. With --write the page goes to reports/arithmetic.md.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "src")]

import plain  # noqa: E402

from hisac_lab.base import arithmetic  # noqa: E402
from hisac_lab.base.artifacts import sha256_tree  # noqa: E402

TRAINED = "train@hisac-0"
WITHOUT = """
import os, runpy, sys
import hisac_lab
from hisac_lab.base import arithmetic
for name in sys.argv[1].split(","):
    arithmetic.PORTABLE.pop(name)
    os.environ.pop(name)
sys.argv = sys.argv[2:]
sys.path.insert(0, "tests")
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
SHORTER = {
    "mlflow.mirror": False,
    "experiment.seeds": [0],
    "sweep.trials": 2,
    "sweep.round_size": 2,
    "sweep.finalist_seeds": 1,
}
SETTINGS = [name for name in arithmetic.PORTABLE if name not in arithmetic.THREADS]
THREADS = ",".join(arithmetic.THREADS)


def run(folder: Path, *command: str) -> tuple[float, str]:
    """CPU seconds of a command, all its processes together, and what it said.

    Raises:
        SystemExit: It failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in arithmetic.PORTABLE}
    environment |= {"PYTHONPATH": str(folder / "src"), "HISAC_LAB_THREADS": "1"}
    environment.pop(arithmetic.MODE, None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = answer.stdout + answer.stderr
    if answer.returncode and "pytest" not in command:
        raise SystemExit(f"{' '.join(command)} ended with {answer.returncode}:\n{said[-3000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def stage(command: list[str]) -> list[str]:
    """The command of dvc.yaml as a module, so that it runs with this Python."""
    return ["-m", "hisac_lab.cli.main", *command[1:]]


def shorter(text: str, kind: str) -> str:
    """params.yaml for a short run with this arithmetic."""
    chosen = yaml.safe_load(text)
    for key, value in {**SHORTER, "compute.arithmetic": kind}.items():
        section, _, name = key.partition(".")
        chosen[section][name] = value
    return str(yaml.safe_dump(chosen, sort_keys=False))


def prices(folder: Path) -> tuple[list[str], dict[str, tuple[float, float]]]:
    """CPU seconds of every stage of the demo: portable, native. Outputs of the portable run stay.

    Returns:
        Rows of a table, and the seconds of each stage with the instances of a matrix added up.
    """
    seconds: dict[str, tuple[float, float]] = {}
    params = folder / "params.yaml"
    portable, native = shorter(params.read_text(), "portable"), shorter(params.read_text(), "native")
    os.chdir(folder)
    for address, command in plain.commands().items():
        params.write_text(native)
        slow = run(folder, *stage(command))[0]
        params.write_text(portable)
        fast = run(folder, *stage(command))[0]
        kind = address.partition("@")[0]
        kind = f"{kind} {address.partition('@')[2].rpartition('-')[0]}".strip() if kind == "train" else kind
        before = seconds.get(kind, (0.0, 0.0))
        seconds[kind] = (before[0] + fast, before[1] + slow)
    rows = [f"| {name} | {one:.1f} | {two:.1f} | {one / two - 1:+.0%} |" for name, (one, two) in seconds.items()]
    return rows, seconds


def without(folder: Path, names: str) -> tuple[float, bool, str]:
    """The training and the golden losses without these settings: CPU seconds, whether its bytes are equal, losses."""
    command = plain.commands()[TRAINED]
    out = folder / "artifacts" / "train" / TRAINED.partition("@")[2]
    kept = sha256_tree(out)
    spare = out.with_name("spare")
    shutil.move(out, spare)
    taken = [names, "hisac_lab.cli.main", *command[1:]] if names else None
    seconds = run(folder, *(["-c", WITHOUT, *taken] if taken else stage(command)))[0]
    equal = sha256_tree(out) == kept
    shutil.rmtree(out)
    shutil.move(spare, out)
    tests = ["pytest", "-q", "-p", "no:cacheprovider", "tests/golden/test_losses.py", "-k", "golden_ones"]
    said = run(folder, *(["-c", WITHOUT, names, *tests] if names else ["-m", *tests]))[1]
    failed = len(re.findall(r"^FAILED", said, re.MULTILINE))
    return seconds, equal, f"{failed} of {len(list((ROOT / 'tests' / 'golden').glob('*.json')))}"


def main() -> None:
    """Measures, prints the page, and writes it when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="hisac-lab-arithmetic-"))
    folder = home / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    rows, seconds = prices(folder)
    one, two = (sum(seconds[name][at] for name in seconds if name.startswith("train ")) for at in (0, 1))
    taken = {names: without(folder, names) for names in ["", *SETTINGS, THREADS]}
    shutil.rmtree(home)
    base = taken[""][0]
    lines = [
        "# Portable arithmetic",
        "",
        "`python benchmarks/arithmetic.py --write` on an "
        f"{arithmetic.cpuinfo().get('model name', 'unknown processor').strip()}. CPU seconds of the demo's stages with",
        "one seed and two trials, start-up included, both arithmetics on the same inputs.",
        "",
        "| stage | portable | native | price |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Training, all models and seeds: **{one / two - 1:+.0%}**.",
        "",
        f"What each setting is for: `{TRAINED}` and the golden losses of every model with the setting taken away.",
        "",
        "| without | CPU seconds | bytes of the weights | golden losses that differ |",
        "|---|---|---|---|",
        *(
            f"| {names.replace(',', ', ') or 'nothing'} | {cost:.1f} ({cost / base - 1:+.0%}) "
            f"| {'equal' if equal else 'differ'} | {golden} |"
            for names, (cost, equal, golden) in taken.items()
        ),
        "",
        "A setting that changes nothing in these two holds other code to what all processors have:",
        "OpenBLAS the tokenizers', oneDNN GELU. `tests/flow/test_processors.py` plays such processors.",
    ]
    print("\n".join(lines))
    if options.write:
        (ROOT / "reports" / "arithmetic.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
