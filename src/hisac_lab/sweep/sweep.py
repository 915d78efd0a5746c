"""The stage `sweep` for one model: short trainings over its search space, finalists with more seeds, the choice."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from hisac_lab.base.artifacts import digest_of
from hisac_lab.base.progress import counted, say
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.codebook.votes import split_budget
from hisac_lab.config.sweep import Point, SweepConfig
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.sweep.ablation import ablate, is_ablation
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import ABLATION, Ablated, Best, Outcome, Swept, Trial, told
from hisac_lab.sweep.rule import Choice, choose, describe, finalists, mean_auc, own_error
from hisac_lab.sweep.shared import take_part
from hisac_lab.sweep.study import KILLED, Job, Ledger, Note, Study, TrialResult, all_failed
from hisac_lab.sweep.trial import Trained, TrialTask, resolve, run_trial


@dataclass(frozen=True)
class Workers:
    """Runs trainings in processes of their own; where one works at a time, in a thread of this one.

    Attributes:
        task: What every trial shares.
        number: Processes at once; no result depends on it.
    """

    task: TrialTask
    number: int

    def resolve(self, point: Point) -> Resolved:
        """What a point means (see `trial.resolve`)."""
        return resolve(self.task, point)

    def run(self, jobs: list[Job], note: Note) -> None:
        """Answers jobs; a job whose process is killed, alone as well, has failed."""
        left = {job.file: job for job in jobs}
        try:
            self._run(jobs, left, note, self.number)
        except BrokenProcessPool:
            for job in list(left.values()):  # one of them did it: each by itself tells which
                try:
                    self._run((job,), left, note, workers=1, spawn=True)
                except BrokenProcessPool:
                    note(job, Outcome(state="failed", reason=KILLED))

    def _run(self, jobs: Sequence[Job], left: dict[str, Job], note: Note, workers: int, *, spawn: bool = False) -> None:
        with _pool(workers, spawn=spawn) as pool:
            running = {pool.submit(run_trial, self.task, job): job for job in jobs}
            for done in as_completed(running):
                note(running[done], done.result())
                del left[running[done].file]


def _pool(workers: int, *, spawn: bool) -> Executor:
    if workers == 1 and not spawn:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def sweep(config: SweepConfig, name: str, task: TrialTask, *, workers: int, out: Path, work: Path) -> list[TrialResult]:
    """Runs the study of one model, gives the finalists more seeds and applies the rule (see `hisac_lab.sweep.rule`).

    Args:
        config: The section `sweep`.
        name: Of the model.
        task: What every trial shares.
        workers: Processes at once; the result does not depend on it.
        out: An empty directory.
        work: Where answers live until the study has ended well.

    Returns:
        All trials in number order.

    Raises:
        UserError: Every trial has failed, or is over a gate.
    """
    Runtime.start(task.compute)  # the trials may compute in other processes; the manifest is written here
    study = study_of(config, name, task, workers, work)
    if config.storage is None:
        say(f"sweep {name}: {counted(config.trials, 'trial')} in rounds of {config.round_size}, {workers} at once")
        trials, exhausted = study.run()
    else:
        trials, exhausted = join(study, work)
    if exhausted:
        say(f"sweep {name}: ended after {len(trials)} of {config.trials}, for sweep.space.{name} has no other points")
    trials = with_seeds(study, trials)
    choice = choose(complete(trials), config.standard_errors)
    _tell_savings(name, config, trials)
    write(config, name, task, trials, choice, exhausted=exhausted, out=out)
    shutil.rmtree(work, ignore_errors=True)
    return trials


def study_of(config: SweepConfig, name: str, task: TrialTask, workers: int, work: Path) -> Study:
    """The study of one model; arguments are those of `sweep`."""
    return Study(
        config,
        name,
        Workers(task, workers),
        Ledger(work / "trials"),
        lambda number: say(f"sweep {name}: {number} of {config.trials} trials told"),
    )


def join(study: Study, work: Path) -> tuple[list[TrialResult], bool]:
    """Takes part in a study that many machines share.

    Args:
        study: Its settings, and what trials run on here.
        work: Its name holds a digest of inputs, settings and code.

    Returns:
        All trials in number order, and whether the space was exhausted.

    Raises:
        UserError: The server does not answer, or every trial has failed or is over a gate.
    """
    settings = study.config.model_dump(mode="json")
    asked = [settings["space"][study.model], settings["fixed"].get(study.model)]
    asked += [settings[key] for key in ("sampler", "trials", "seed")]
    name = f"{study.model}-{digest_of([work.name, asked])}"
    say(f"sweep {study.model}: {counted(study.config.trials, 'trial')}, shared as {name} at {study.config.storage}")
    trials, exhausted = take_part(study, name)
    all_failed(study.model, trials)
    return trials, exhausted


def complete(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Those that were trained to their end."""
    return [trial for trial in trials if trial.state == "complete"]


