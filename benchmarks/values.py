"""A board at several values of one setting: every model beside itself at the first, on the same test samples."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from pages import table

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli.params import Params
from hisac_lab.evaluation.evaluate import runs_of
from hisac_lab.evaluation.evaluator import EvaluationTask, score_run
from hisac_lab.evaluation.metrics import interval, seed_draws
from hisac_lab.events.store import EventStore

METRICS = {"auc": "AUC", "gauc": "user-wise AUC"}
"""What is compared, and how the page calls it."""


@dataclass(frozen=True)
class Judged:
    """A graph that ran up to the evaluation.

    Attributes:
        params: Its settings.
        samples: User, time, item and label of its test samples; (4, N) int64.
        series: Of each model and metric the mean over its runs, then over users and runs drawn anew; (1 + B,).
    """

    params: Params
    samples: Array
    series: dict[str, dict[str, Array]]


def judged(folder: Path, value: str, workers: int) -> Judged:
    """Scores all runs in a folder again.

    Args:
        folder: Of a project.
        value: Tells its runs from those of other folders when runs are drawn.
        workers: Processes at once.
    """
    params = Params.model_validate_json(json.dumps(yaml.safe_load((folder / "params.yaml").read_text())))
    artifacts, config = Artifacts(folder / "artifacts"), params.evaluate
    task = EvaluationTask(config, params.compute, prepared=artifacts.prepare, instances=artifacts.instances)
    series = {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = runs_of(artifacts.train, params.experiment).items()
        scored = {model: [pool.submit(score_run, task, None, run, False) for run in paths] for model, paths in runs}
        for model, ones in scored.items():
            drawn = seed_draws(len(ones), config.bootstrap, config.seed, f"{model} {value}").T
            of_runs = [one.result().series for one in ones]
            series[model] = {metric: (drawn * [one[metric] for one in of_runs]).sum(axis=0) for metric in METRICS}
    tested = EventStore.open(artifacts.prepare).samples("test")
    samples = np.stack([tested[field] for field in ("user", "time", "item", "label")])
    return Judged(params, samples.astype(np.int64), series)


def page(title: str, folders: Mapping[str, Path], workers: int) -> list[str]:
    """Lines of a page with a table for each metric: a model's value everywhere, and its paired gap to the first.

    Args:
        title: Its first line.
        folders: Of each value of the setting, where the graph ran up to the evaluation.
        workers: Processes at once.

    Raises:
        UserError: The test samples differ, so nothing can be paired.
    """
    at = {value: judged(folder, value, workers) for value, folder in folders.items()}
    (name, first), *others = at.items()
    config, seeds = first.params.evaluate, len(first.params.experiment.seeds)
    for value, other in others:
        if not np.array_equal(first.samples, other.samples):
            what = f"has other test samples than {folders[name]}, so nothing can be paired"
            raise UserError(folders[value], what, "compare values that leave the samples as they are")
    lines = [
        title,
        "",
        f"Means over {seeds} seeds on the same {first.samples.shape[1]:,} test samples. Differences to `{name}` are",
        f"paired, with {config.confidence:.0%} intervals over users and seeds.",
        "",
    ]
    for metric, called in METRICS.items():
        rows = []
        for model, series in first.series.items():
            row = [model, f"{series[metric][0]:.4f}"]
            for _, other in others:
                gap = other.series[model][metric] - series[metric]
                low, high = interval(gap[1:], config.confidence)
                row += [f"{other.series[model][metric][0]:.4f}", f"{gap[0]:+.4f} [{low:+.4f}, {high:+.4f}]"]
            rows.append(row)
        columns = [called, f"`{name}`", *(cell for value, _ in others for cell in (f"`{value}`", "difference"))]
        lines += [*table(columns, rows), ""]
    return lines
