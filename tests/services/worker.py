"""A machine at a shared study, its answers from a formula: python worker.py ADDRESS LOG [--slow | --deadly].

It writes a line into LOG when a training begins and one when it ends, and prints the study's results.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hisac_lab.base.errors import UserError
from hisac_lab.config.base import parse
from hisac_lab.config.sweep import Point, SweepConfig
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import Outcome
from hisac_lab.sweep.shared import take_part
from hisac_lab.sweep.study import Job, Ledger, Note, Study

TRIALS = 10
SPACE = {"agents": [4, 8, 16, 32, 64], "depth": [1, 2, 3], "rate": {"low": 0.001, "high": 0.1, "log": True}}
FIXED = {"agents": 64, "depth": 2, "rate": 0.01}


@dataclass(frozen=True)
class Formula:
    """Answers after a while; the deadly one dies at the fixed point, as of a lack of memory."""

    log: Path
    seconds: float
    deadly: bool

    def resolve(self, point: Point) -> Resolved:
        return Resolved(json.dumps(point, sort_keys=True), {}, point)

    def run(self, jobs: list[Job], note: Note) -> None:
        for job in jobs:
            self._write("begin", job)
            if self.deadly and job.resolved.settings == FIXED:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            point: dict[str, Any] = job.resolved.settings
            auc = round(0.6 + 0.001 * point["agents"] + 0.02 * point["depth"] - abs(point["rate"] - 0.01), 6)
            cost = ServingCost(state_bytes=8.0, encode_macs=100.0, candidate_macs=float(point["agents"]))
            note(job, Outcome(state="complete", aucs=(auc, auc - 0.01, auc + 0.01), cost=cost))
            self._write("end", job)

    def _write(self, what: str, job: Job) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps([what, job.name, job.resolved.settings]) + "\n")


def config(address: str, **others: Any) -> SweepConfig:
    """A shared study of so few trials."""
    base = {"models": ["m"], "space": {"m": SPACE}, "fixed": {"m": [FIXED]}, "trials": TRIALS, "round_size": 2}
    return parse(SweepConfig, base | {"storage": address} | others, "params.yaml", "sweep")


def main(address: str, log: str, *options: str) -> None:
    bench = Formula(Path(log), 60.0 if "--slow" in options else 0.3, "--deadly" in options)
    trials, _ = take_part(Study(config(address), "m", bench, Ledger(None)), "m-0")
    print(json.dumps([[one.number, one.point, one.state, one.outcome.reason, one.on_front] for one in trials]))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
