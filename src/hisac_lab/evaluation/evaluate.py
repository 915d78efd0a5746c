"""The stage `evaluate`: every trained model on the same test exposures, under one fingerprint."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import MANIFEST, Array, digest_of
from hisac_lab.base.progress import track
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation import metrics
from hisac_lab.evaluation.evaluator import TASK, EvaluationTask, Evaluator, RunScores, score_or_recall, score_run
from hisac_lab.evaluation.reading import read
from hisac_lab.evaluation.records import (
    Estimate,
    Evaluated,
    Gap,
    Metric,
    ModelScores,
    Pair,
    Scores,
    SeedScores,
    Timings,
)
from hisac_lab.events.positives import popularity
from hisac_lab.events.store import EventStore
from hisac_lab.inference.records import Trained
from hisac_lab.models.catalog import config_of
from hisac_lab.ops.auc import weighted_auc
from hisac_lab.ops.choice import highest

TRUTHS = ("probability_anywhere", "probability_recent_anywhere", "probability")


def runs_of(trained: Path, experiment: ExperimentConfig) -> dict[str, list[Path]]:
    """Folders of all training runs by model; runs that the matrix no longer names are removed.

    Such leftovers are outputs of earlier settings; DVC's cache still holds them, and while they lie there the folder
    would have another hash than in a fresh clone.

    Raises:
        UserError: A run is missing.
    """
    wanted = {name: [trained / f"{name}-{seed}" for seed in experiment.seeds] for name in experiment.models}
    for runs in wanted.values():
        for run in runs:
            Trained.open(run)
    runs_read = {run for runs in wanted.values() for run in runs}
    for folder in trained.iterdir():
        if folder not in runs_read and (folder / MANIFEST).exists():
            shutil.rmtree(folder)
    return wanted


DEFINITIONS = 2
"""Raised when a metric is defined anew: in 2, ties have their expected value and who cannot tell is left out."""


@arithmetic.one_thread()
def evaluate(
    config: EvaluateConfig,
    compute: ComputeConfig,
    *,
    prepared: Path,
    runs: dict[str, list[Path]],
    out: Path,
    timings: Path,
    instances: Path | None = None,
    workers: int = 1,
    work: Path | None = None,
) -> None:
    """Scores the test period with every run and writes metrics with intervals.

    Args:
        config: The section `evaluate`.
        compute: The section `compute`.
        prepared: Output of the stage `prepare`.
        runs: Outputs of the training runs by model, one per seed (see `runs_of`).
        out: An empty directory.
        timings: A JSON file for what differs between machines; never an output.
        instances: Output of the stage `instances`, for models that read it.
        workers: Processes at once, on a CPU; the result does not depend on it.
        work: Where scores of runs live until the stage has ended well: a killed one goes on there. None: nowhere.

    Raises:
        UserError: A run is missing.
    """
    evaluator = Evaluator.open(EvaluationTask(config, compute, prepared=prepared, instances=instances))
    names = [name for name, paths in runs.items() for _ in paths]
    scored: dict[str, list[RunScores]] = {name: [] for name in runs}
    for scores, name in zip(
        track(_score(evaluator, runs, workers, work), len(names), "evaluate", "runs"), names, strict=True
    ):
        scored[name].append(scores)
    means = {name: _means(name, of_model, config) for name, of_model in scored.items()}
    reference = means[config.reference]
    fingerprint = protocol_fingerprint(evaluator.store, config)
    Scores(
        models={
            name: _model_scores(of_model, means[name], reference, config.confidence)
            for name, of_model in scored.items()
        },
        pairs=metrics.paired({name: of_model["auc"] for name, of_model in means.items()}, config.confidence),
        bin_pairs={kind: _bin_pairs(kind, bins, means, config.confidence) for kind, bins in evaluator.slices.items()},
        users=metrics.users_counted(evaluator.labels, evaluator.user, evaluator.resamples.shape[1], config.top),
        undefined=_undefined(evaluator, reference),
        slices={
            kind: {label: int(inside.sum()) for label, inside in bins.items()}
            for kind, bins in evaluator.slices.items()
        },
        oracles=_oracles(evaluator),
        popularity=_over_popularity(evaluator, {name: of_model["auc"] for name, of_model in means.items()}),
    ).save(out)
    Evaluated(
        fingerprint=fingerprint,
        reference=config.reference,
        confidence=config.confidence,
        negatives=evaluator.store.manifest.negatives,
        test_samples=len(evaluator.samples),
        test_users=evaluator.resamples.shape[1],
        **({} if config.interval_over == "users" else {"seeds_drawn": True}),
    ).save(out)
    served = {name: paths[_served(scored[name])] for name, paths in runs.items()}
    read(evaluator.store, evaluator.samples, served, instances).save(out)
    # The workers have ended: none of them disturbs the clock.
    seconds = {name: evaluator.time(paths[0]) for name, paths in track(runs.items(), len(runs), "time", "models")}
    timings.parent.mkdir(parents=True, exist_ok=True)
    Timings(fingerprint=fingerprint, models=seconds).write(timings)
    if work is not None:
        shutil.rmtree(work, ignore_errors=True)


def _score(evaluator: Evaluator, runs: dict[str, list[Path]], workers: int, work: Path | None) -> Iterator[RunScores]:
    """Scores of all runs in their order; each model's first run counts its cost."""
    first = [run == paths[0] for paths in runs.values() for run in paths]
    folders = list(itertools.chain(*runs.values()))
    if workers == 1 or evaluator.runtime.device.type == "cuda":
        yield from map(functools.partial(score_or_recall, evaluator, work), folders, first)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(functools.partial(score_run, evaluator.task, work), folders, first)


