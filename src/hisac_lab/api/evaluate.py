"""Several models on the same test requests, under one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hisac_lab.api.model import Model
from hisac_lab.api.settings import settings
from hisac_lab.api.tables import Printed
from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.evaluation.evaluate import evaluate as judge
from hisac_lab.evaluation.records import Evaluated, ModelScores, Scores


@dataclass(frozen=True, repr=False)
class Comparison(Printed):
    """Scores of several models.

    Attributes:
        path: Output of the stage `evaluate`.
    """

    path: Path

    @property
    def protocol(self) -> Evaluated:
        """What was judged, and by what fingerprint."""
        return Evaluated.open(self.path)

    @property
    def scores(self) -> dict[str, ModelScores]:
        """Everything that was measured, by model."""
        return Scores.open(self.path).models

    @property
    def caption(self) -> str:  # type: ignore[override]
        """One line above the table."""
        facts = self.protocol
        return (
            f"{facts.test_samples:,} test samples of {facts.test_users:,} users, negatives {facts.negatives};"
            f" {facts.confidence:.0%} intervals over users, differences paired with {facts.reference!r}"
        )

    def table(self, metric: str = "auc") -> pd.DataFrame:
        """The models by falling value of a metric.

        Args:
            metric: One of those in `scores[...].metrics`.

        Raises:
            UserError: There is no such metric.
        """
        scores, rows = self.scores, []
        metrics = next(iter(scores.values())).metrics
        if metric not in metrics:
            raise UserError("table()", f"there is no metric {metric!r}", f"name one of {', '.join(metrics)}", "metric")
        for name, model_scores in scores.items():
            score = model_scores.metrics[metric]
            if score is None:
                continue
            rows.append({
                "model": name,
                metric: score.value,
                "interval": f"{score.interval[0]:.4f} to {score.interval[1]:.4f}",
                "difference": score.difference,
                "interval of difference": "{:+.4f} to {:+.4f}".format(*score.difference_interval),
                "state bytes": round(model_scores.cost.state_bytes),
                "parameters": model_scores.parameters,
            })  # fmt: skip
        rising = metric == "log_loss"
        return pd.DataFrame(rows).sort_values(metric, ascending=rising, kind="stable", ignore_index=True).round(4)


def evaluate(
    models: Mapping[str, Model | Sequence[Model]],
    *,
    compute: dict[str, Any] | None = None,
    workers: int = 1,
    **changes: Any,
) -> Comparison:
    """Scores the test period with every model.

    Args:
        models: By name, one or several seeds each, all of the same data.
        compute: Settings of the section `compute` that differ from the defaults.
        workers: Processes at once; the result does not depend on it.
        changes: Settings of the section `evaluate` that differ from the defaults; `reference` is by default the first.

    Raises:
        UserError: A setting is wrong, or the models are of different data.
    """
    runs = {name: [one] if isinstance(one, Model) else list(one) for name, one in models.items()}
    every = [run for group in runs.values() for run in group]
    if not every or not all(runs.values()):
        raise UserError("evaluate()", "there is a name without a model", "give one or more each", "models")
    first = every[0].data
    for run in every:
        if run.data.prepared != first.prepared:
            what = "models of different data cannot be compared"
            raise UserError("evaluate()", what, "fit them on the same `data`", "models")
    config = settings(EvaluateConfig, {"reference": next(iter(runs)), **changes}, "evaluate")
    if config.reference not in runs:
        what = f"there is no model {config.reference!r}"
        raise UserError("evaluate()", what, f"name one of {', '.join(runs)}", "reference")
    machine = settings(ComputeConfig, compute or {}, "evaluate", "compute")
    paths = {name: [run.path for run in group] for name, group in runs.items()}
    stores = [run.instances for run in every if run.instances is not None]
    key = [config.model_dump(mode="json"), machine.model_dump(mode="json"), first.key(),
           {name: [path.name for path in group] for name, group in paths.items()}]  # fmt: skip

    def build(out: Path) -> None:
        timings = first.workspace.path / "timings" / f"{out.name}.json"
        store = stores[0] if stores else None
        judge(config, machine, prepared=first.prepared, runs=paths, out=out, timings=timings, instances=store,
              workers=workers)  # fmt: skip

    return Comparison(first.workspace.make("evaluate", key, build))
