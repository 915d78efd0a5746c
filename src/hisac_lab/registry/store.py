"""Opening MLflow: one door, one process at a time on the first visit."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME, MLFLOW_RUN_NOTE

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry import notes, probe
from hisac_lab.registry.integrity import check_bundle
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.mirror import Lineage, Mirror
from hisac_lab.registry.moved import heal
from hisac_lab.registry.origin import COMMIT, Origin, origin_of
from hisac_lab.registry.promotion import Promoter
from hisac_lab.registry.records import Evidence, Registered
from hisac_lab.registry.versions import PROJECT, ModelVersions, quiet

ABOUT = {
    MLFLOW_RUN_NOTE: notes.EXPERIMENT,
    "mlflow.experimentKind": "custom_model_development",
    MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME: "test/auc",
}
"""Tags of the experiment: what is read beside it, and that it trains models, which chooses the pages that are shown."""


@dataclass(frozen=True)
class Registry:
    """Everything the commands need of MLflow.

    Attributes:
        client: The store.
        experiment: Identifier of the experiment.
        versions: Registered models.
        promoter: Promotion and rollback.
    """

    client: MlflowClient
    experiment: str
    versions: ModelVersions
    promoter: Promoter

    @classmethod
    @contextmanager
    def open(cls, config: MLflowConfig, product: str, ledger: Path, work: Path) -> Iterator[Registry]:
        """Opens the store under a lock: two processes on a fresh SQLite store would break it for good.

        Args:
            config: The section `mlflow`.
            product: Name of the registered model.
            ledger: The ledger's file.
            work: A folder for the lock.

        Raises:
            UserError: The store does not answer, or the experiment was deleted.
        """
        quiet()
        work.mkdir(parents=True, exist_ok=True)
        uri, decisions = config.tracking_uri, Ledger(ledger)
        with (work / "mlflow.lock").open("w") as handle, probe.told(uri):
            fcntl.flock(handle, fcntl.LOCK_EX)
            probe.quick_look(config, writes=True)
            probe.make_private(uri)
            store, home = probe.database(uri), Path.cwd()
            if store is not None and store.is_relative_to(home):
                heal(store, home, decisions.project())
            mlflow.set_tracking_uri(uri)
            client = MlflowClient()
            experiment = _experiment(client, config)
            mlflow.set_experiment(experiment_id=experiment)
            versions = ModelVersions(client, decisions.begin(), product)
            yield cls(client, experiment, versions, Promoter(versions, decisions))

    @staticmethod
    @contextmanager
    def look(config: MLflowConfig, product: str, ledger: Path) -> Iterator[Promoter]:
        """Opens the store to read it: nothing is written, neither there nor here.

        Args:
            config: The section `mlflow`.
            product: Name of the registered model.
            ledger: The ledger's file.

        Raises:
            UserError: The store holds nothing yet, or it does not answer.
        """
        quiet()
        with probe.told(config.tracking_uri):
            if not probe.quick_look(config, writes=False):
                where = probe.address(config.tracking_uri)
                raise UserError(where, "holds nothing yet", "run the graph, or `hisac-lab sync`")
            mlflow.set_tracking_uri(config.tracking_uri)
            decisions = Ledger(ledger)
            yield Promoter(ModelVersions(MlflowClient(), decisions.project() or "", product), decisions)

    def mirror(
        self, artifacts: Artifacts, lineage: Lineage, timings: Path, kept: Path | None = None
    ) -> tuple[str, bool]:
        """Mirrors the present outputs, unless they are there; champions follow the ledger, the challenger its rule.

        Args:
            artifacts: Outputs of the stages.
            lineage: Where they came from.
            timings: What was measured on this machine, if it is there.
            kept: Bundle of the champion, if it is there: a registry that was lost gets it back.

        Returns:
            The top run, and whether it is new.

        Raises:
            UserError: The product's name is another's, or a bundle is damaged.
        """
        mirror = Mirror(self.client, self.experiment, self.versions.project, artifacts, lineage)
        self.versions.claim()
        bundles = {name: artifacts.bundle(name) for name in mirror.bundles.models}
        for name, bundle in bundles.items():
            hint = "restore it with `dvc checkout`, or run the stage `register`"
            check_bundle(bundle, mirror.bundles.models[name], hint)
        if kept is not None and kept.is_dir():
            self._bring_back(kept, mirror.bundles)
        known = mirror.find()
        if known is None:
            top = mirror.write(self.versions, timings)
        else:
            top = known
            for name, bundle in bundles.items():  # lost
                self.versions.register(bundle, mirror.bundles.models[name], top)
        self._remember(top, artifacts, lineage, mirror.bundles)
        mirror.add_report(top)
        self.promoter.restore_alias()
        judged = {mirror.bundles.models[name]: Evidence.open(bundle) for name, bundle in bundles.items()}
        self.promoter.challenge(judged)
        return top, known is None

    def _bring_back(self, kept: Path, present: Registered) -> None:
        """Registers the champion of an earlier run, which the registry has lost."""
        digest, product = sha256_tree(kept), self.versions.product
        lost = self.versions.by_digest(digest) is None and digest not in present.models.values()
        if lost and digest in self.promoter.ledger.champions(product):
            tags = {PROJECT: self.versions.project}
            run = self.client.create_run(self.experiment, tags=tags, run_name="champion of an earlier run")
            self.versions.register(kept, digest, str(run.info.run_id))

    def _remember(self, top: str, artifacts: Artifacts, lineage: Lineage, present: Registered) -> None:
        """Keeps where a run came from, as it was told first; a whole commit takes the place of one that is not."""
        here = self.versions.origin(top)
        known = here or self.promoter.ledger.origin(present.models.values())
        if known is None or (not known.whole and len(lineage.commit) == COMMIT):
            known = origin_of(artifacts, lineage.commit, lineage.settings, lineage.machines)
        if known != here:
            self.client.log_dict(top, known.facts(), Origin.FILE)
            self.client.set_tag(top, "git_commit", known.commit)

    def judge(self, artifacts: Artifacts, top: str, config: PromotionConfig) -> None:
        """Says of the present bundles' versions, and on the pipeline's run, whether they may ship as things stand.

        Args:
            artifacts: Outputs of the stages.
            top: The pipeline's run.
            config: The section `promotion`.
        """
        run = f"#/experiments/{self.experiment}/runs/{top}"
        bundles = {
            digest: artifacts.bundle(name) for name, digest in Registered.open(artifacts.register).models.items()
        }
        answers = self.promoter.judge(bundles, config, run)
        note = notes.verdict(answers, self.versions.product, run)
        if self.client.get_run(top).data.tags.get(MLFLOW_RUN_NOTE) != note:
            self.client.set_tag(top, MLFLOW_RUN_NOTE, note)

    def attach(self, top: str, files: list[Path], figures: list[Path]) -> None:
        """Adds files that exist, and figures in a folder of their own, to a run; what is there already is replaced."""
        for file in files:
            if file.exists():
                self.client.log_artifact(top, str(file))
        for figure in figures:
            self.client.log_artifact(top, str(figure), "figures")


def _experiment(client: MlflowClient, config: MLflowConfig) -> str:
    """Identifier of the experiment, made where it is not there."""
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        place = _files(config) if config.artifact_root else None
        return str(client.create_experiment(config.experiment, place, tags=ABOUT))
    if experiment.lifecycle_stage != "active":
        what = f"the experiment {config.experiment!r} was deleted there"
        hint = (
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` brings it back, or name another"
        )
        raise UserError(probe.address(config.tracking_uri), what, f"{hint} (mlflow.experiment in params.yaml)")
    if config.artifact_root is not None and experiment.artifact_location != _files(config):
        what = f"the experiment {config.experiment!r} keeps its files at {experiment.artifact_location}"
        hint = f"set mlflow.artifact_root to null, or name another experiment for {config.artifact_root}"
        raise UserError(probe.address(config.tracking_uri), what, f"{hint} (mlflow.experiment in params.yaml)")
    for key, value in ABOUT.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return str(experiment.experiment_id)


def _files(config: MLflowConfig) -> str:
    """Where the experiment's files go: a folder of its own below the root."""
    return f"{str(config.artifact_root).rstrip('/')}/{config.experiment}"
