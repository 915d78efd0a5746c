"""Where versions come from: an alias of the registry, or a folder with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import mlflow
from mlflow import MlflowClient

from hisac_lab.base.errors import UserError
from hisac_lab.inference.records import ModelFile
from hisac_lab.registry.integrity import check_bundle
from hisac_lab.registry.probe import told
from hisac_lab.registry.versions import BUNDLE, MEND
from hisac_lab.serving.engine import Engine


class Source(Protocol):
    """Where versions come from."""

    def newer(self, engine: Engine | None) -> Engine | None:
        """The version of the moment; None: it is this one.

        Raises:
            UserError: There is none, or it is damaged.
        """


class Folder:
    """A bundle as the stage `register` writes it; it never changes.

    Args:
        bundle: The folder.
    """

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle

    def newer(self, engine: Engine | None) -> Engine | None:
        """See `Source`."""
        return Engine(self.bundle, self.bundle.name) if engine is None else None


class Alias:
    """The version that an alias of the product points at.

    Args:
        uri: Address of the registry.
        product: Name of the registered model.
        alias: The alias.
    """

    def __init__(self, uri: str, product: str, alias: str) -> None:
        self.uri, self.product, self.alias = uri, product, alias
        mlflow.set_tracking_uri(uri)
        self.client = MlflowClient()

    def newer(self, engine: Engine | None) -> Engine | None:
        """See `Source`; the files are compared with what was registered."""
        with told(self.uri):
            registered = self.client.get_registered_model(self.product)
            number = registered.aliases.get(self.alias)
            if number is None:
                hint = "`hisac-lab promote` makes one" if self.alias == "champion" else "name another (serve.alias)"
                raise UserError(self.product, f"has no {self.alias}", hint)
            if engine is not None and engine.version == str(number):
                return None
            version = self.client.get_model_version(self.product, number)
            folder = Path(mlflow.artifacts.download_artifacts(f"models:/{self.product}/{number}"))
        files = sorted(folder.rglob(ModelFile.FILE))
        if not files:
            raise UserError(f"models:/{self.product}/{number}", "holds no bundle", MEND)
        check_bundle(files[0].parent, version.tags.get(BUNDLE, "none"), MEND)
        return Engine(files[0].parent, str(number))
