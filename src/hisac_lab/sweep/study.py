"""Ask and tell in rounds: the same trials whether run straight, resumed after a kill, or in parallel.

A round asks for a fixed number of trials before any of them is told, each from a sampler seeded by (study seed, trial
number, attempt), and tells them in number order. So nothing depends on which worker ended first. A point that resolves
to settings that were asked before is dropped, and the sampler is asked again. A resumed study is asked the same
questions again; answers it already gave are read from their files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.sweep import Point, Space, SweepConfig
from hisac_lab.ops.choice import rounded
from hisac_lab.sweep.draw import Asked, Asker, Resolved
from hisac_lab.sweep.records import Outcome, State

KILLED = "its process ended without an answer, as one does that is out of memory"
DIGITS = 3  # decimals of an AUC that the sampler, the front and the rule look at


@dataclass(frozen=True)
class Job:
    """One training that the study asks for.

    Attributes:
        name: For progress lines.
        resolved: What is trained.
        seed: Seed of weights and order.
        epochs: It stops after so many; None: at its end.
        resumes: Whether it starts from where it was stopped before, and leaves what is needed to go on.
    """

    name: str
    resolved: Resolved
    seed: int
    epochs: int | None = None
    resumes: bool = False

    @property
    def file(self) -> str:
        """Name of its answer."""
        rung = "" if self.epochs is None else f"-{self.epochs}"
        return f"{self.resolved.key}-{self.seed}{rung}.json"


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        number: Its place in the study.
        point: Its values.
        resolved: What they mean.
        state: What became of it.
        outcome: Of its training with the study's seed.
        fixed: Whether it was given, not drawn.
        on_front: Whether no other trial is as good in both objectives, or better.
        rung: Epochs after which it was pruned; None: it was not.
        more: Outcomes with more seeds.
    """

    number: int
    point: Point
    resolved: Resolved
    state: State
    outcome: Outcome
    fixed: bool = False
    on_front: bool = False
    rung: int | None = None
    more: tuple[Outcome, ...] = ()

    @property
    def objectives(self) -> tuple[float, int]:
        """AUC (to be high), rounded, and multiply-adds of a request (to be low): all that the study is told."""
        return objectives_of(self.outcome)

    @property
    def series(self) -> list[tuple[float, ...]]:
        """AUC and its resamples by seed, up to the first training that has failed."""
        found = [self.outcome.aucs]
        for outcome in self.more:
            if outcome.state != "complete":
                break
            found.append(outcome.aucs)
        return found


