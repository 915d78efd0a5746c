"""The study of the sweep under test: overhead, repeats, resumed and parallel runs, stability of the choice.

    python benchmarks/sweep.py [--trials 100] [--seconds 5] [--samplers tpe,nsga2,sobol] [--no-board]

Trials are stand-ins, answers computed from their settings with noise of the size that seeds have, for the study is what
is measured: a real one differs in how long an answer takes. Overhead is everything but trials, as a share of a sweep
whose trials take --seconds each. `choice_stable`: the choice stays where the last digits of all scores are drawn anew.
`spread_of_chosen`: how far the true AUCs of what four study seeds choose are apart at most, over the standard error
that users have. `choices_agree`: two real sweeps of a small board (`sweep_board.py`), with other study seeds, choose
models whose test AUCs differ by less than a standard error. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import digest_of
from hisac_lab.config.base import parse
from hisac_lab.config.sweep import Point, SweepConfig
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import Outcome
from hisac_lab.sweep.rule import choose
from hisac_lab.sweep.study import Job, Ledger, Note, Study, TrialResult
from hisac_lab.sweep.sweep import complete, with_seeds

SPACE = {
    "agents": [8, 16, 32, 64, 128, 256, 400],
    "depth": [1, 2, 3],
    "breadth": {"values": [0.4, 0.6, 0.8], "when": {"depth": 3}},
    "temperature": {"low": 0.02, "high": 0.3, "log": True},
    "train.learning_rate": {"low": 0.0005, "high": 0.02, "log": True},
}
RESAMPLES = 200
SEED_NOISE, USER_NOISE = 0.001, 0.004


class Killed(Exception):
    """Stands for SIGKILL."""


@dataclass
class StandIn:
    """Answers by a formula: agents help until there are enough, rates and temperatures have a best value.

    Attributes:
        workers: Threads that answer, ended in any order.
        life: Answers after which it is killed.
        asked: Of each job how often it was answered.
    """

    workers: int = 1
    life: int = 10**9
    asked: Counter[str] = field(default_factory=Counter)

    def resolve(self, point: Point) -> Resolved:
        """A codebook whose first level has 64 leaves."""
        agents, leaves = int(str(point["agents"])), 64 ** int(str(point["depth"]))
        settings = {**point, "agents": min(agents, leaves)}
        return Resolved(digest_of(settings), {"agents": (agents, leaves)} if agents > leaves else {}, settings)

    def run(self, jobs: list[Job], note: Note) -> None:
        """Answers jobs."""
        with ThreadPoolExecutor(self.workers) as pool:
            running = {pool.submit(answer, job): job for job in jobs}
            for done in as_completed(running):
                if self.asked.total() == self.life:
                    raise Killed
                self.asked[running[done].file] += 1
                note(running[done], done.result())


def answer(job: Job) -> Outcome:
    """AUC with resamples, and cost."""
    point: dict[str, Any] = job.resolved.settings
    random = np.random.default_rng([int(job.resolved.key, 16) % 2**32, job.seed])
    users = np.random.default_rng(0).normal(0, USER_NOISE, RESAMPLES)  # the same for every trial: gaps are paired
    gain = 0.06 * (1 - np.exp(-point["agents"] / 60))
    off = abs(np.log(point["temperature"] / 0.07)) + abs(np.log(point["train.learning_rate"] / 0.004))
    auc = 0.7 + gain + 0.002 * point["depth"] - 0.004 * off + random.normal(0, SEED_NOISE)
    spread = users + random.normal(0, USER_NOISE / 4, RESAMPLES)
    cost = ServingCost(
        state_bytes=128.0 * point["agents"], encode_macs=5e6, candidate_macs=5000.0 + 40.0 * point["agents"]
    )
    aucs = np.round([auc, *(auc + spread)], 6)
    return Outcome(state="complete", aucs=tuple(aucs.tolist()), cost=cost)


def settings(sampler: str, trials: int, seed: int = 0) -> SweepConfig:
    """The section of a sweep of this size."""
    rounds = {"models": ["m"], "space": {"m": SPACE}, "sampler": sampler, "trials": trials, "round_size": 4}
    return parse(SweepConfig, rounds | {"seed": seed, "finalists": 4, "finalist_seeds": 3}, "benchmark", "sweep")


def run(config: SweepConfig, bench: StandIn, folder: Path | None = None) -> tuple[list[TrialResult], int]:
    """All trials with the finalists' seeds, and the number of the chosen one."""
    study = Study(config, "m", bench, Ledger(folder))
    trials = with_seeds(study, study.run()[0])
    return trials, choose(complete(trials), config.standard_errors).chosen.number


