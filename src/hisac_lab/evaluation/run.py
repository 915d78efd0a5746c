"""The stage `evaluate`: every trained model on the same test exposures, under one fingerprint."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import MANIFEST, Array, digest_of, read_manifest, write_json, write_manifest
from hisac_lab.base.progress import track
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.judge import EvaluateConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation import metrics
from hisac_lab.evaluation.cost import count, measure_time
from hisac_lab.events.batches import group
from hisac_lab.events.store import EventStore
from hisac_lab.models.bundle import load_model
from hisac_lab.models.runtime import AgentCache, Runtime, fed, score_rows
from hisac_lab.ops.auc import weighted_auc

ROW_CANDIDATES = 4
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
            read_manifest(run)
    known = {run for runs in wanted.values() for run in runs}
    for folder in trained.iterdir():
        if folder not in known and (folder / MANIFEST).exists():
            shutil.rmtree(folder)
    return wanted


def evaluate(
    config: EvaluateConfig,
    experiment: ExperimentConfig,
    compute: ComputeConfig,
    prepared: Path,
    trained: Path,
    out: Path,
    timings: Path,
    instances: Path | None = None,
) -> None:
    """Scores the test period with every run and writes metrics with intervals.

    Args:
        config: The section `evaluate`.
        experiment: Which models and seeds there are.
        compute: The section `compute`.
        prepared: Output of the stage `prepare`.
        trained: Folder with one directory per training run.
        out: An empty directory.
        timings: A JSON file for what differs between machines; never an output.
        instances: Output of the stage `instances`, for models that read it.

    Raises:
        UserError: A run is missing.
    """
    runtime = Runtime.start(compute)
    store = EventStore.open(prepared)
    samples = store.samples("test")
    requests = group(store, samples, ROW_CANDIDATES)
    labels = samples["label"].astype(float)
    user = np.unique(samples["user"], return_inverse=True)[1]
    resamples = metrics.user_resamples(int(user.max()) + 1, config.bootstrap, config.seed)
    slices = _slices(store, samples, config.slices)
    runs = runs_of(trained, experiment)
    todo = [(name, run) for name, paths in runs.items() for run in paths]
    resampled: dict[str, dict[str, list[Array]]] = {name: {} for name in runs}
    found: dict[str, dict[str, Any]] = {name: {"seeds": {}} for name in runs}
    seconds: dict[str, Any] = {}
    for name, run in track(todo, len(todo), "evaluate", "runs"):
        manifest = read_manifest(run)
        model, _ = load_model(run, instances=instances)
        model.to(runtime.device)
        rows = fed(model, requests, instances)
        logits = np.zeros(len(samples))
        scored = score_rows(model, rows, runtime, AgentCache.fill(model, rows, runtime))
        logits[rows.sample[rows.mask]] = scored[rows.mask]
        values = metrics.all_metrics(labels, logits, user, resamples, config.top)
        for kind, bins in slices.items():
            for label, inside in bins.items():
                weights = weighted_auc(labels[inside], logits[inside], resamples[:, user[inside]])
                values[f"slice/{kind}/{label}"] = weights
        for metric, series in values.items():
            resampled[name].setdefault(metric, []).append(series)
        found[name]["seeds"][str(manifest["seed"])] = {
            "valid_auc": manifest["valid_auc"],
            "calibration": metrics.calibration(labels, logits),
            **{metric: _round(series[0]) for metric, series in values.items() if not metric.startswith("slice/")},
        }
        if run == runs[name][0]:
            found[name] |= {"cost": count(model, rows, runtime), "parameters": manifest["parameters"]}
            found[name]["settings"] = manifest["settings"]
            seconds[name] = measure_time(model, rows, runtime)
    for name in found:
        found[name] |= _summarise(resampled[name], resampled[config.reference], config.confidence)
        best = max(found[name]["seeds"].items(), key=lambda entry: entry[1]["valid_auc"])
        found[name]["best_seed"] = int(best[0])
    ceilings = _ceilings(store, labels, resamples[:, user], config.confidence)
    sizes = {kind: {label: int(inside.sum()) for label, inside in bins.items()} for kind, bins in slices.items()}
    fingerprint = protocol_fingerprint(store, config)
    pairs = metrics.paired({name: np.mean(series["auc"], axis=0) for name, series in resampled.items()},
                           config.confidence)  # fmt: skip
    write_json(out / "metrics.json", {"models": found, "pairs": pairs, "slices": sizes, "ceilings": ceilings})
    write_manifest(
        out,
        fingerprint=fingerprint,
        reference=config.reference,
        confidence=config.confidence,
        negatives=store.manifest["negatives"],
        test_samples=len(samples),
        test_users=int(user.max()) + 1,
    )
    timings.parent.mkdir(parents=True, exist_ok=True)
    write_json(timings, {"fingerprint": fingerprint, "models": seconds})


def protocol_fingerprint(store: EventStore, config: EvaluateConfig) -> str:
    """Digest of split, candidates, negatives, history limit and metrics.

    Numbers with different fingerprints are never put in one table.
    """
    return digest_of({"data": store.manifest["protocol"], "metrics": config.model_dump(mode="json")})


def _summarise(own: dict[str, list[Array]], reference: dict[str, list[Array]], confidence: float) -> dict[str, Any]:
    """Means over seeds, intervals over users, spread over seeds, paired difference to the reference."""
    overall: dict[str, Any] = {}
    slices: dict[str, Any] = {}
    for metric, series in own.items():
        together = np.mean(series, axis=0)
        entry = {"value": _round(together[0]), "interval": metrics.interval(together[1:], confidence)}
        if metric.startswith("slice/"):
            _, kind, label = metric.split("/", 2)
            slices.setdefault(kind, {})[label] = entry
            continue
        gap = together - np.mean(reference[metric], axis=0)
        entry["seed_spread"] = _round(np.std([one[0] for one in series]))
        entry["difference"] = _round(gap[0])
        entry["difference_interval"] = metrics.interval(gap[1:], confidence)
        overall[metric] = entry
    return {"metrics": overall, "slices": slices}


def _ceilings(store: EventStore, labels: Array, weights: Array, confidence: float) -> dict[str, Any]:
    """AUC of the truth, where the data set knows it: nothing that is learnt from the log can be expected above it.

    `probability_anywhere` is the true probability of a click, whatever the position in the slate, which no model here
    is told; `probability_recent_anywhere` is what is left of it for who sees the last events only; `probability` knows
    the position too.
    """
    found = {}
    for name in TRUTHS:
        if name in store.manifest["extras"]:
            series = weighted_auc(labels, np.asarray(store.extra(name, "test"), np.float64), weights)
            found[name] = {"value": _round(series[0]), "interval": metrics.interval(series[1:], confidence)}
    return found


def _slices(store: EventStore, samples: Array, bins: int) -> dict[str, dict[str, Array]]:
    """Masks of the test samples by quantiles of history length and of item popularity in training."""
    start, end = store.bounds(samples)
    train = store.samples("train")
    popularity = np.bincount(train["item"], minlength=int(store.manifest["items"]))[samples["item"]]
    return {
        "history length": _bins(end - start, bins),
        "item popularity": _bins(popularity, bins),
    }


def _bins(values: Array, bins: int) -> dict[str, Array]:
    edges: Sequence[int] = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)).astype(int)).tolist()
    if len(edges) < 2:
        edges = [edges[0], edges[0] + 1]
    masks = {}
    for low, high in itertools.pairwise(edges):
        last = high == edges[-1]
        inside = (values >= low) & ((values <= high) if last else (values < high))
        masks[f"{low} to {high if last else high - 1}"] = inside
    return masks


def _round(value: Any) -> float:
    return round(float(value), 6)