class Ledger:
    """Answers already given, a file each, written whole or not at all.

    Args:
        folder: Of the files; None keeps answers in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.answers: dict[str, Outcome] = {}

    def get(self, job: Job) -> Outcome | None:
        """The answer to this job, if it was given; a file of an earlier form is none."""
        if job.file not in self.answers and self.folder and (path := self.folder / job.file).exists():
            try:
                self.answers[job.file] = Outcome.read(path)
            except UserError:
                return None
        return self.answers.get(job.file)

    def note(self, job: Job, outcome: Outcome) -> None:
        """Adds an answer."""
        self.answers[job.file] = outcome
        if self.folder:
            write_json(self.folder / job.file, outcome.model_dump(mode="json"))


Note = Callable[[Job, Outcome], None]


class Bench(Protocol):
    """What trials run on."""

    def resolve(self, point: Point) -> Resolved:
        """What a point means; a point that cannot be trained has a reason."""

    def run(self, jobs: list[Job], note: Note) -> None:
        """Answers jobs not answered before, all different, in any order."""


@dataclass(frozen=True)
class Study:
    """A study and what it runs on.

    Attributes:
        config: The section `sweep`.
        model: Name of the swept model.
        bench: What trials run on.
        ledger: Where answers are kept.
        done: Called with the number of trials told so far, after each round.
    """

    config: SweepConfig
    model: str
    bench: Bench
    ledger: Ledger
    done: Callable[[int], Any] = lambda number: None

    @property
    def space(self) -> Space:
        """Of the model."""
        return self.config.space[self.model]

    def answers(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Outcome of each job, from its file or from a training."""
        new = {job.file: job for job in jobs if self.ledger.get(job) is None}
        if new:
            self.bench.run(list(new.values()), self.ledger.note)
        found = [self.ledger.get(job) for job in jobs]
        if None in found:
            raise RuntimeError(f"no answer for {jobs[found.index(None)]}")
        return [outcome for outcome in found if outcome is not None]

    def job(self, trial: TrialResult | Asked, seed: int = 0, epochs: int | None = None) -> Job:
        """The training of a trial; `seed` counts from the study's own."""
        resumes = seed == 0 and self.config.halving is not None
        return Job(f"trial {trial.number}", trial.resolved, self.config.seed + seed, epochs, resumes)

    def run(self) -> tuple[list[TrialResult], bool]:
        """Runs the study to its end.

        Returns:
            All trials in number order, and whether the space was exhausted.

        Raises:
            UserError: Every trial has failed.
        """
        asker = Asker(self.config, self.space, self.model, self.bench.resolve)
        told, exhausted = list[TrialResult](), False
        for first in range(0, self.config.trials, self.config.round_size):
            asked: list[Asked] = []
            for number in range(first, first + self.config.round_size):
                if (drawn := asker.draw(number)) is None:
                    exhausted = True
                    break
                asked.append(drawn)
            results = self._played(asked)
            for one, result in zip(asked, results, strict=True):
                asker.tell(one, result.objectives if result.state in ("complete", "pruned") else None)
            told += results
            self.done(len(told))
            if exhausted:
                break
        all_failed(self.model, told)
        return marked(told), exhausted

    def _played(self, asked: list[Asked]) -> list[TrialResult]:
        """A round, rung by rung: all of it up to one before any goes on."""
        ended: dict[int, TrialResult] = {
            one.number: result_of(one, Outcome(state="failed", reason=one.resolved.reason))
            for one in asked
            if one.resolved.reason is not None
        }
        alive = [one for one in asked if one.number not in ended]
        for rung in self._rungs():
            outcomes = self.answers([self.job(one, epochs=rung) for one in alive])
            results = [result_of(one, outcome) for one, outcome in zip(alive, outcomes, strict=True)]
            ended |= {result.number: result for result in results if result.state != "complete"}
            racing = [result for result in results if result.state == "complete"]
            kept = self.kept(racing)
            ended |= {
                result.number: replace(result, state="pruned", rung=rung)
                for result in racing
                if result.number not in kept
            }
            alive = [one for one in alive if one.number in kept]
        outcomes = self.answers([self.job(one) for one in alive])
        ended |= {one.number: result_of(one, outcome) for one, outcome in zip(alive, outcomes, strict=True)}
        return [ended[one.number] for one in asked]

    def _rungs(self) -> list[int]:
        by = self.config.halving
        return [] if by is None else [rung for rung in (by**at for at in range(64)) if rung < self.config.epochs]

    def kept(self, racing: list[TrialResult]) -> set[int]:
        """One in `halving` of the trials at a rung, rounded up: those that the fewest others are better than."""

        def rank(result: TrialResult) -> tuple[float, ...]:
            beaten = sum(_beats(other, result) for other in racing)
            quality, cost = result.objectives
            return beaten, -quality, cost, result.number

        places = -(-len(racing) // (self.config.halving or 1))
        return {result.number for result in sorted(racing, key=rank)[:places]}


def _beats(one: TrialResult, other: TrialResult) -> bool:
    """Whether one is at least as good in both objectives and better in one; of equals the earlier is."""
    (quality, cost), (other_quality, other_cost) = one.objectives, other.objectives
    if (quality, cost) == (other_quality, other_cost):
        return one.number < other.number
    return quality >= other_quality and cost <= other_cost


def marked(trials: list[TrialResult]) -> list[TrialResult]:
    """The same trials, those on the front marked."""
    points = [trial for trial in trials if trial.state == "complete"]
    return [
        replace(trial, on_front=trial.state == "complete" and not any(_beats(other, trial) for other in points))
        for trial in trials
    ]


def all_failed(model: str, trials: Sequence[TrialResult]) -> None:
    """Refuses a study without a trial that was trained.

    Raises:
        UserError: Every trial has failed, or is over a gate.
    """
    if all(trial.state in ("failed", "over") for trial in trials):
        reason = trials[0].outcome.reason
        what = f"all {len(trials)} trials of {model} failed or are over a gate, the first one: {reason}"
        raise UserError(SETTINGS, what, "mend that, or change sweep.space", "sweep")


def objectives_of(outcome: Outcome) -> tuple[float, int]:
    """What a study is told of a training that has ended well."""
    return rounded(outcome.aucs[0], DIGITS), outcome.request_macs


def result_of(one: Asked, outcome: Outcome) -> TrialResult:
    """A trial as it ends; pruning is the round's affair."""
    return TrialResult(one.number, one.point, one.resolved, outcome.state, outcome, one.fixed)
