"""Model versions in the MLflow registry: registered from bundles, found by digest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array

from hisac_lab.base import plugins
from hisac_lab.base.errors import UserError
from hisac_lab.evaluation.records import Metric
from hisac_lab.events.context import ContextColumns
from hisac_lab.events.feedback import Levels
from hisac_lab.events.records import ContextFacts
from hisac_lab.inference.records import CARD, Claim, ModelFile
from hisac_lab.inference.request import FEEDBACK, Column, columns
from hisac_lab.models.features import UserFeatures
from hisac_lab.registry.integrity import DIGEST, check_bundle
from hisac_lab.registry.records import ABEvidence, Evidence, VocabularyFile

BUNDLE, PROJECT, DECISION = "hisac_lab.bundle", "hisac_lab.project", "hisac_lab.decision"
"""Tags: digest of a version's bundle; whose a model or version is; the ledger's line that set a model's champion."""
CHAMPION, CHALLENGER = "champion", "challenger"
PACKAGE = Path(__file__).parents[1]
REQUIREMENTS = ["mlflow", "numpy", "pandas", "pydantic", "pyyaml", "rich", "safetensors", "torch"]
KINDS: dict[str, Any] = {
    "id": DataType.string,
    "integer": DataType.long,
    "value": AnyType(),  # type: ignore[no-untyped-call]
    "vector": Array(DataType.double),
}
"""MLflow's types of what stands in a request's columns."""