def with_seeds(study: Study, trials: list[TrialResult]) -> list[TrialResult]:
    """The same trials, the finalists trained with more seeds."""
    config = study.config
    seeds = range(1, config.finalist_seeds)
    chosen = finalists(complete(trials), config.standard_errors, config.finalists) if seeds else []
    outcomes = iter(study.answers([study.job(trial, seed) for trial in chosen for seed in seeds]))
    more = {trial.number: tuple(next(outcomes) for _ in seeds) for trial in chosen}
    return [replace(trial, more=more.get(trial.number, ())) for trial in trials]


def epochs_saved(config: SweepConfig, trials: Sequence[TrialResult]) -> int:
    """Epochs that pruned trials have not run."""
    return sum(config.epochs - trial.rung for trial in trials if trial.rung is not None)


def _tell_savings(name: str, config: SweepConfig, trials: Sequence[TrialResult]) -> None:
    pruned = [trial for trial in trials if trial.rung is not None]
    if pruned:
        saved = epochs_saved(config, trials)
        seconds = sum(
            trial.outcome.cpu_seconds / trial.rung * (config.epochs - trial.rung) for trial in pruned if trial.rung
        )
        say(f"sweep {name}: {len(pruned)} trials pruned, {saved} epochs and about {seconds:,.0f} CPU seconds saved")


def write(
    config: SweepConfig,
    name: str,
    task: TrialTask,
    trials: list[TrialResult],
    choice: Choice,
    *,
    exhausted: bool,
    out: Path,
) -> None:
    """Writes table, resamples, choice and manifest of a study.

    Args:
        config: The section `sweep`.
        name: Of the model.
        task: What every trial shares.
        trials: In number order.
        choice: What the rule says of them.
        exhausted: Whether the space had no more points.
        out: An empty directory.
    """
    Trial.write_table([_row(trial, choice) for trial in trials], out)
    resamples = pd.DataFrame(
        {f"{trial.number}-{seed}": aucs for trial in complete(trials) for seed, aucs in enumerate(trial.series)}
    )
    if is_ablation(config):
        Ablated.write_list(out / ABLATION, ablate(trials))
    resamples.to_csv(out / "resamples.csv", index=False, lineterminator="\n")
    chosen, own = choice.chosen, [trial for trial in complete(trials) if _settings(trial).codebook == task.codebook]
    trained = choose(own, config.standard_errors).chosen if own else None
    model = _settings(trained).base.model if trained else task.base.model
    point = trained.point if trained else {}
    advised = {key.partition(".")[2]: value for key, value in chosen.point.items() if key.startswith("tokenize.")}
    Best(
        model=name,
        settings=model.model_dump(mode="json"),
        tuned=task.base.tuned(point),
        tokenize=advised if trained is not chosen else {},
    ).save(out)
    assert chosen.outcome.cost is not None
    Swept(
        model=name,
        trials=len(trials),
        states=dict(Counter(trial.state for trial in trials)),
        exhausted=exhausted,
        front=[trial.number for trial in trials if trial.on_front],
        finalists=[trial.number for trial in trials if trial.more],
        finalist_seeds=config.finalist_seeds,
        best=choice.best.number,
        chosen=chosen.number,
        trained=trained.number if trained else None,
        near=choice.near,
        rule=describe(config.standard_errors, config.finalist_seeds),
        auc=round(mean_auc(chosen), 6),
        best_auc=round(mean_auc(choice.best), 6),
        standard_error=choice.errors[chosen.number],
        request_macs=chosen.outcome.request_macs,
        state_bytes=chosen.outcome.cost.state_bytes,
        budgets=_budgets(model, task),
        epochs_saved=epochs_saved(config, trials),
        **({} if config.storage is None else {"repeatable": False}),
    ).save(out)


def _settings(trial: TrialResult) -> Trained:
    settings: Trained = trial.resolved.settings
    return settings


def _budgets(model: object, task: TrialTask) -> list[int]:
    """Agents per level of the model that is trained."""
    if not isinstance(model, HiSACConfig):
        return []
    depth = model.depth or CodebookFacts.open(task.codebook).depth
    return list(model.budgets or split_budget(model.agents, depth, model.breadth))


def _row(trial: TrialResult, choice: Choice) -> Trial:
    outcome = trial.outcome
    done = trial.state == "complete"
    auc = mean_auc(trial) if done else outcome.aucs[0] if outcome.aucs else None
    return Trial(
        number=trial.number,
        state=trial.state,
        fixed=trial.fixed,
        cut=", ".join(f"{key} {asked} to {got}" for key, (asked, got) in trial.resolved.cut.items()),
        auc=None if auc is None else round(auc, 6),
        error=own_error(trial) if done else None,
        standard_error=choice.errors.get(trial.number),
        seeds=len(trial.series) if done else int(trial.state == "pruned"),
        request_macs=outcome.request_macs if outcome.cost else None,
        state_bytes=outcome.cost.state_bytes if outcome.cost else None,
        on_front=trial.on_front,
        reason=outcome.reason,
        settings={key: told(value) for key, value in trial.point.items()},
    )
