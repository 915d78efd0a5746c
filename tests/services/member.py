"""A clone that brings MLflow up to date: python member.py FOLDER URI; it prints the run, and whether it is new."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.registry.mirror import Lineage
from hisac_lab.registry.store import Registry


def main(folder: str, uri: str) -> None:
    os.chdir(folder)
    config = MLflowConfig(tracking_uri=uri, experiment="tests")
    with Registry.open(config, "ranker", Path("ledger.jsonl"), Path(".work")) as registry:
        print(*registry.mirror(Artifacts(Path("artifacts")), Lineage("0123abc", {}), Path("nothing")))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
