"""What is known of the machine that made an output; no stage reads or writes it (see `hisac_lab.cli.machine`)."""

from __future__ import annotations

from hisac_lab.base.records import Record


class Processor(Record):
    """A processor; `features` are the instruction sets that matter to arithmetic."""

    model: str
    vendor: str | None
    features: list[str]


class Machine(Record):
    """A machine, and how a process computed on it.

    Attributes:
        arithmetic: "portable" or "native".
        native_because: In a few words; None for portable arithmetic.
        code: The code that each library has picked for the processor.
        versions: Of Python and the libraries.
        threads: For work whose result does not depend on their number.
        gpu: Its name, if one computed.
    """

    arithmetic: str
    native_because: str | None
    processor: Processor
    code: dict[str, str]
    versions: dict[str, str]
    threads: int
    gpu: str | None


class MachineRecord(Machine):
    """The machine that made one output, and what it took.

    Attributes:
        stage: DVC's address of the stage.
        started: UTC, in ISO 8601, as is `ended`.
        peak_mb: The most memory that one process has held.
        output: SHA-256 of the output that the record speaks of.
    """

    stage: str
    started: str
    ended: str
    seconds: float
    cpu_seconds: float
    peak_mb: int
    output: str | None
