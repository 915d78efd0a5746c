"""Portable arithmetic: set at the door, checked in what the libraries do, and taken back on demand."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from hisac_lab.base import arithmetic

ROOT = Path(__file__).parents[3]
PORTABLE = "from hisac_lab.base import arithmetic; print(arithmetic.in_effect(), arithmetic.not_portable())"
USE = "import numpy, torch; torch.ones(2, 2) @ torch.ones(2, 2)"
needs_avx2 = pytest.mark.skipif(arithmetic.unsupported() is not None, reason=str(arithmetic.unsupported()))


def _says(*lines: str, **environment: str) -> str:
    """What Python prints after these lines, in an environment without settings of arithmetic but these."""
    kept = {name: value for name, value in os.environ.items() if name not in (*arithmetic.PORTABLE, arithmetic.MODE)}
    answer = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=kept | environment, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


@needs_avx2
def test_the_tests_themselves_compute_portably() -> None:
    assert arithmetic.not_portable() is None
    assert arithmetic.code_in_use() == arithmetic.PORTABLE_CODE


@needs_avx2
def test_importing_the_package_first_is_enough() -> None:
    assert _says("import hisac_lab", USE, PORTABLE) == "portable None"
    assert _says("import hisac_lab, sys", "print([name for name in ('numpy', 'torch') if name in sys.modules])") == "[]"


@needs_avx2
def test_importing_it_too_late_is_noticed() -> None:
    wide = "avx512f" in arithmetic.cpuinfo().get("flags", "")
    said = _says(USE, "import hisac_lab", PORTABLE)
    assert said.startswith("native ")
    assert said.endswith("mkl were in use before hisac_lab was imported: import hisac_lab first")
    assert "numpy" in said or not wide


def test_native_takes_every_setting_back_also_in_child_processes() -> None:
    names = sorted(arithmetic.PORTABLE)
    show = f"print([os.environ.get(name) for name in {names}])"
    chosen = "arithmetic.choose('native')"
    first = ("import os, subprocess, sys, hisac_lab", "from hisac_lab.base import arithmetic")
    before = {"OPENBLAS_CORETYPE": "Zen", "OMP_NUM_THREADS": "5"}
    wanted = str([before.get(name) for name in names])
    assert _says(*first, chosen, show, **before) == wanted
    child = f"import os, hisac_lab; {show}"
    assert _says(*first, chosen, f"subprocess.run([sys.executable, '-c', {child!r}])", **before) == wanted
    assert _says("import hisac_lab", USE, PORTABLE, HISAC_LAB_ARITHMETIC="native") == (
        "native compute.arithmetic is native"
    )


def test_a_native_choice_sets_the_threads_of_the_settings() -> None:
    lines = ("import os, hisac_lab", "from hisac_lab.base import arithmetic", "arithmetic.choose('native', 3)")
    assert _says(*lines, "print([os.environ[name] for name in arithmetic.THREADS], arithmetic.threads())") == (
        "['3', '3', '3'] 3"
    )


@pytest.mark.parametrize(
    ("machine", "flags", "reason"),
    [
        ("aarch64", {}, "the processor is aarch64, not x86-64"),
        ("x86_64", {"flags": "sse2 avx fma"}, "the processor lacks avx2"),
        ("x86_64", {"flags": "sse2"}, "the processor lacks avx2 and fma"),
        ("AMD64", {}, None),
        ("x86_64", {"flags": "avx2 fma avx512f"}, None),
    ],
)
def test_a_processor_without_avx2_computes_natively_and_says_why(
    machine: str, flags: dict[str, str], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(arithmetic, "cpuinfo", lambda: flags)
    assert arithmetic.unsupported() == reason
    if reason:
        assert arithmetic.not_portable() == reason
        assert arithmetic.in_effect() == "native"


def test_results_of_a_gpu_are_not_portable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "_gpu", False)
    arithmetic.computes_on("cuda")
    assert arithmetic.in_effect() == "native"
    arithmetic.computes_on("cpu")
    assert "GPU" not in str(arithmetic.not_portable())


def test_inside_one_thread_every_library_has_one_and_afterwards_as_many_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with arithmetic.one_thread(), arithmetic.one_thread():
            assert torch.get_num_threads() == 1
            assert {library["num_threads"] for library in threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_roots_are_not_left_to_mkl() -> None:
    """MKL's roots and arctangents start from the processor's approximation of 1/x or 1/sqrt(x), Intel's or AMD's."""
    forbidden = re.compile(r"(?<!np)(?<!math)\.(sqrt|sqrt_|atan|arctan|tan|cdist)\(")
    for path in (ROOT / "src").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not forbidden.search(line), f"{path}:{number}: use rsqrt, or a fused optimizer"


@needs_avx2
def test_fused_optimizers_take_exact_roots() -> None:
    weight = torch.nn.Parameter(torch.zeros(1000))
    weight.grad = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    torch.optim.Adagrad([weight], lr=1.0, eps=0.0, fused=True).step()
    squares = weight.grad.numpy() ** 2
    assert (-weight.detach().numpy() == weight.grad.numpy() / squares**0.5).all()
