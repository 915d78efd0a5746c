"""Everything this project wants to know of a GPU, in one run of at most eight minutes.

    make gpu          or, with a torch of the system's own:  PYTHONPATH=src python benchmarks/gpu.py

The bounds of the card, the GPU tests, training in bf16, HiSAC's routing in several forms checked against the reference,
votes and gathers, scoring from a cached state. Every cell of a table is guarded: what fails is one line of
reports/gpu.md, the next cell goes on, and the exit code is 1. The page is written after each cell; `--resume` goes on
where a run was stopped, which the script does by itself after an error that leaves the device unusable. Each section
has a share of the time, and the page names what there was no time for. `--rehearse` runs it all on a processor with
small sizes. The last line printed is JSON.

On a machine without network `--fetch 3.12` is run beforehand elsewhere: it brings wheels of the small packages that a
usual image with torch lacks to .work/gpu/wheels, for that version of Python; they are found there and used.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "gpu.md"
WORK = ROOT / ".work" / "gpu"
PACKAGES = {"pydantic": "pydantic", "rich": "rich", "threadpoolctl": "threadpoolctl", "yaml": "pyyaml"}
"""What models import beside torch, NumPy, SciPy, pandas and pyarrow, and what it is called in a registry."""
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
GRACE = 0.25  # of a section's time, for the cell that is running when it is over
BEGIN = time.monotonic()
LEAST = 10.0  # seconds with which a run goes on in a new process


def fetch(version: str) -> None:
    """Downloads wheels of `PACKAGES` for a Python version on Linux, those that were tested together."""
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
               "--python-version", version, *platforms, "-c", str(ROOT / "constraints.txt"), "-d", str(WORK / "wheels"),
               *PACKAGES.values()]  # fmt: skip
    subprocess.run(command, check=True)


def bring() -> None:
    """Installs what is missing from the wheels, where there are any, beside the packages of this Python."""
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    wheels, site = WORK / "wheels", WORK / "site"
    if not missing or not wheels.is_dir():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
               "--find-links", str(wheels), "--target", str(site), "--upgrade", *missing]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        print(f"gpu: {', '.join(missing)} could not be installed from {wheels}", file=sys.stderr)
    sys.path.append(str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(site)]))


def head(device: str, minutes: float) -> list[str]:
    """What the page says first: the card, versions, the date."""
    import torch
    from gpu_kernel import RUNS_ON
    from machine import driver, nominal

    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, kernel by {RUNS_ON}"
    versions += f", Python {platform.python_version()}"
    command = "`python benchmarks/gpu.py" + (" --rehearse`" if device == "cpu" else "`")
    if device == "cpu":
        where = f"a rehearsal on a processor ({platform.machine()}) with small sizes: no number below says anything"
        return ["# On a GPU", "", f"{command}, {today}: {where}; {versions}."]
    card, properties = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0)
    known = nominal(card)
    sheet = "not known here"
    if known:
        sheet = f"{known.arithmetic / 1e12:,.0f} TFLOP/s of bf16, {known.bandwidth / 1e12:.2f} TB/s"
    return [
        "# On a GPU",
        "",
        f"{command}, {today}, {minutes:g} minutes at most: {card}, {properties.total_memory / 2**30:,.0f} GiB,"
        f" {properties.multi_processor_count} multiprocessors,",
        f"driver {driver()}, {versions}. Nominal: {sheet}.",
    ]


def run(options: argparse.Namespace, begin: float, sections: Sequence[object] | None = None) -> int:
    """Runs all sections from the time `begin` on and gives the exit code."""
    import torch
    from gpu_lab import Absent, Lab, OutOfTime, Section, limit
    from gpu_routes import broken
    from pages import BEGUN, Outcome, Page, one_line

    end = begin + 60 * options.minutes
    device = "cpu" if options.rehearse else "cuda"
    machine = "a processor" if options.rehearse else torch.cuda.get_device_name()
    page = Page(options.page, head(device, options.minutes), machine, options.resume)
    lab = Lab(device, page)
    parts = [part for part in (every() if sections is None else sections) if isinstance(part, Section)]
    for part in parts:
        page.plan(part.title, part.notes, part.columns, list(part.cells))
    page.write()

    def outcome(part: Section, name: str, seconds: float) -> Outcome:
        """A cell's outcome, whatever happens in it."""
        try:
            with limit(seconds):
                return part.cells[name](lab)
        except OutOfTime:
            return {"late": f"after {seconds:.0f} s"}
        except Absent as error:
            return {"absent": str(error)}
        except ModuleNotFoundError as error:
            hint = f" ({PACKAGES[error.name]} is one of those that --fetch brings)" if error.name in PACKAGES else ""
            return {"absent": f"no {error.name} here{hint}"}
        except Exception as error:  # noqa: BLE001 - one cell that fails costs no other
            return {"failed": one_line(error)}

    for at, part in enumerate(parts):
        lab.kept.clear()
        share = part.share / sum(later.share for later in parts[at:])
        seconds = max(0.0, end - time.monotonic()) * share
        lab.until = time.monotonic() + seconds
        for name in page.open(part.title):
            if lab.left <= 0:
                break
            print(f"gpu: {part.title}: {name}", file=sys.stderr, flush=True)
            page.put(part.title, name, BEGUN)
            result = outcome(part, name, min(lab.left + GRACE * seconds, end - time.monotonic()))
            page.put(part.title, name, result)
            if "failed" in result or "late" in result:
                print(f"gpu: {result}", file=sys.stderr, flush=True)
            if "failed" in result and broken():
                again(options, end - time.monotonic())
            if lab.device == "cuda" and any(word in result for word in ("failed", "absent")):
                gc.collect()
                torch.cuda.empty_cache()
    page.close()
    failed = page.named("failed")
    numbers = {name: float(f"{value:.4g}") for name, value in page.numbers.items() if not math.isnan(value)}
    left = [f"{part.title}: {name}" for part in parts for name in page.open(part.title)]
    print(json.dumps({
        "seconds": round(time.monotonic() - begin, 1), "failed": failed, "absent": page.named("absent"),
        "not_run": page.named("late") + left, **numbers,
    }))  # fmt: skip
    return 1 if failed else 0


