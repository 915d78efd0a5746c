"""The stage `sweep`: short HiSAC trainings over agent count, per-level budgets, depth and temperature."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.progress import say
from hisac_lab.codebook.votes import split_budget
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.evaluation.cost import count
from hisac_lab.evaluation.metrics import draw_users
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.ops.auc import weighted_auc
from hisac_lab.ops.ranks import dense_rank
from hisac_lab.sweep.records import TRIALS, Best, Swept
from hisac_lab.sweep.rule import choose, describe
from hisac_lab.sweep.study import Journal, Settings, TrialScores, run_study
from hisac_lab.training.loop import train

RESAMPLES = 200  # of the users of the validation period, the same for every trial


@dataclass(frozen=True)
class TrialTask:
    """Everything a trial needs, in a form that travels to a worker process.

    Attributes:
        base: The swept model's settings.
        backbone: The section `backbone`.
        train: The section `train`, with the sweep's number of epochs.
        compute: The section `compute`.
        share: Share of the training requests, the latest.
        seed: Seed of weights and order, the same for all trials.
        prepared: Output of the stage `prepare`.
        embedded: Output of the stage `embed`.
        codebook: Output of the stage `codebook`.
    """

    base: HiSACConfig
    backbone: BackboneConfig
    train: TrainConfig
    compute: ComputeConfig
    share: float
    seed: int
    prepared: Path
    embedded: Path
    codebook: Path


def apply_settings(base: HiSACConfig, settings: Settings, items: ItemSpace) -> HiSACConfig:
    """The model of one trial; where a depth has fewer leaves than agents are asked for, all leaves serve."""
    leaves = len(items.codebook.parents[int(settings["depth"]) - 1])
    changes = dict(settings) | {"agents": min(int(settings["agents"]), leaves), "budgets": None}
    return base.model_copy(update=changes)


def run_trial(task: TrialTask, settings: Settings) -> TrialScores:
    """Trains one configuration; gives its validation AUC, also on resampled users, and its cost.

    The resamples are those of all trials with this seed, so that the error of a difference can be paired.
    """
    runtime = Runtime.start(task.compute)
    items = load_items(prepared=task.prepared, embedded=task.embedded, codebook=task.codebook)
    store = EventStore.open(task.prepared)
    samples = store.samples("train")
    begin = np.sort(samples["time"])[int(len(samples) * (1 - task.share))]
    samples = samples[samples["time"] >= begin]
    requests = Requests.of(store, samples, task.train.max_candidates)
    valid = Requests.of(store, store.samples("valid"), task.train.max_candidates)
    model = build(apply_settings(task.base, settings, items), task.backbone, items, task.seed)
    what = "sweep " + ", ".join(f"{name} {value}" for name, value in settings.items())
    loader = Loader.of(model, valid, runtime)
    train(model, Loader.of(model, requests, runtime), loader, task.train, task.seed, what)
    logits = score(model, loader.counted(model))[valid.mask]
    user = dense_rank(np.repeat(valid.user, valid.mask.sum(axis=1)))
    weights = draw_users(int(user.max()) + 1, RESAMPLES, task.seed)
    aucs = weighted_auc(valid.labels[valid.mask], logits, weights, user)
    cost = count(model, loader).candidate_macs
    return TrialScores(tuple(round(float(auc), 6) for auc in aucs), round(cost))


def _pool(workers: int) -> Executor:
    """Processes of their own; where one works at a time, a thread of this one, which need not load anything."""
    if workers == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def sweep(config: SweepConfig, task: TrialTask, *, workers: int, out: Path, work: Path) -> None:
    """Runs the study, marks the Pareto front and applies the rule (see `hisac_lab.sweep.rule`).

    Args:
        config: The section `sweep`.
        task: What every trial shares.
        workers: Processes at once; the result does not depend on it.
        out: An empty directory.
        work: Where the journal lives until the study has ended well.
    """

    def evaluate(batch: list[Settings], note: Callable[[Settings, TrialScores], None]) -> None:
        jobs = {pool.submit(run_trial, task, settings): settings for settings in batch}
        for job in as_completed(jobs):
            note(jobs[job], job.result())

    Runtime.start(task.compute)  # the trials may compute in other processes; the manifest is written here
    with _pool(workers) as pool:
        journal = Journal(work / "journal.jsonl")
        say(f"sweep: {config.trials} trials in rounds of {config.round_size}, {workers} at once")
        trials = run_study(
            config,
            evaluate,
            journal,
            done=lambda number: say(f"sweep: {number} of {config.trials} trials told"),
        )
    choice = choose(trials, config.standard_errors)
    items = load_items(prepared=task.prepared, embedded=task.embedded, codebook=task.codebook)
    final = apply_settings(task.base, choice.chosen.settings, items)
    table = pd.DataFrame(
        {
            "number": trial.number,
            **trial.settings,
            "auc": trial.scores.aucs[0],
            "standard_error": choice.errors[trial.number],
            "cost": trial.scores.cost,
            "on_front": trial.on_front,
        }
        for trial in trials
    )
    table.to_csv(out / TRIALS, index=False, lineterminator=os.linesep)
    resamples = pd.DataFrame({trial.number: trial.scores.aucs for trial in trials})
    resamples.to_csv(out / "resamples.csv", index=False, lineterminator=os.linesep)
    Best(model=config.model, settings=final.model_dump(mode="json")).save(out)
    Swept(
        model=config.model,
        trials=len(trials),
        front=[trial.number for trial in trials if trial.on_front],
        best=choice.best.number,
        chosen=choice.chosen.number,
        rule=describe(config.standard_errors),
        auc=choice.chosen.scores.aucs[0],
        best_auc=choice.best.scores.aucs[0],
        standard_error=choice.errors[choice.chosen.number],
        cost=choice.chosen.scores.cost,
        budgets=list(split_budget(final.agents, int(choice.chosen.settings["depth"]), final.breadth)),
    ).save(out)
    shutil.rmtree(work, ignore_errors=True)
