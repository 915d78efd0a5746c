"""Portable arithmetic: the same bytes on every x86-64 processor with AVX2, from Intel or AMD, with or without AVX-512.

NumPy, OpenBLAS, torch, MKL and oneDNN each look at the processor and pick code for it, and codes round differently.
They also cut long sums by the number of threads. In portable arithmetic each is held to the code that all such
processors share, on one thread. Removing a variable from `PORTABLE` changes bytes, but for those of threads: torch
and threadpoolctl hold them too (benchmarks/arithmetic.py removes one after the other and prints what it changes).

The libraries read these variables once, when they are loaded or first used. So `import hisac_lab` sets them, and
`choose`, which every stage calls with `compute.arithmetic`, takes them back for native arithmetic. This module imports
nothing but the standard library until it is asked what is in effect.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Arithmetic = Literal["portable", "native"]

MODE = "HISAC_LAB_ARITHMETIC"
"""Environment variable that tells child processes (sweep workers) what was chosen."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MKL_COMPATIBLE = 3
NUMPY_FEATURES = {  # what NumPy calls its code above AVX2, by the first version with these names
    (2, 4): "X86_V4 AVX512_ICL AVX512_SPR",
    (0, 0): "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}


def _numpy_features() -> str:
    version = tuple(int(part) for part in metadata.version("numpy").split(".")[:2])
    return next(names for first, names in NUMPY_FEATURES.items() if version >= first)


PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": _numpy_features(),
    **dict.fromkeys(THREADS, "1"),
}
"""Environment variables of portable arithmetic."""

_before: dict[str, str | None] = {}  # what `PORTABLE` has replaced
_threads = 1
_gpu = False


def choose(arithmetic: Arithmetic, threads: int | None = None) -> None:
    """Sets the arithmetic of this process and its children; to be called before NumPy and torch are loaded.

    Args:
        arithmetic: "portable", or "native": each library's fastest code for this processor.
        threads: Threads of one process; None leaves them as they are. Portable arithmetic uses them only where no
            result depends on them.
    """
    global _threads
    _threads = threads or _threads
    os.environ[MODE] = arithmetic
    if arithmetic == "portable":
        if not unsupported():
            for name, value in PORTABLE.items():
                _before.setdefault(name, os.environ.get(name))
                os.environ[name] = value
        return
    for name, earlier in _before.items():
        os.environ.pop(name, None)
        os.environ.update({name: earlier} if earlier is not None else {})
    _before.clear()
    if threads:
        os.environ.update(dict.fromkeys(THREADS, str(threads)))


def threads() -> int:
    """Threads for work whose result does not depend on their number."""
    return _threads


def computes_on(device: str) -> None:
    """Notes whether results of this process come from a GPU ("cuda"), whose sums have an order of their own."""
    global _gpu
    _gpu = device != "cpu"


def unsupported() -> str | None:
    """Why this processor cannot compute portably; None when it can."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return f"the processor is {machine}, not x86-64"
    flags = cpuinfo().get("flags", "avx2 fma").split()
    lacking = [name for name in ("avx2", "fma") if name not in flags]
    return f"the processor lacks {' and '.join(lacking)}" if lacking else None


def not_portable() -> str | None:
    """Why results of this process are not portable, in a few words; None when they are.

    Libraries that are not loaded yet do not count: they will find the variables that are set now.
    """
    if os.environ.get(MODE) == "native":
        return "compute.arithmetic is native"
    if reason := unsupported():
        return reason
    if _gpu:
        return "a GPU computes"
    late = [name for name, value in code_in_use().items() if value != PORTABLE_CODE[name]]
    return f"{', '.join(late)} were in use before hisac_lab was imported: import hisac_lab first" if late else None


def in_effect() -> Arithmetic:
    """What a manifest says: "portable" when `not_portable` finds no reason against it."""
    return "native" if not_portable() else "portable"


PORTABLE_CODE = {"numpy": "X86_V3", "openblas": "Haswell", "torch": "AVX2", "mkl": "COMPATIBLE"}
"""What `code_in_use` gives in portable arithmetic."""


def code_in_use() -> dict[str, str]:
    """Library to the code it has picked for this processor; libraries that are not loaded are left out."""
    code: dict[str, str] = {}
    if "numpy" in sys.modules:
        from numpy._core import _multiarray_umath as umath  # type: ignore[attr-defined]

        features: dict[str, bool] = umath.__cpu_features__
        wide = "X86_V4" if (2, 4) in NUMPY_FEATURES and "X86_V4" in features else "AVX512_SKX"
        best = next((name for name in (wide, "X86_V3", "AVX2", "X86_V2") if features.get(name)), "baseline")
        code["numpy"] = {"AVX2": "X86_V3"}.get(best, best)
        kinds = {str(part.get("architecture")) for part in _controller().info() if part["internal_api"] == "openblas"}
        if kinds:
            code["openblas"] = " and ".join(sorted(kinds))
    if (torch := sys.modules.get("torch")) is not None:
        code["torch"] = torch.backends.cpu.get_cpu_capability()
        branch = _mkl_branch(Path(str(torch.__file__))) if torch.backends.mkl.is_available() else None
        if branch is not None:
            code["mkl"] = "COMPATIBLE" if branch == MKL_COMPATIBLE else f"branch {branch}"
    return code


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds matrix products and sums to one thread inside, in portable arithmetic; also a decorator.

    For code that a notebook may call after it has set threads of its own.
    """
    if os.environ.get(MODE) == "native":
        yield
        return
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    try:
        with _controller().limit(limits=1):
            if torch:
                torch.set_num_threads(1)  # MKL keeps a number of its own, which only this sets
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _controller() -> Any:
    """The libraries as threadpoolctl sees them; looked up again whenever another one of these packages is loaded."""
    return _controller_of(tuple(name for name in ("numpy", "scipy.linalg", "sklearn", "torch") if name in sys.modules))


@functools.cache
def _controller_of(packages: tuple[str, ...]) -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _mkl_branch(torch_file: Path) -> int | None:
    """What MKL has made of MKL_CBWR; None where its library does not say."""
    for path in (torch_file.parent / "lib").glob("libtorch_cpu.*"):
        ask = getattr(ctypes.CDLL(str(path)), "mkl_serv_cbwr_get", None)
        return None if ask is None else int(ask(-1)) & 0xFFFF
    return None


@functools.cache
def cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