class ModelVersions:
    """Registered models of one project and their versions; what others hold in the same store is not seen.

    Args:
        client: A client of the registry.
        project: The project's identity (see `Ledger`).
    """

    def __init__(self, client: MlflowClient, project: str) -> None:
        self.client, self.project = client, project

    def register(self, name: str, bundle: Path, digest: str, run: str) -> str:
        """Makes a version of a bundle and points `challenger` at it; a known bundle keeps its version.

        A version whose files are gone is made anew.

        Args:
            name: Name of the registered model.
            bundle: The bundle's directory.
            digest: Its digest.
            run: The training run that made its weights.

        Returns:
            The version.

        Raises:
            UserError: The name is another's.
        """
        self.claim(name)
        known = self.by_digest(name, digest)
        if known is not None and not mlflow.artifacts.list_artifacts(f"models:/{name}/{known.version}"):
            self.client.delete_model_version(name, known.version)  # its files are gone
            known = None
        if known is None:
            known = self._log(name, bundle, digest, run)
        self.client.set_registered_model_alias(name, CHALLENGER, known.version)
        return str(known.version)

    def _log(self, name: str, bundle: Path, digest: str, run: str) -> ModelVersion:
        model = ModelFile.open(bundle)
        with mlflow.start_run(run_id=run), tempfile.TemporaryDirectory() as folder:
            code, requirements = plugins.luggage(plugins.MODELS, model.model["kind"], Path(folder))
            info = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(PACKAGE / "registry" / "served.py"),
                artifacts={"bundle": str(bundle)},
                code_paths=[str(path) for path in (PACKAGE, *code)],
                model_config={DIGEST: digest},
                signature=_signature(bundle),
                input_example=_example(bundle),
                pip_requirements=[*map(_pinned, REQUIREMENTS), *requirements],
            )
        evidence = Evidence.open(bundle)
        tags = {
            BUNDLE: digest,
            PROJECT: self.project,
            "fingerprint": evidence.fingerprint,
            "auc": _interval(evidence.metrics["auc"]),
            "calibration_error": f"{evidence.calibration_error:.4f}",
            "candidate_macs": f"{evidence.cost.candidate_macs:.0f}",
            "abtest": _verdict(evidence.abtest),
            **({} if model.package is None else {"package": model.package}),
        }
        try:
            card = _describe(name, Claim.read_list(bundle / CARD))
            self.client.create_registered_model(name, {PROJECT: self.project}, card)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            self.claim(name)
        return self.client.create_model_version(name, info.model_uri, run, tags, model_id=info.model_id)

    def claim(self, name: str) -> None:
        """Checks that a name is free or this project's: aliases belong to a name, so two projects cannot share one.

        Raises:
            UserError: It is another's.
        """
        registered = self._model(name)
        if registered is not None and not self._owns(registered):
            owner = registered.tags.get(PROJECT)
            whose = f"project {owner[:12]}, this one is {self.project[:12]}" if owner else "someone else"
            hint = "name it otherwise in params.yaml, take another store (mlflow.tracking_uri), or, if it is this "
            raise UserError("registry", f"the model {name!r} is of {whose}", f"{hint}project's, restore its ledger")

    def _model(self, name: str) -> RegisteredModel | None:
        try:
            return self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _owns(self, model: RegisteredModel) -> bool:
        """Whether a registered model bears this project's tag; where it bears none, whether a version does."""
        owner = model.tags.get(PROJECT)
        return owner == self.project if owner else bool(self.all(model.name))

    def adopt(self, digests: Collection[str] | None) -> None:
        """Tags versions that were made before projects had an identity, under names that are nobody else's.

        Args:
            digests: Of bundles that are known to be this project's; None: all, as nobody else is in the store.
        """
        for version in self.client.search_model_versions(f"tags.`{BUNDLE}` LIKE '%'"):
            if PROJECT in version.tags or (digests is not None and version.tags[BUNDLE] not in digests):
                continue
            model = self._model(version.name)
            if model is not None and model.tags.get(PROJECT, self.project) == self.project:
                self.client.set_registered_model_tag(version.name, PROJECT, self.project)
                self.client.set_model_version_tag(version.name, version.version, PROJECT, self.project)

    def all(self, name: str) -> list[ModelVersion]:
        """This project's versions of a model, oldest first."""
        versions = self.client.search_model_versions(f"name = '{name}'")
        own = [version for version in versions if BUNDLE in version.tags and version.tags.get(PROJECT) == self.project]
        return sorted(own, key=lambda version: int(version.version))

    def names(self) -> list[str]:
        """Names of this project's registered models."""
        versions = self.client.search_model_versions(f"tags.`{PROJECT}` = '{self.project}'")
        models = [
            self._model(name) for name in sorted({version.name for version in versions if BUNDLE in version.tags})
        ]
        return [str(model.name) for model in models if model is not None and self._owns(model)]

    def by_digest(self, name: str, digest: str) -> ModelVersion | None:
        """The version made of a bundle, if there is one."""
        return next((v for v in self.all(name) if v.tags.get(BUNDLE) == digest), None)

    def check(self, name: str) -> None:
        """Checks that there is a model.

        Raises:
            UserError: There is none.
        """
        names = self.names()
        if name not in names:
            known = ", ".join(names) or "none yet: run the graph"
            raise UserError("registry", f"there is no model {name!r} (there are: {known})", "name one of them")

    def pick(self, name: str, version: str | None) -> ModelVersion:
        """A version by number, or the challenger.

        Raises:
            UserError: There is no such model or version, or no challenger.
        """
        self.check(name)
        versions = self.all(name)
        numbers = ", ".join(str(candidate.version) for candidate in versions)
        if version is None:
            challenger = self.alias(name, CHALLENGER)
            if challenger is None:
                what = f"{name} has no challenger (there are: {numbers})"
                raise UserError("registry", what, "name a version with --version")
            return challenger
        for candidate in versions:
            if str(candidate.version) == version:
                return candidate
        raise UserError("registry", f"{name} has no version {version} (there are: {numbers})", "name one of them")

    def alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version an alias points at, if any."""
        aliases = self.client.get_registered_model(name).aliases
        return self.client.get_model_version(name, aliases[alias]) if alias in aliases else None

    def decision(self, name: str) -> str | None:
        """Hash of the ledger's line that set a model's champion, if one did."""
        return dict(self.client.get_registered_model(name).tags).get(DECISION)

    def set_champion(self, name: str, version: ModelVersion | None, decision: str) -> None:
        """Points `champion` at a version, or at nothing.

        Args:
            name: Name of the registered model.
            version: The version.
            decision: Hash of the ledger's line that says so.
        """
        self.client.set_registered_model_tag(name, DECISION, decision)
        if version is not None:
            self.client.set_registered_model_alias(name, CHAMPION, version.version)
        elif self.alias(name, CHAMPION) is not None:
            self.client.delete_registered_model_alias(name, CHAMPION)

    def evidence(self, version: ModelVersion) -> Evidence:
        """The evidence inside a version's bundle.

        Raises:
            UserError: There is none, or the bundle is damaged.
        """
        uri = f"models:/{version.name}/{version.version}"
        folder = Path(mlflow.artifacts.download_artifacts(uri))
        files = sorted(folder.rglob(Evidence.FILE))
        if not files:
            raise UserError(uri, "holds no evidence", "register it through the graph", Evidence.FILE)
        if digest := version.tags.get(BUNDLE):
            hint = "delete this version in MLflow, then `hisac-lab sync`"
            check_bundle(files[0].parent, digest, hint)
        return Evidence.read(files[0])


def _verdict(test: ABEvidence | None) -> str:
    if test is None:
        return "control"
    return f"{test.verdict} against {test.control}: {test.lift.low:+.2%} to {test.lift.high:+.2%}"


def _interval(metric: Metric) -> str:
    low, high = metric.interval
    return f"{metric.value:.4f} [{low:.4f}, {high:.4f}]"


def quiet() -> None:
    """No telemetry, no progress bars of MLflow's own, no minutes of silence for a server that has gone."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _describe(name: str, card: tuple[Claim, ...]) -> str:
    """The fidelity card in Markdown, for the model's page."""
    lines = [
        f"**{name}**: what is stated by the paper, inferred, and left out.",
        "",
        "| | claim | source |",
        "|---|---|---|",
    ]
    lines += [f"| {line.status} | {line.claim} | `{line.source}` |" for line in card]
    return "\n".join(lines)


