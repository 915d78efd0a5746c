"""Where a version comes from: kept beside its run in MLflow and in the ledger, outside of what DVC hashes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from hisac_lab.base.machines import MachineRecord
from hisac_lab.base.records import Record
from hisac_lab.base.stages import Artifacts
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.events.records import Prepared
from hisac_lab.registry.records import Registered
from hisac_lab.sources.records import Acquired, Source
from hisac_lab.sweep.records import Swept

COMMIT = 40
"""Digits of a whole commit's name; one of a changed tree has a plus sign behind them."""


class Change(Record):
    """A setting that differs from its default; a key that is not set here is absent there."""

    value: Any = None
    default: Any = None


class Log(Record):
    """The log that was prepared.

    Attributes:
        first: Day of the first sample, `last` that of the last, UTC.
        cuts: Begin of the periods `valid` and `test`, UTC.
        protocol: Digest of settings, raw files and cuts.
    """

    events: int
    users: int
    items: int
    first: str
    last: str
    cuts: dict[str, str]
    protocol: str


class Book(Record):
    """The codebook over the semantic IDs.

    Attributes:
        nodes: Of each level.
        semantic_ids: SHA-256 of the output of the stage `tokenize`.
    """

    digest: str
    method: str
    nodes: list[int]
    semantic_ids: str


class Winner(Record):
    """What a sweep has chosen: trial `chosen` of `trials`, by `rule`; training took `trained`, if any."""

    chosen: int
    trained: int | None
    trials: int
    rule: str
    auc: float
    best_auc: float


class Environment(Record):
    """What computed: each value that any stage's machine had; "unknown" where an output was restored."""

    processors: list[str]
    arithmetic: list[str]
    gpus: list[str]
    versions: dict[str, str]


class Origin(Record):
    """A pipeline execution, as whoever rebuilds it has to know it.

    Attributes:
        commit: Git commit of the code, with a plus sign when the code that ran is not in it; empty without git.
        settings: Those that differ from their defaults, by dotted key, as the stages ran with them.
        pipeline: Digest of all outputs.
        stages: Digest of each stage's output.
        source: The raw files.
        sweeps: What each sweep has chosen, by model.
    """

    FILE: ClassVar[str] = "origin.json"

    commit: str
    settings: dict[str, Change]
    pipeline: str
    stages: dict[str, str]
    source: Source
    log: Log
    codebook: Book
    sweeps: dict[str, Winner]
    environment: Environment

    @property
    def whole(self) -> bool:
        """Whether all code that ran is in the commit."""
        return len(self.commit) == COMMIT


def origin_of(
    artifacts: Artifacts,
    commit: str,
    settings: Mapping[str, Change],
    machines: Mapping[str, MachineRecord | None],
) -> Origin:
    """What is known of the present outputs.

    Args:
        artifacts: Outputs of the stages.
        commit: As of `Origin`.
        settings: As of `Origin`.
        machines: As of `Lineage`.

    Raises:
        UserError: A stage has not run.
    """
    made, log = Registered.open(artifacts.register), Prepared.open(artifacts.prepare)
    acquired, book = Acquired.open(artifacts.acquire), CodebookFacts.open(artifacts.codebook)
    periods = log.splits.values()
    return Origin(
        commit=commit,
        settings=dict(settings),
        pipeline=made.pipeline,
        stages=made.stages,
        source=Source(dataset=acquired.dataset, layout=acquired.layout, files=acquired.files),
        log=Log(
            events=log.events,
            users=log.users,
            items=log.items,
            first=_day(min(period.first for period in periods)),
            last=_day(max(period.last for period in periods)),
            cuts={name: _day(cut) for name, cut in log.cuts.items()},
            protocol=log.protocol,
        ),
        codebook=Book(digest=book.digest, method=book.method, nodes=book.nodes, semantic_ids=made.stages["tokenize"]),
        sweeps={folder.name: _winner(Swept.open(folder)) for folder in artifacts.sweeps()},
        environment=_environment(machines),
    )


def _winner(swept: Swept) -> Winner:
    return Winner(
        chosen=swept.chosen,
        trained=swept.trained,
        trials=swept.trials,
        rule=swept.rule,
        auc=swept.auc,
        best_auc=swept.best_auc,
    )


def _environment(machines: Mapping[str, MachineRecord | None]) -> Environment:
    known = [record for record in machines.values() if record is not None]
    unknown = ["unknown"] if len(known) < len(machines) or not machines else []
    versions: dict[str, set[str]] = {}
    for record in known:
        for name, version in record.versions.items():
            versions.setdefault(name, set()).add(version)
    return Environment(
        processors=sorted({record.processor.model for record in known}) + unknown,
        arithmetic=sorted({record.arithmetic for record in known}) + unknown,
        gpus=sorted({record.gpu for record in known if record.gpu}),
        versions={name: ", ".join(sorted(values)) for name, values in versions.items()},
    )


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