def resumed(config: SweepConfig, folder: Path, lives: tuple[int, ...]) -> tuple[list[TrialResult], int, int]:
    """The same, killed after so many answers and started again; and how many answers were given twice."""
    asked: Counter[str] = Counter()
    for life in (*lives, 10**9):
        bench = StandIn(workers=2, life=life)
        with contextlib.suppress(Killed):
            found = run(config, bench, folder)
        asked += bench.asked
    return *found, sum(count - 1 for count in asked.values())


def is_stable(config: SweepConfig, trials: list[TrialResult], chosen: int) -> bool:
    """Whether the choice stays where the digits of every AUC behind the sixth are drawn anew."""
    random = np.random.default_rng(1)

    def changed(outcome: Outcome, scale: float) -> Outcome:
        aucs = np.array(outcome.aucs) + random.uniform(-scale, scale, len(outcome.aucs))
        return outcome.model_copy(update={"aucs": tuple(aucs.tolist())})

    for scale in (1e-12, 1e-9, 1e-7):
        noisy = [
            replace(one, outcome=changed(one.outcome, scale), more=tuple(changed(each, scale) for each in one.more))
            for one in complete(trials)
        ]
        if choose(noisy, config.standard_errors).chosen.number != chosen:
            return False
    return True


def measure(sampler: str, trials: int, seconds: float) -> dict[str, Any]:
    """What there is to say of one sampler."""
    config = settings(sampler, trials)
    with tempfile.TemporaryDirectory() as folder:
        bench, begin = StandIn(), time.perf_counter()
        straight = run(config, bench, Path(folder) / "straight")
        wall = time.perf_counter() - begin
        answered = bench.asked.total()
        *again, twice = resumed(config, Path(folder) / "resumed", (trials // 10, trials // 3, trials // 2))
        parallel = run(config, StandIn(workers=2))
    keys = [trial.resolved.key for trial in straight[0]]
    seeds = {seed: run(settings(sampler, trials, seed), StandIn()) for seed in range(1, 4)}
    chosen = [found[0][found[1]].point for found in (straight, *seeds.values())]
    return {
        "sampler": sampler,
        "overhead_share": round(wall / (wall + answered * seconds), 5),
        "resumed_equal": tuple(again) == straight and twice == 0,
        "parallel_equal": parallel == straight,
        "repeated_trials": len(keys) - len(set(keys)),
        "choice_stable": is_stable(config, *straight),
        "chosen_by_study_seed": [{key: point[key] for key in ("agents", "depth")} for point in chosen],
        "spread_of_chosen": round(spread_of(chosen), 5),
    }


def spread_of(points: list[Point]) -> float:
    """How far the true AUCs of the chosen points are apart, over the standard error that users have."""
    truths = []
    for point in points:
        answers = [answer(Job("", StandIn().resolve(point), seed)).aucs[0] for seed in range(200)]
        truths.append(float(np.mean(answers)))
    return max(abs(one - other) for one, other in itertools.combinations(truths, 2)) / USER_NOISE


def main() -> None:
    """Measures each sampler; a line for each, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a trial, for the share of the overhead")
    parser.add_argument("--samplers", default="tpe,nsga2,sobol")
    parser.add_argument("--no-board", action="store_true", help="without the real sweeps, which take minutes")
    options = parser.parse_args()
    found = []
    for sampler in options.samplers.split(","):
        found.append(measure(sampler, options.trials, options.seconds))
        print(json.dumps(found[-1]), flush=True)
    board: dict[str, Any] = {}
    if not options.no_board:
        from sweep_board import compare

        board = compare()
        print(json.dumps(board), flush=True)
    print(
        json.dumps(
            {
                "overhead_share": max(one["overhead_share"] for one in found),
                "resumed_equal": all(one["resumed_equal"] for one in found),
                "parallel_equal": all(one["parallel_equal"] for one in found),
                "repeated_trials": sum(one["repeated_trials"] for one in found),
                "choice_stable": all(one["choice_stable"] for one in found),
                "spread_of_chosen": max(one["spread_of_chosen"] for one in found),
                "choices_agree": board.get("choices_agree"),
                "choices_gap": board.get("choices_gap"),
                "choices_error": board.get("choices_error"),
            }
        )
    )


if __name__ == "__main__":
    main()