def again(options: argparse.Namespace, seconds: float) -> None:
    """Goes on in a new process: this one can no longer use the device."""
    if seconds < LEAST:
        return
    print("gpu: the device is unusable for this process; a new one goes on", file=sys.stderr, flush=True)
    sys.stdout.flush()
    arguments = ["--minutes", f"{seconds / 60:.3f}", "--page", str(options.page), "--resume"]
    os.execv(sys.executable, [sys.executable, __file__, *arguments])


def every() -> list[object]:
    """All sections, in the order they run."""
    from gpu_lab import BOUNDS
    from gpu_memory import MEMORY
    from gpu_models import SCORING, TESTS, TRAINING
    from gpu_routes import ROUTING

    return [BOUNDS, TESTS, TRAINING, ROUTING, MEMORY, SCORING]


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all")
    parser.add_argument("--rehearse", action="store_true", help="on a processor, with small sizes")
    parser.add_argument("--resume", action="store_true", help="go on with the page of a run that was stopped")
    parser.add_argument("--page", type=Path, help="where the page goes")
    parser.add_argument("--fetch", metavar="PYTHON", help="only bring wheels for this version of Python, as 3.12")
    options = parser.parse_args()
    if options.fetch:
        return fetch(options.fetch)
    if not options.minutes > 0:
        raise SystemExit(f"gpu: error: --minutes: {options.minutes:g} is not above zero; give more")
    options.page = options.page or (WORK / "rehearsal.md" if options.rehearse else REPORT)
    if options.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # the profiler's own remarks
    bring()
    import torch

    if options.rehearse:
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        raise SystemExit("gpu: error: torch sees no CUDA device; give --rehearse to run on the processor")
    raise SystemExit(run(options, BEGIN))


if __name__ == "__main__":
    main()