def _pinned(name: str) -> str:
    """The version that is installed, without the mark of a local build, which no index has."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"


def _example(bundle: Path) -> pd.DataFrame:
    """A request that the model answers: its first items, a minute apart, the best feedback; no stored instances."""
    items = VocabularyFile.open(bundle).items[:3]
    times = [60 * place for place in range(1, len(items) + 1)]
    request: dict[str, Any] = {
        "history_items": items,
        "history_times": times,
        "time": times[-1] + 60,
        "candidates": items,
    }
    levels = _levels(bundle)
    if levels is not None:
        number = levels.begins[-1]
        words = [word for word, stands_for in (levels.words or {}).items() if stands_for == number]
        request[FEEDBACK.name] = [*words, number][:1] * len(items)
    required: list[str] = [column.name for column in _columns(bundle) if column.required]
    return pd.DataFrame([{name: [] for name in required} | request])


def _levels(bundle: Path) -> Levels | None:
    """Levels of the feedback that the model in a bundle reads; None: it reads none."""
    file = ModelFile.open(bundle)
    levels = file.items.get("feedback")
    return Levels.of(levels, bundle / ModelFile.FILE) if levels and file.backbone.get("feedback", True) else None


def _columns(bundle: Path) -> tuple[Column, ...]:
    """Those of a request to the model in a bundle."""
    file, levels = ModelFile.open(bundle), _levels(bundle)
    facts = ContextFacts.of(file.items.get("context", {}), bundle / ModelFile.FILE)
    context = ContextColumns.of(file.backbone.get("features", ()), facts, levels)
    told = UserFeatures(file.backbone.get("features", ()), facts, levels).own
    return columns(() if file.instances is None else ("instances",), levels, bool(context.item_names), told)


def _signature(bundle: Path) -> ModelSignature:
    """What a request holds: a model trained with an instance store is also told what the store answers."""
    kinds = [(KINDS[column.kind], column) for column in _columns(bundle)]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(kind) if column.many else kind, column.name, required=column.required) for kind, column in kinds
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(DataType.double), "scores"),
        ColSpec(DataType.long, "unknown_events"),
        ColSpec(DataType.string, "note"),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