def protocol_fingerprint(store: EventStore, config: EvaluateConfig) -> str:
    """Digest of split, candidates, negatives, history limit and metrics.

    Numbers with different fingerprints are never put in one table.
    """
    metrics_asked = config.model_dump(mode="json")
    if config.interval_over == "users":
        del metrics_asked["interval_over"]  # as before there was a choice
    return digest_of({"data": store.manifest.protocol, "metrics": metrics_asked, "definitions": DEFINITIONS})


def best_seed(valid_aucs: Mapping[int, float]) -> int:
    """The seed with the highest AUC on the validation period, as rounded; of equals the lowest.

    Args:
        valid_aucs: Of each seed's run; one at least.
    """
    return highest(valid_aucs, valid_aucs.__getitem__, int)


def _served(scored: list[RunScores]) -> int:
    """Place of the run with the best seed."""
    aucs = {scores.run.seed: scores.run.valid_auc for scores in scored}
    return list(aucs).index(best_seed(aucs))


def _means(name: str, scored: list[RunScores], config: EvaluateConfig) -> dict[str, Array]:
    """Of each metric, the mean over a model's runs and its resamples; (1 + B,)."""
    series = {metric: [scores.series[metric] for scores in scored] for metric in scored[0].series}
    if config.interval_over == "users":
        return {metric: np.mean(of_runs, axis=0) for metric, of_runs in series.items()}
    weights = metrics.seed_draws(len(scored), config.bootstrap, config.seed, name).T
    return {metric: (weights * of_runs).sum(axis=0) for metric, of_runs in series.items()}


def _model_scores(
    scored: list[RunScores], means: dict[str, Array], reference: dict[str, Array], confidence: float
) -> ModelScores:
    """Means over seeds, their intervals, spread over seeds, paired difference to the reference.

    Args:
        scored: The runs of one model; the first one has counted the cost.
        means: Their resampled metrics.
        reference: The same of the reference model.
        confidence: Of the intervals.
    """
    overall: dict[str, Metric | None] = {}
    slices: dict[str, dict[str, Metric | None]] = {}
    tasks: dict[str, Estimate | None] = {}
    for name, mean in means.items():
        if name.startswith(TASK):
            tasks[name.removeprefix(TASK)] = _estimate(mean, confidence)
            continue
        values = [scores.series[name][0] for scores in scored]
        metric = _metric(mean, values, reference[name], confidence)
        if _of_slice(name):
            _, kind, label = name.split("/", 2)
            slices.setdefault(kind, {})[label] = metric
        else:
            overall[name] = metric
    first = scored[0]
    control = config_of(first.run.settings).control
    return ModelScores(
        metrics=overall,
        slices=slices,
        seeds={scores.run.seed: _seed_scores(scores) for scores in scored},
        best_seed=scored[_served(scored)].run.seed,
        cost=first.cost,
        parameters=first.run.parameters,
        settings=first.run.settings,
        **({} if control is None else {"control": control}),
        **({} if first.run.labels == "own" else {"labels": first.run.labels}),
        **({"tasks": tasks} if tasks else {}),
    )


