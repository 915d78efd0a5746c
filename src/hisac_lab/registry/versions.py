"""Versions of the product in the MLflow registry: of any model of the board, made from bundles, found by digest."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_PARENT_RUN_ID

from hisac_lab.base import plugins
from hisac_lab.base.errors import UserError
from hisac_lab.inference.records import CARD, Claim, ModelFile
from hisac_lab.registry.integrity import CODE, DIGEST, SERVED, check_bundle, check_code, code_digest
from hisac_lab.registry.origin import Origin
from hisac_lab.registry.records import Evidence

BUNDLE, CODE_TAG, PROJECT = "hisac_lab.bundle", "hisac_lab.code", "hisac_lab.project"
"""Tags: digests of a version's bundle and code; whose a product or version is."""
DECISION, FORCED = "hisac_lab.decision", "hisac_lab.forced"
"""Tags: the ledger's line that set the champion; why a version was promoted against its gates."""
APPENDED = "hisac_lab.appended_to"
"""Tag: digests of the bundles whose model a version is, with items appended; oldest first."""
MODEL = "model"
"""Tag: the model of the board that a version is."""
CHAMPION, CHALLENGER = "champion", "challenger"
PACKAGE = Path(__file__).parents[1]
REQUIREMENTS = ["mlflow", "numpy", "pandas", "pydantic", "pyyaml", "rich", "safetensors", "torch"]
ABOUT = "Versions are of any model of the board (tag `model`); `champion` is the one that gates and ledger let through."
LONGEST, CUT = 5000, "\n\nThe rest does not fit here; the bundle's `card.json` has it."
"""Characters of a description, and what stands at the end of one that was cut."""
NOTES = "docs/papers/"
"""Where the notes on papers stand."""
Version: TypeAlias = ModelVersion
"""A version as MLflow has it."""
MEND = "delete this version in MLflow, then `hisac-lab sync`"


