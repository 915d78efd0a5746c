"""Other processors, as far as one machine can play them.

Environments that would choose other code in every library, and QEMU's user mode, which translates each instruction
and names another processor. QEMU computes reciprocals and their square roots exactly where Intel's and AMD's silicon
each approximate them in a way of its own, so a result that hangs on them shows. (QEMU 7.2 itself sorts long arrays
wrongly in NumPy's AVX2 `argsort`, so large data cannot be played on it.)
"""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hisac_lab.base.arithmetic import cpuinfo

QEMU = "qemu-x86_64"


@dataclass(frozen=True)
class Processor:
    """One processor to play.

    Attributes:
        name: For the reader of a test's result.
        environment: Variables on top of those of this process.
        emulates: QEMU's name of the processor; None: this one.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    emulates: str | None = None

    @property
    def missing(self) -> str | None:
        """Why it cannot be played here; None when it can."""
        return f"{QEMU} is not installed (Debian's qemu-user)" if self.emulates and not shutil.which(QEMU) else None

    def interpreter(self, python: str, folder: Path) -> str:
        """A Python that runs on it: `python` itself, or a script in `folder` that emulates."""
        if not self.emulates:
            return python
        path = folder / "python"
        path.write_text(f'#!/bin/sh\nexec {QEMU} -cpu {self.emulates} "{python}" "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)


WIDE = Processor(
    "every library told to use AVX-512, two threads",
    {
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_CBWR": "AUTO",
        "ONEDNN_MAX_CPU_ISA": "DEFAULT",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "NPY_DISABLE_CPU_FEATURES": "",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "HISAC_LAB_THREADS": "2",
        "HISAC_LAB_GOLDEN_STEPS": "8",
    },
)
NARROW = Processor(
    "every library told to do with SSE4, a C library that sees no AVX-512",
    {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_L2_SIZE": "262144",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD",
        "HISAC_LAB_THREADS": "1",
        "HISAC_LAB_GOLDEN_STEPS": "8",
    },
)
SLOW = {"HISAC_LAB_THREADS": "1", "HISAC_LAB_GOLDEN_STEPS": "3"}
INTEL = Processor("an Intel Haswell: AVX2, no AVX-512", SLOW, "Haswell-v4")
AMD = Processor("an AMD Rome: AVX2, no AVX-512", SLOW, "EPYC-Rome")
OTHER = AMD if cpuinfo().get("vendor_id") == "GenuineIntel" else INTEL
"""A processor of the vendor that has not made this one."""
