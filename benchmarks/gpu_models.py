"""Models on the device: training in bf16, scoring from a cached state, and the project's GPU tests.

The models are imported in the cells, not above them: without a package that they need, the other sections still run.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gpu_lab import Absent, Lab, OutOfTime, Section, percent
from machine import peak_memory, settle, typical_seconds
from pages import Outcome
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from hisac_lab.models.contract import ItemSpace

ROOT = Path(__file__).parents[1]
LOG = ROOT / ".work" / "gpu" / "tests.log"
MODELS = ("hisac, events", "din, whole", "sim, code", "sam, 3P", "iat", "r2led")
"""Of `costs.MODELS`."""
LENGTHS = (10_000, 1_000)
REQUESTS, EVENTS = 256, 1 << 20  # of one training step at most
PASSES = 3  # forward, gradient of the vectors, gradient of the weights
TABLE_MOVES = 6  # of a table's numbers in a step: gradient written and read, weight and state read and written


def space_of(lab: Lab) -> ItemSpace:
    """The items, made once."""
    from workload import Workload

    space: ItemSpace = lab.keep("space", None, lambda: Workload.make(1, 1, 1, 0).space())
    return space


def train(lab: Lab, name: str, length: int) -> Outcome:
    """Steps of one model, the batch halved until it fits."""
    from workload import Workload

    requests = max(1, min(REQUESTS, EVENTS // length))
    if lab.small:
        requests, length = 4, length // 100
    while True:
        try:
            return steps(lab, name, Workload, requests, length)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if requests == 1:
                raise
            requests //= 2


def steps(lab: Lab, name: str, workload: Any, requests: int, length: int) -> Outcome:
    """Measures training steps of so many requests."""
    from costs import CANDIDATES, moved_bytes
    from costs import MODELS as SETTINGS
    from workload import ITEMS, ranker, trainer

    load, space = workload.make(requests, length, CANDIDATES, 0), space_of(lab)
    step = trainer(load, SETTINGS[name], lab.device, space, mixed=True)
    step()
    first = typical_seconds(step, lab.device, 1, 0)
    count = max(1, min(20, int(min(lab.left, 600) / 8 / first)))
    seconds = typical_seconds(step, lab.device, 2 if lab.small else count, 1)
    memory = peak_memory(step, lab.device)
    with FlopCounterMode(display=False) as counter:
        step()
    settle(lab.device)
    flops = counter.get_total_flops()
    model = ranker(load, SETTINGS[name], space)
    history = load.history(model)
    dim = model.backbone.dim
    moved = PASSES * moved_bytes(history, dim, 0, load.candidates.size) + TABLE_MOVES * 4 * (ITEMS + 1) * dim
    product, copy = lab.of_product(flops, seconds), lab.of_copy(moved, seconds)
    row = [
        name,
        f"{length:,}",
        f"{requests}",
        f"{load.labels.size / seconds:,.0f}",
        f"{seconds * 1e3:,.2f}",
        f"{memory / 2**20:,.0f}",
        f"{flops / seconds / 1e12:,.3f}",
        percent(product),
        f"{moved / seconds / 1e9:,.1f}",
        percent(copy),
    ]
    key = f"train_{name.split(',', maxsplit=1)[0]}_{length}"
    return {"rows": [row], "numbers": {f"{key}_samples_s": load.labels.size / seconds, f"{key}_mib": memory / 2**20}}


def score(lab: Lab, name: str, length: int) -> Outcome:
    """One user with 500 candidates, from the history and from the cached state, in bf16."""
    from costs import MODELS as SETTINGS
    from costs import SLATE, moved_bytes
    from serving import Serving, take_turns
    from workload import Workload, ranker

    from hisac_lab.evaluation.cost import request_macs

    length = length // 100 if lab.small else length
    load, space = Workload.make(1, length, SLATE, 0), space_of(lab)
    with torch.autocast(lab.device, torch.bfloat16):
        cell = Serving.of(ranker(load, SETTINGS[name], space), load, lab.device)
        take_turns([cell], 1 if lab.small else 15)
    macs = request_macs(cell.model, cell.history, cell.candidates)
    moved = moved_bytes(cell.history, cell.model.backbone.dim, cell.bytes, SLATE)
    row = [
        name,
        f"{length:,}",
        f"{cell.bytes:,}",
        f"{cell.cold * 1e3:.2f}",
        f"{cell.cached * 1e3:.2f}",
        percent(lab.of_product(2 * macs, cell.cold)),
        percent(lab.of_copy(moved, cell.cold)),
    ]
    return {"rows": [row], "numbers": {f"score_{name.split(',', maxsplit=1)[0]}_{length}_ms": cell.cached * 1e3}}


def run_tests(lab: Lab, target: str = "tests/gpu") -> Outcome:
    """The project's GPU tests in a process of their own, ended with the time of this section.

    A rehearsal runs them on the processor, so that it is known beforehand which of them do not run at all.

    All that pytest printed is kept in .work/gpu/tests.log.

    Raises:
        Absent: There is no pytest.
    """
    if importlib.util.find_spec("pytest") is None:
        raise Absent("no pytest here")
    seconds = min(lab.left, 600.0)
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-v", "--no-header", "--tb=short", "--color=no",
               "-p", "no:cacheprovider", target]  # fmt: skip
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if lab.small:
        environment["HISAC_LAB_TESTS_WITHOUT_GPU"] = "run"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        late = False
        try:
            process.wait(max(1.0, seconds - 5))
        except (subprocess.TimeoutExpired, OutOfTime):
            late = True
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        log.seek(0)
        text = log.read().decode(errors="replace")
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text(text)
    lines = text.splitlines()
    return verdict(lines, code, math.inf if not late else seconds)


def verdict(lines: list[str], code: int, late: float = math.inf) -> Outcome:
    """What pytest's lines say; `late` is the time after which it was ended.

    Raises:
        ModuleNotFoundError: The tests need a package that is not there.
    """
    marks = {word: [line for line in lines if f" {word}" in line and "::" in line.split(f" {word}")[0]]
             for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}  # fmt: skip
    failed = [
        line.split("::", 1)[1].rsplit(" FAILED")[0].rsplit(" ERROR")[0] for line in marks["FAILED"] + marks["ERROR"]
    ]
    counts = [len(marks[word]) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")]
    outcome: Outcome = {
        "rows": [["tests/gpu", *map(str, counts)]],
        "numbers": {"gpu_tests_passed": counts[0], "gpu_tests_failed": counts[1] + counts[2]},
    }
    if failed:
        reasons = Counter(line[1:].strip() for line in lines if line.startswith("E  ")).most_common(1)
        said = f" ({reasons[0][0]})" if reasons else ""
        outcome["failed"] = f"{len(failed)} tests: {', '.join(failed[:8])}{', …' if len(failed) > 8 else ''}{said}"
    elif late < math.inf:
        outcome["late"] = f"after {late:.0f} s"
    elif missing := re.search(r"No module named '(\w+)", lines[-1] if code and lines else ""):
        raise ModuleNotFoundError(lines[-1], name=missing[1])
    elif code:
        outcome["failed"] = f"pytest ended with {code}: {lines[-1] if lines else 'no word'}"
    return outcome


def cells(work: Callable[..., Outcome]) -> dict[str, Callable[[Lab], Outcome]]:
    """Every model at every length."""
    return {
        f"{name}, {length:,} events": partial(work, name=name, length=length) for length in LENGTHS for name in MODELS
    }


TESTS = Section(
    "GPU tests",
    0.2,
    ["`pytest tests/gpu`, in a process of its own."],
    ["tests", "passed", "failed", "errors", "skipped"],
    {"tests/gpu": run_tests},
)
TRAINING = Section(
    "Training in bf16",
    0.3,
    [
        "Forward, backward, optimizers, under autocast; five candidates a request, HiSAC's votes counted beforehand;"
        " settings are the defaults, 100,000 items, width",
        "16. TFLOP/s count the matrix products of a step; GB/s the bytes it has to move at least: three times the"
        " history and the vectors of events and",
        "candidates, six times the table of items. MiB: the most that tensors of one step take, gradients with them.",
    ],
    ["model", "events", "requests", "samples/s", "step ms", "MiB", "TFLOP/s", "% of product", "GB/s", "% of copy"],
    cells(train),
)
SCORING = Section(
    "Scoring 500 candidates",
    0.08,
    [
        "One user, bf16 under autocast, by the clock: cold from history to scores, cached from the state that `encode`"
        " leaves. Shares are those of the cold request.",
    ],
    ["model", "events", "state bytes", "cold ms", "cached ms", "% of product", "% of copy"],
    cells(score),
)