def _estimate(series: Array, confidence: float) -> Estimate | None:
    """The value of a series with its interval; None where it is undefined."""
    if not _defined(series):
        return None
    return Estimate(value=_round(series[0]), interval=metrics.interval(series[1:], confidence))


def _metric(mean: Array, values: list[float], reference: Array, confidence: float) -> Metric | None:
    """One metric of one model, by its resamples and its value for every run; None where it is undefined."""
    if not _defined(mean):
        return None
    gap = mean - reference
    return Metric(
        value=_round(mean[0]),
        interval=metrics.interval(mean[1:], confidence),
        seed_spread=_round(np.std(values)),
        difference=_round(gap[0]),
        difference_interval=metrics.interval(gap[1:], confidence),
    )


def _defined(mean: Array) -> bool:
    """Whether a metric has a value, and on some resample too."""
    return bool(np.isfinite(mean[0]) and np.isfinite(mean[1:]).any())


def _bin_pairs(
    kind: str, bins: Iterable[str], means: Mapping[str, dict[str, Array]], confidence: float
) -> dict[str, list[Pair]]:
    """Every pair of models in each bin of a kind of slice, where their AUC is defined."""
    by_bin = {label: {name: of_model[f"slice/{kind}/{label}"] for name, of_model in means.items()} for label in bins}
    defined = {label: values for label, values in by_bin.items() if all(map(_defined, values.values()))}
    return metrics.paired_by_bin(defined, confidence)


def _undefined(evaluator: Evaluator, means: dict[str, Array]) -> dict[str, str]:
    """Why a metric, or `KIND/BIN`, has no value: that is so for all models or for none."""
    reasons = {}
    for name, mean in means.items():
        if _defined(mean) or name.startswith(TASK):
            continue
        if not _of_slice(name):
            reasons[name] = metrics.why_undefined(name, evaluator.task.config.top)
            continue
        _, kind, label = name.split("/", 2)
        inside = evaluator.labels[evaluator.slices[kind][label]]
        reasons[f"{kind}/{label}"] = f"its {len(inside):,} samples are all {'positive' if inside.any() else 'negative'}"
    return reasons


def _seed_scores(scores: RunScores) -> SeedScores:
    defined = {metric: series[0] for metric, series in scores.series.items() if np.isfinite(series[0])}
    values = {metric: _round(value) for metric, value in defined.items() if "/" not in metric}
    return SeedScores(valid_auc=scores.run.valid_auc, calibration=scores.calibration, **values)


def _oracles(evaluator: Evaluator) -> dict[str, Estimate]:
    """AUC of the truth, where the data set knows it: nothing that is learned from the log can be expected above it.

    `probability_anywhere` is the true probability of a click, whatever the position in the slate, which no model here
    is told; `probability_recent_anywhere` is what is left of it for who sees the last events only; `probability` knows
    the position too.
    """
    oracles = {}
    for name in TRUTHS:
        if name in evaluator.store.manifest.extras:
            truth = np.asarray(evaluator.store.extra(name, "test"), np.float64)
            series = weighted_auc(evaluator.labels, truth, evaluator.resamples, evaluator.user)
            oracles[name] = Estimate(
                value=_round(series[0]), interval=metrics.interval(series[1:], evaluator.task.config.confidence)
            )
    return oracles


def _over_popularity(evaluator: Evaluator, aucs: dict[str, Array]) -> dict[str, Gap]:
    """Each model's AUC less that of popularity, on the same resamples.

    Args:
        evaluator: The test exposures.
        aucs: Of each model, the value and its resamples; (1 + B,).
    """
    counts = popularity(evaluator.store, evaluator.samples["item"], evaluator.samples["time"]).astype(np.float64)
    theirs = weighted_auc(evaluator.labels, counts, evaluator.resamples, evaluator.user)
    gaps = {name: series - theirs for name, series in aucs.items()}
    level = evaluator.task.config.confidence
    return {
        name: Gap(difference=_round(gap[0]), interval=metrics.interval(gap[1:], level)) for name, gap in gaps.items()
    }


def _of_slice(metric: str) -> bool:
    return metric.startswith("slice/")


def _round(value: Any) -> float:
    return round(float(value), 6)
