"""Opening MLflow: one door, one process at a time on the first visit."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.registry.ledger import Ledger
from hisac_lab.registry.mirror import Lineage, Mirror
from hisac_lab.registry.promotion import Promoter
from hisac_lab.registry.versions import ModelVersions, quiet


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
    def open(cls, config: MLflowConfig, ledger: Path, work: Path) -> Iterator[Registry]:
        """Opens the store under a lock: two processes on a fresh SQLite store would break it for good.

        Args:
            config: The section `mlflow`.
            ledger: The ledger's file.
            work: A folder for the lock.
        """
        quiet()
        work.mkdir(parents=True, exist_ok=True)
        with (work / "mlflow.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            mlflow.set_tracking_uri(config.tracking_uri)
            client = MlflowClient()
            found = client.get_experiment_by_name(config.experiment)
            experiment = found.experiment_id if found else client.create_experiment(config.experiment)
            mlflow.set_experiment(experiment_id=experiment)
            versions = ModelVersions(client)
            yield cls(client, str(experiment), versions, Promoter(versions, Ledger(ledger)))

    def mirror(self, artifacts: Artifacts, lineage: Lineage, timings: Path) -> tuple[str, bool]:
        """Mirrors the present outputs, unless they are there; they are the challengers, champions follow the ledger.

        Returns:
            The top run, and whether it is new.
        """
        mirror = Mirror(self.client, self.experiment, artifacts, lineage)
        known = mirror.find()
        if known is None:
            top = mirror.write(self.versions, timings)
        else:
            top = known
            for name, digest in mirror.bundles.models.items():  # lost, or no longer what `challenger` points at
                self.versions.register(name, artifacts.bundle(name), digest, top)
        self.promoter.restore_aliases()
        return top, known is None

    def attach(self, top: str, files: list[Path], figures: list[Path]) -> None:
        """Adds files that exist, and figures in a folder of their own, to a run; what is there already is replaced."""
        for file in files:
            if file.exists():
                self.client.log_artifact(top, str(file))
        for figure in figures:
            self.client.log_artifact(top, str(figure), "figures")