class ModelVersions:
    """The registered model of one project's product, and its versions; what others hold in the store is not seen.

    Args:
        client: A client of the registry.
        project: The project's identity (see `Ledger`).
        product: Name of the registered model.
    """

    def __init__(self, client: MlflowClient, project: str, product: str) -> None:
        self.client, self.project, self.product = client, project, product

    def register(self, bundle: Path, digest: str, run: str, data: Dataset | None = None) -> str:
        """Makes a version of a bundle; a known bundle keeps its version.

        A version whose files are gone is made anew.

        Args:
            bundle: The bundle's directory.
            digest: Its digest.
            run: The training run that made its weights.
            data: What its numbers were measured on; None: a lost version, whose run says it.

        Returns:
            The version.

        Raises:
            UserError: The product's name is another's.
        """
        self.claim()
        known = self.by_digest(digest)
        if known is not None and not mlflow.artifacts.list_artifacts(f"models:/{self.product}/{known.version}"):
            self.client.delete_model_version(self.product, known.version)  # its files are gone
            known = None
        if known is None:
            known = self._log(bundle, digest, run, data)
        return str(known.version)

    def _log(self, bundle: Path, digest: str, run: str, data: Dataset | None) -> ModelVersion:
        from hisac_lab.registry.signature import example, signature  # with torch, which a look does not wait for

        file, evidence = ModelFile.open(bundle), Evidence.open(bundle)
        script = PACKAGE / "registry" / SERVED
        # outside of a run: opened again, that would lose its end, and get digests as parameters
        with tempfile.TemporaryDirectory() as folder:
            code, requirements = plugins.luggage(plugins.MODELS, file.model["kind"], Path(folder))
            parts = (PACKAGE, *code)
            code_now = code_digest(script, parts)
            info = mlflow.pyfunc.log_model(
                name=evidence.model,
                python_model=str(script),
                artifacts={"bundle": str(bundle)},
                code_paths=[str(path) for path in parts],
                model_config={DIGEST: digest, CODE: code_now},
                signature=signature(bundle),
                input_example=example(bundle),
                pip_requirements=[*map(_pinned, REQUIREMENTS), *requirements],
            )
        tags = {
            BUNDLE: digest,
            CODE_TAG: code_now,
            PROJECT: self.project,
            **evidence_tags(evidence),
            **({} if file.package is None else {"package": file.package}),
            **({APPENDED: " ".join(part.bundle for part in evidence.appended)} if evidence.appended else {}),
        }
        named = {} if data is None else {"dataset_name": data.name, "dataset_digest": data.digest}
        now = int(time.time() * 1000)
        measured = [
            Metric(name, value, now, 0, model_id=info.model_id, run_id=run, **named)
            for name, value in _numbers(evidence).items()
        ]
        self.client.log_batch(run, metrics=measured)
        self.client.log_outputs(run, [LoggedModelOutput(info.model_id, 0)])
        try:
            self.client.create_registered_model(self.product, {PROJECT: self.project}, ABOUT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            self.claim()
        version = self.client.create_model_version(
            self.product, info.model_uri, run, tags, description=fitting(card(bundle)), model_id=info.model_id
        )
        versions = json.dumps([{"name": self.product, "version": str(version.version)}])
        self.client.set_logged_model_tags(info.model_id, {MLFLOW_MODEL_VERSIONS: versions})
        return version

    def claim(self) -> None:
        """Checks that the product's name is free or this project's: two projects cannot share one name's aliases.

        Raises:
            UserError: It is another's.
        """
        registered = self._registered()
        if registered is not None and (owner := registered.tags.get(PROJECT)) != self.project:
            whose = f"project {owner[:12]}, this one is {self.project[:12]}" if owner else "someone else"
            hint = "name it otherwise (promotion.product), take another store (mlflow.tracking_uri), or, if it is this "
            what = f"the model {self.product!r} is of {whose}"
            raise UserError("registry", what, f"{hint}project's, restore its ledger")

    def _registered(self) -> RegisteredModel | None:
        try:
            return self.client.get_registered_model(self.product)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def all(self) -> list[ModelVersion]:
        """This project's versions, oldest first."""
        registered = self._registered()
        if registered is None or registered.tags.get(PROJECT) != self.project:
            return []
        versions = self.client.search_model_versions(f"name = '{self.product}'")
        own = [version for version in versions if BUNDLE in version.tags and version.tags.get(PROJECT) == self.project]
        return sorted(own, key=lambda version: int(version.version))

    def by_digest(self, digest: str) -> ModelVersion | None:
        """The version made of a bundle, if there is one."""
        return next((version for version in self.all() if version.tags[BUNDLE] == digest), None)

    def pick(self, model: str | None, version: str | None) -> ModelVersion:
        """A version by number, else the newest of a model of the board, else the challenger.

        Raises:
            UserError: There is no such version or model, or no challenger.
        """
        versions = self.all()
        models = ", ".join(sorted({known.tags[MODEL] for known in versions})) or "none yet: run the graph"
        if model is not None:
            versions = [known for known in versions if known.tags[MODEL] == model]
            if not versions:
                what = f"{self.product} has no version of a model {model!r} (there are: {models})"
                raise UserError("registry", what, "name one of them")
        if version is not None:
            found = next((known for known in versions if str(known.version) == version), None)
        else:
            found = versions[-1] if model is not None else self.alias(CHALLENGER)
        if found is None and version is not None:
            numbers, of = ", ".join(str(known.version) for known in versions), f" of {model}" if model else ""
            what = f"{self.product} has no version {version}{of} (there are: {numbers or 'none yet: run the graph'})"
            raise UserError("registry", what, "name one of them")
        if found is None:
            what = f"{self.product} has no challenger: no model but controls and the champion (there are: {models})"
            raise UserError("registry", what, "name one of them: `hisac-lab promote MODEL`")
        return found

    def named(self, text: str) -> ModelVersion:
        """The version that is called `champion`, `ranker@champion`, `3`, `ranker/3` or `models:/ranker/3`.

        Raises:
            UserError: There is none, or the product is another.
        """
        product, _, which = text.removeprefix("models:/").replace("/", "@").rpartition("@")
        if product not in ("", self.product):
            hint = f"write {self.product}@ALIAS or {self.product}/VERSION"
            raise UserError("registry", f"{product!r} is not this project's product, {self.product}", hint)
        at = None if which.isdecimal() else self.alias(which)
        number = which if at is None else str(at.version)
        versions = {str(version.version): version for version in self.all()}
        if number not in versions:
            registered = self._registered()
            there = ", ".join([*versions, *sorted(registered.aliases if registered and versions else ())])
            what = f"{self.product} has no version or alias {which!r} (there are: {there or 'none yet: run the graph'})"
            raise UserError("registry", what, "name one of them")
        return versions[number]

    def files(self, version: ModelVersion) -> Path:
        """Where the files of a version lie, as they are: bundle, code and what MLflow adds.

        Raises:
            UserError: They are gone.
        """
        uri = f"models:/{version.name}/{version.version}"
        try:
            return Path(mlflow.artifacts.download_artifacts(uri))
        except (MlflowException, OSError) as error:
            raise UserError(uri, "its files are gone", MEND) from error

    def alias(self, alias: str) -> ModelVersion | None:
        """The version an alias points at, if any."""
        registered = self._registered()
        aliases = {} if registered is None else registered.aliases
        return self.client.get_model_version(self.product, aliases[alias]) if alias in aliases else None

    def top(self, version: ModelVersion) -> str | None:
        """The run of the pipeline that made a version; None where it is gone."""
        run = version.run_id
        try:
            while run and (parent := self.client.get_run(run).data.tags.get(MLFLOW_PARENT_RUN_ID)):
                run = parent
        except MlflowException:
            return None
        return run

    def origin(self, run: str | None) -> Origin | None:
        """Where the pipeline of a top run comes from; None where nobody recorded it."""
        if run is None:
            return None
        try:
            if Origin.FILE not in {file.path for file in self.client.list_artifacts(run)}:
                return None
            return Origin.read(Path(self.client.download_artifacts(run, Origin.FILE)))
        except (MlflowException, UserError):
            return None

    def decision(self) -> str | None:
        """Hash of the ledger's line that set the champion, if one did."""
        registered = self._registered()
        return None if registered is None else registered.tags.get(DECISION)

    def set_champion(self, version: ModelVersion | None, decision: str) -> None:
        """Points `champion` at a version, or at nothing; the champion is no challenger.

        Args:
            version: The version.
            decision: Hash of the ledger's line that says so.
        """
        self.client.set_registered_model_tag(self.product, DECISION, decision)
        self._point(CHAMPION, version)
        challenger = self.alias(CHALLENGER)
        if version is not None and challenger is not None and challenger.version == version.version:
            self._point(CHALLENGER, None)

    def set_challenger(self, version: ModelVersion | None) -> None:
        """Points `challenger` at a version, or at nothing."""
        self._point(CHALLENGER, version)

    def _point(self, alias: str, version: ModelVersion | None) -> None:
        if version is not None:
            self.client.set_registered_model_alias(self.product, alias, version.version)
        elif self.alias(alias) is not None:
            self.client.delete_registered_model_alias(self.product, alias)

    def describe(self, version: ModelVersion, tags: Mapping[str, str], text: str) -> None:
        """Sets tags and description of a version; what says so already is left alone.

        Args:
            version: The version.
            tags: Those that change.
            text: In Markdown.
        """
        number, text = str(version.version), fitting(text)
        for key, value in tags.items():
            if version.tags.get(key) != value:
                self.client.set_model_version_tag(self.product, number, key, value)
        if version.description != text:
            self.client.update_model_version(self.product, number, text)

    def introduce(self, text: str) -> None:
        """Sets the description of the product."""
        registered = self._registered()
        if registered is not None and registered.description != text:
            self.client.update_registered_model(self.product, text)

    def mark_forced(self, version: ModelVersion, reason: str) -> None:
        """Marks a version that was promoted against its gates."""
        self.client.set_model_version_tag(self.product, version.version, FORCED, reason)

    def evidence(self, version: ModelVersion) -> Evidence:
        """The evidence inside a version's bundle (see `bundle`).

        Raises:
            UserError: There is none, or the bundle or the code is not what was registered.
        """
        return Evidence.open(self.bundle(version))

    def bundle(self, version: ModelVersion) -> Path:
        """Where a version's bundle lies, whose files and code are those that were registered.

        Raises:
            UserError: There is none, or the bundle or the code is not what was registered.
        """
        folder = self.files(version)
        files = sorted(folder.rglob(Evidence.FILE))
        if not files:
            uri = f"models:/{version.name}/{version.version}"
            raise UserError(uri, "holds no evidence", "register it through the graph", Evidence.FILE)
        check_bundle(files[0].parent, version.tags.get(BUNDLE, "none"), MEND)
        check_code(folder, version.tags.get(CODE_TAG), MEND)
        return files[0].parent


def evidence_tags(evidence: Evidence) -> dict[str, str]:
    """What a version's tags say of its evidence."""
    numbers = {name: f"{value:.6f}".rstrip("0").rstrip(".") for name, value in _numbers(evidence).items()}
    return {
        MODEL: evidence.model,
        "seed": str(evidence.seed),
        "fingerprint": evidence.fingerprint,
        "verdict": "control" if evidence.abtest is None else evidence.abtest.verdict,
        **numbers,
    }


def _numbers(evidence: Evidence) -> dict[str, float]:
    """What people search versions by: tags of a version, and metrics of its logged model, which MLflow can compare."""
    auc, test = evidence.metrics["auc"], evidence.abtest
    numbers = {
        "auc": auc.value,
        "auc_low": auc.interval[0],
        "auc_high": auc.interval[1],
        "calibration_error": evidence.calibration_error,
        "state_bytes": evidence.cost.state_bytes,
        "request_macs": evidence.cost.request_macs,
    }
    if test is not None and test.lift is not None:
        numbers |= {"lift": test.lift.value, "lift_low": test.lift.low, "lift_high": test.lift.high}
    return numbers


def quiet() -> None:
    """No telemetry, no progress bars and news of MLflow's own, no minutes of silence for a server that has gone."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    MLFLOW_HTTP_REQUEST_TIMEOUT.default = 30  # not in the environment, where it would be the user's word
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")


def card(bundle: Path) -> str:
    """The fidelity card in a bundle as Markdown, for the version's page."""
    lines = [
        f"**{ModelFile.open(bundle).model['kind']}**: what is stated by the paper, inferred, and left out.",
        "",
        "| status | claim | source |",
        "|---|---|---|",
    ]
    claims = Claim.read_list(bundle / CARD)
    lines += [f"| {one.status} | {one.claim} | `{one.source.removeprefix(NOTES)}` |" for one in claims]
    return "\n".join(lines)


def fitting(text: str) -> str:
    """A description as far as MLflow's tables hold it, in whole lines."""
    lines, room = text.splitlines(), LONGEST - len(CUT)
    while len("\n".join(lines)) > room:
        lines.pop()
    whole = "\n".join(lines)
    return whole if whole == text else whole + CUT


def _pinned(name: str) -> str:
    """The version that is installed, without the mark of a local build, which no index has."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"
