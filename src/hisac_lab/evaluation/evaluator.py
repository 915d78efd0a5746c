"""What every run is judged by, and what one run is worth by it."""

from __future__ import annotations

import functools
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array, sha256_tree, write_file
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.evaluation import metrics
from hisac_lab.evaluation.cost import count, measure_time
from hisac_lab.evaluation.records import Calibration, Seconds, ServingCost
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score_tasks
from hisac_lab.inference.records import Trained
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.backbone import Ranker
from hisac_lab.ops.auc import weighted_auc
from hisac_lab.ops.bins import quantile_bins
from hisac_lab.ops.ranks import dense_rank

ROW_CANDIDATES = 16
TASK = "task/"
"""Before the name of a further answer, among the names of series."""
HALF = 0.5  # a further answer from here on is yes
FACTS = "facts"
"""What is kept of a run's scores beside its series."""


@dataclass(frozen=True)
class EvaluationTask:
    """Everything an evaluator is made of, in a form that travels to a worker process.

    Attributes:
        config: The section `evaluate`.
        compute: The section `compute`.
        prepared: Output of the stage `prepare`.
        instances: Output of the stage `instances`, for models that read it.
    """

    config: EvaluateConfig
    compute: ComputeConfig
    prepared: Path
    instances: Path | None


@dataclass(frozen=True)
class RunScores:
    """What one run is worth.

    Attributes:
        run: Its manifest.
        series: Of each metric, of the AUC in each slice as `slice/KIND/BIN`, and of the AUC of each further answer as
            `task/NAME`, the value and its resamples; (1 + B,).
        calibration: See `metrics.calibration`.
        cost: That of its model, which all runs of a model share; None unless asked for.
    """

    run: Trained
    series: dict[str, Array]
    calibration: Calibration
    cost: ServingCost | None


@dataclass(frozen=True)
class Evaluator:
    """The test exposures and what all runs have in common.

    Attributes:
        task: What it was made of.
        runtime: Device and number format.
        store: The events.
        samples: The test samples; (N,).
        requests: The same, each with its candidates.
        labels: (N,) 0 or 1.
        user: Number of each sample's user, 0..U-1; (N,).
        resamples: Weights of the users, the first row all ones; (1 + B, U).
        slices: Masks of the samples by kind and bin; (N,) each.
    """

    task: EvaluationTask
    runtime: Runtime
    store: EventStore
    samples: Array
    requests: Requests
    labels: Array
    user: Array
    resamples: Array
    slices: dict[str, dict[str, Array]]

    @classmethod
    def open(cls, task: EvaluationTask) -> Evaluator:
        """Reads the test period.

        Raises:
            UserError: An input is missing, or the device.
        """
        runtime = Runtime.start(task.compute)
        store = EventStore.open(task.prepared)
        samples = store.samples("test")
        user = dense_rank(samples["user"])
        return cls(
            task,
            runtime,
            store,
            samples,
            requests=Requests.of(store, samples, ROW_CANDIDATES),
            labels=samples["label"].astype(float),
            user=user,
            resamples=metrics.user_resamples(int(user.max()) + 1, task.config.bootstrap, task.config.seed),
            slices=_slices(store, samples, task.config.slices),
        )

    def score(self, run: Path, first: bool) -> RunScores:
        """Scores the test period with a trained run.

        Args:
            run: Its folder.
            first: Whether to count the model's cost too.

        Raises:
            UserError: The run is incomplete, or was trained with another instance store.
        """
        trained = Trained.open(run)
        model, loader = self._load(run)
        real = self.requests.mask
        answers = np.zeros((len(self.samples), 1 + len(model.tasks)))
        answers[self.requests.sample[real]] = score_tasks(model, loader.counted(model))[real]
        logits = answers[:, 0]
        series = metrics.all_metrics(self.labels, logits, self.user, self.resamples, self.task.config.top)
        for kind, bins in self.slices.items():
            for label, inside in bins.items():
                area = weighted_auc(self.labels[inside], logits[inside], self.resamples, self.user[inside])
                series[f"slice/{kind}/{label}"] = area
        for name, truth, own in zip(
            model.tasks, self.store.answers("test", model.tasks).T, answers[:, 1:].T, strict=True
        ):
            known = ~np.isnan(truth)
            positive = (truth[known] >= HALF).astype(float)
            series[TASK + name] = weighted_auc(positive, own[known], self.resamples, self.user[known])
        cost = count(model, loader) if first else None
        return RunScores(trained, series, metrics.calibration(self.labels, logits), cost)

    def time(self, run: Path) -> Seconds:
        """Seconds that the run's model takes on this machine; see `measure_time`."""
        return measure_time(*self._load(run))

    def _load(self, run: Path) -> tuple[Ranker, Loader]:
        model, _ = load_model(run, instances=self.task.instances)
        model.to(self.runtime.device)
        return model, Loader.of(model, self.requests, self.runtime, self.task.instances)


def score_or_recall(evaluator: Evaluator, work: Path | None, run: Path, first: bool) -> RunScores:
    """`Evaluator.score`, kept in the folder `work`, or taken from there when a killed stage had got so far."""
    if work is None:
        return evaluator.score(run, first)
    path = work / f"{run.name}-{sha256_tree(run)[:16]}.npz"
    if path.exists():
        with np.load(path) as kept:
            facts = json.loads(str(kept[FACTS]))
            series = {name: kept[name] for name in kept.files if name != FACTS}
        calibration = Calibration.of(facts["calibration"], path)
        cost = None if facts["cost"] is None else ServingCost.of(facts["cost"], path)
        return RunScores(Trained.open(run), series, calibration, cost)
    scores = evaluator.score(run, first)
    facts = {"calibration": scores.calibration.facts(), "cost": scores.cost and scores.cost.facts()}
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**scores.series, FACTS: np.array(json.dumps(facts))}
    np.savez(buffer, **arrays)
    write_file(path, buffer.getvalue())
    return scores


def score_run(task: EvaluationTask, work: Path | None, run: Path, first: bool) -> RunScores:
    """`score_or_recall` in a worker process, which makes its evaluator once."""
    return score_or_recall(_open_once(task), work, run, first)


_open_once = functools.lru_cache(maxsize=1)(Evaluator.open)


def _slices(store: EventStore, samples: Array, bins: int) -> dict[str, dict[str, Array]]:
    """Masks of the test samples by quantiles of history length and of item popularity in training."""
    _, end = store.bounds(samples)
    train = store.samples("train")
    popularity = np.bincount(train["item"], minlength=store.manifest.items)[samples["item"]]
    return {
        # before the cut at the history limit
        "history length": quantile_bins(end - store.offsets[samples["user"]], bins),
        "item popularity": quantile_bins(popularity, bins),
    }
