"""The same bytes whatever the processor: the whole tiny graph and all golden losses, on each that can be played."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab import ROOT, Lab
from processors import NARROW, OTHER, WIDE, Processor

from hisac_lab.base.artifacts import sha256_tree

PLAYED = [WIDE, NARROW]
PROCESSORS = [*PLAYED, pytest.param(OTHER, marks=pytest.mark.emulator)]
"""The last takes minutes: `make emulate`."""


def _run(processor: Processor, folder: Path, home: Path, *command: str, native: bool = False) -> str:
    """Runs Python on the processor, in the folder, and gives what it said."""
    if processor.missing:
        pytest.skip(processor.missing)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in WIDE.environment | NARROW.environment | OTHER.environment
    }
    kept |= {"HISAC_LAB_ARITHMETIC": "native"} if native else {}
    kept |= {"PYTHONPATH": str(folder / "src"), "HISAC_LAB_THREADS": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(home)}
    python = processor.interpreter(sys.executable, home)
    for _ in range(2):
        answer = subprocess.run(
            [python, *command],
            cwd=folder,
            env=kept | processor.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if processor is not OTHER or answer.returncode != -signal.SIGSEGV:
            break  # the emulator itself crashes now and then
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    return answer.stdout


def _hashes(lab: Lab) -> dict[str, str]:
    """Name of each output to a hash of all its bytes."""
    outputs = [lab.path / path for path in lab.hashes()]
    return {
        str(path.relative_to(lab.path)): sha256_tree(path) if path.is_dir() else path.read_text() for path in outputs
    }


def _golden(processor: Processor, home: Path, native: bool = False) -> str:
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={home / 'golden'}")
    return _run(processor, ROOT, home, "-m", "pytest", *options, "tests/golden/test_losses.py", native=native)


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda processor: processor.name)
def test_the_whole_graph_gives_the_same_bytes(processor: Processor, base: Lab, tmp_path: Path) -> None:
    lab = base.copy(tmp_path / "lab")
    expected = _hashes(lab)
    for place in ("artifacts", "logs"):
        shutil.rmtree(lab.path / place)
    _run(processor, lab.path, tmp_path, "workflow/plain.py")
    assert _hashes(lab) == expected


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda processor: processor.name)
def test_golden_losses_are_the_same_to_the_last_bit(processor: Processor, tmp_path: Path) -> None:
    _golden(processor, tmp_path)


def test_native_arithmetic_is_near(tmp_path: Path) -> None:
    _golden(WIDE, tmp_path, native=True)


@pytest.mark.parametrize("processors", [PLAYED, pytest.param([*PLAYED, OTHER], marks=pytest.mark.emulator)], ids=len)
def test_the_processors_that_are_played_compute_differently_when_they_may(
    processors: list[Processor], tmp_path: Path
) -> None:
    """Else the equality above would say nothing."""
    code = "\n".join((
        "import hisac_lab, torch, numpy, hashlib",
        "torch.manual_seed(0)",
        "x = torch.randn(300, 300)",
        "values = (x @ x, x.softmax(1), x.abs().sqrt(), torch.from_numpy(numpy.exp(x.double().numpy())))",
        "print([hashlib.md5(value.numpy().tobytes()).hexdigest()[:6] for value in values])",
    ))  # fmt: skip
    free = [_run(processor, ROOT, tmp_path, "-c", code, native=True) for processor in processors]
    assert len(set(free)) == len(processors)
    held = [_run(processor, ROOT, tmp_path, "-c", code) for processor in processors]
    root = 2  # the one of these four that is not the processor's to choose: code here takes roots another way
    assert len({tuple(value for at, value in enumerate(line.split()) if at != root) for line in held}) == 1


@pytest.mark.parametrize("processors", [PLAYED, pytest.param([*PLAYED, OTHER], marks=pytest.mark.emulator)], ids=len)
def test_a_sweep_has_the_same_trials_front_and_choice(processors: list[Processor], tmp_path: Path) -> None:
    """The graph's own sweep has few trials; here samplers learn from more. The benchmark's stand-ins train at once.

    QEMU dies of NumPy's AVX2 argsort, which TPE calls; there a stable one, of the same result, takes its place.
    """
    code = "\n".join((
        "import hisac_lab, sys, json, functools, numpy",
        "if sys.argv[1:]: numpy.argsort = functools.partial(numpy.argsort, kind='stable')",
        f"sys.path.insert(0, {str(ROOT / 'benchmarks')!r})",
        "import sweep",
        "for sampler in ('tpe', 'nsga2', 'sobol'):",
        "    trials, chosen = sweep.run(sweep.settings(sampler, 12), sweep.StandIn())",
        "    rows = [[t.number, t.point, t.state, t.objectives, t.on_front, t.outcome.aucs] for t in trials]",
        "    print(json.dumps([sampler, chosen, rows]))",
    ))  # fmt: skip
    options = {processor.name: ["stable"] if processor is OTHER else [] for processor in processors}
    told = [_run(processor, ROOT, tmp_path, "-c", code, *options[processor.name]) for processor in processors]
    assert len(told[0].splitlines()) == 3
    assert set(told) == {told[0]}
