"""The version that an alias of a product points at, for who serves it: nothing is written."""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hisac_lab.base.errors import UserError
from hisac_lab.inference.records import ModelFile
from hisac_lab.registry.integrity import check_bundle
from hisac_lab.registry.probe import told
from hisac_lab.registry.versions import BUNDLE, CHAMPION, MEND, quiet


class Aliased:
    """An alias of a registered model.

    Args:
        uri: Address of the registry.
        product: Name of the registered model.
        alias: The alias.
    """

    def __init__(self, uri: str, product: str, alias: str) -> None:
        self.uri, self.product, self.alias = uri, product, alias
        quiet()
        mlflow.set_tracking_uri(uri)
        self.client = MlflowClient()

    def number(self) -> str:
        """Number of the version.

        Raises:
            UserError: There is none.
        """
        try:
            with told(self.uri):
                version = self.client.get_model_version_by_alias(self.product, self.alias)
        except UserError as error:
            if not isinstance(error.__cause__, MlflowException) or "alias" not in str(error).lower():
                raise
            hint = "`hisac-lab promote` makes one" if self.alias == CHAMPION else "name another (serve.alias)"
            raise UserError(self.product, f"has no {self.alias}", hint) from error
        return str(version.version)

    def bundle(self, number: str) -> Path:
        """Folder of a version's bundle, compared with what was registered.

        Raises:
            UserError: It is damaged, or there is none.
        """
        uri = f"models:/{self.product}/{number}"
        with told(self.uri):
            version = self.client.get_model_version(self.product, number)
            folder = Path(mlflow.artifacts.download_artifacts(uri))
        files = sorted(folder.rglob(ModelFile.FILE))
        if not files:
            raise UserError(uri, "holds no bundle", MEND)
        check_bundle(files[0].parent, version.tags.get(BUNDLE, "none"), MEND)
        return files[0].parent
