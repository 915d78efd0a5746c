"""Which machine made an output: one record a stage in logs/stages, outside of everything that DVC hashes.

A record carries the SHA-256 of the output it speaks of. When DVC has restored another output from its cache, the
record does not fit, and nothing is known of the machine. Records name no host and no path.

It lies in this room, not in `base`, so that no stage depends on it: what it says of a stage never makes one stale.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import MANIFEST, sha256_file, sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.base.machines import Machine, MachineRecord, Processor
from hisac_lab.base.progress import say
from hisac_lab.cli.paths import ARTIFACTS, GRAPH, RECORDS, REPORTS

UNKNOWN = "restored from the cache; made by an unknown machine"
LIBRARIES = ("numpy", "scipy", "torch", "pyarrow", "pandas", "scikit-learn", "tokenizers", "hisac-lab")
FEATURES = "avx avx2 fma avx512f avx512dq avx512bw avx512vl avx512_vnni avx512_bf16 amx_bf16 asimd sve".split()
MKL = re.compile(r"Math Kernel Library Version (\S+?)-Product Build (\d+)")


def address(stage: str, *instance: Any) -> str:
    """DVC's name of a stage or of one instance: "prepare", "shard@0", "train@hisac-0"."""
    return f"{stage}@{'-'.join(map(str, instance))}" if instance else stage


@contextmanager
def recorded(name: str) -> Iterator[None]:
    """Writes the record of a stage when the block ends well; a record that cannot be written costs a line, no more.

    Args:
        name: Address of the stage.
    """
    started, begin, cpu = datetime.now(UTC), time.perf_counter(), _cpu_seconds()
    yield
    if os.environ.get("RANK", "0") != "0":  # of the processes of `torchrun` the first one writes
        return
    try:
        MachineRecord(
            stage=name,
            started=started.isoformat(timespec="milliseconds"),
            ended=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(time.perf_counter() - begin, 2),
            cpu_seconds=round(_cpu_seconds() - cpu, 2),
            peak_mb=_peak_mb(),
            output=digest(name),
            **dict(describe()),
        ).write(RECORDS / f"{name}.json")
    except Exception as error:  # noqa: BLE001 - whatever a full disk or a foreign library throws
        say(f"which machine made {name} was not recorded ({type(error).__name__}: {error})")


def describe() -> Machine:
    """This machine, and how this process computes on it."""
    info = arithmetic.cpuinfo()
    flags = f"{info.get('flags', '')} {info.get('Features', '')}".split()
    torch = sys.modules.get("torch")
    return Machine(
        arithmetic=arithmetic.in_effect(),
        native_because=arithmetic.not_portable(),
        processor=Processor(
            model=info.get("model name") or platform.machine(),
            vendor=info.get("vendor_id") or info.get("CPU implementer"),
            features=[name for name in FEATURES if name in flags],
        ),
        code=arithmetic.code_in_use(),
        versions=_versions(),
        threads=arithmetic.threads(),
        gpu=torch.cuda.get_device_name() if torch is not None and torch.cuda.is_initialized() else None,
    )


def digest(name: str) -> str | None:
    """SHA-256 of a stage's output as it is now, as the report's lineage shows it; None when there is none.

    Args:
        name: Address of the stage; the report's output is its Markdown twin.
    """
    path = REPORTS / "report.md" if name == "report" else ARTIFACTS.at(name)
    if not path.exists():
        return None
    return sha256_tree(path) if path.is_dir() else sha256_file(path)


def outputs() -> list[str]:
    """Addresses of the outputs that are here, in the order of dvc.yaml."""
    present = []
    for stage in yaml.safe_load(GRAPH.read_text())["stages"]:
        folder = ARTIFACTS.at(stage)
        if (folder / MANIFEST).exists() or (stage == "report" and digest(stage)):
            present.append(stage)
        else:
            present += [address(stage, path.parent.name) for path in sorted(folder.glob(f"*/{MANIFEST}"))]
    return present


def record_of(name: str) -> MachineRecord | None:
    """The record of the output that is here now; None when it is missing, or speaks of another output."""
    try:
        record = MachineRecord.read(RECORDS / f"{name}.json")
    except UserError:
        return None
    return record if record.output == digest(name) is not None else None


def records() -> dict[str, MachineRecord | None]:
    """The record of every output that is here, by address."""
    return {name: record_of(name) for name in outputs()}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "glibc": platform.libc_ver()[1]}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None and (build := MKL.search(torch.__config__.show())):
        versions["mkl"] = " ".join(build.groups())
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    builds = {str(part["version"]) for part in threadpool_info() if part["internal_api"] == "openblas"}
    return versions | ({"openblas": ", ".join(sorted(builds))} if builds else {})


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_mb() -> int:
    """The most memory that this process, or one of its children, has held."""
    kilobyte = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss * kilobyte for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    status = Path("/proc/self/status")
    if status.exists():  # here getrusage also counts what the parent held before it started this process
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        peaks[0] = int(line.split()[1]) * 1024
    return round(max(peaks) / 2**20)
