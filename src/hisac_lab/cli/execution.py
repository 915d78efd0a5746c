"""What MLflow is told of an execution of the graph beside its outputs: commit, settings, machines, times of trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hisac_lab.base.errors import UserError
from hisac_lab.cli import machine, reach
from hisac_lab.cli.paths import ARTIFACTS, TIMINGS
from hisac_lab.cli.plan import Plan
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.records import Trained
from hisac_lab.registry.mirror import Lineage
from hisac_lab.sweep.records import TrialSpan, times_beside

if TYPE_CHECKING:
    from hisac_lab.cli.params import Params


def lineage(params: Params) -> Lineage:
    """Where the outputs that are here came from."""
    from hisac_lab.cli import lineage as origin  # brings torch

    values = params.model_dump(mode="json")
    board = {*params.experiment.models, *params.sweep.models}
    values["models"] = {name: config for name, config in values["models"].items() if name in board}
    machines = machine.records()
    return Lineage(
        origin.commit(),
        flatten(values),
        machines,
        {name: _read(name, values) for name in machines},
        _trials(params.sweep.models),
        origin.changes(params),
    )


def _read(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The settings that a stage reads, flattened; those of its model stand below `model`, whatever the model is called.

    What a training took from the sweep takes the place of what params.yaml says.
    """
    stage, _, instance = name.partition("@")
    model = instance if stage == "sweep" else instance.rpartition("-")[0] if stage == "train" else ""
    named = tuple(f"{key}." for key in reach.read(name, values))
    read = {key: value for key, value in flatten(values).items() if f"{key}.".startswith(named)}
    if not model:
        return read
    own = f"models.{model}."
    read = {f"model.{key.removeprefix(own)}" if key.startswith(own) else key: value for key, value in read.items()}
    return read | (_tuned(name, model) if stage == "train" else {})


def _tuned(name: str, model: str) -> dict[str, Any]:
    """What a training had in place of params.yaml: its model's settings, and what its plan says of other sections."""
    try:
        settings = Trained.open(ARTIFACTS.at(name)).settings
        tuned = Plan.read(ARTIFACTS.plan_of(model)).tuned or {}
    except UserError:
        return {}
    fields = {"train": TrainConfig.model_fields, "backbone": BackboneConfig.model_fields}
    own = {name: {key: value for key, value in tuned.items() if key in known} for name, known in fields.items()}
    return flatten({"model": settings, **own})


def _trials(models: tuple[str, ...]) -> dict[str, tuple[TrialSpan, ...]]:
    """When trials ran, as far as it is known here."""
    files = {model: times_beside(TIMINGS.parent / f"sweep-{model}.journal") for model in models}
    return {model: TrialSpan.read_list(file) for model, file in files.items() if file.exists()}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
