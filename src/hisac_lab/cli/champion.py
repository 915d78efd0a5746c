"""The champion in the project: its folder, and its place on the board and in the A/B test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hisac_lab.base.artifacts import copy_tree, sha256_tree, stage_output
from hisac_lab.base.errors import UserError
from hisac_lab.cli import settings
from hisac_lab.cli.params import Params, load_params
from hisac_lab.cli.paths import CHAMPION
from hisac_lab.config.abtest import POPULARITY
from hisac_lab.config.base import PARAMS_FILE
from hisac_lab.inference.records import ModelFile
from hisac_lab.models.champion import OF_ITS_DAY, ChampionConfig
from hisac_lab.registry.store import Registry

NAME = "champion"
"""Of its entry in the section `models`."""


def seat(registry: Registry) -> str:
    """Puts the champion's bundle into the project, on the board and into the A/B test as the control.

    Where there is no champion any more, or one that knows the items of its own day alone, board and test are without:
    the control is popularity.

    Returns:
        What to tell.

    Raises:
        UserError: The bundle is damaged, or params.yaml cannot be changed.
    """
    bundle, params = _bundle(registry), load_params()
    if bundle is None:
        _unseat(params)
        return f"{PARAMS_FILE}: the board is without a champion"
    if ModelFile.open(bundle).instances is not None:
        _unseat(params)
        return f"{PARAMS_FILE}: the board is without the champion, which reads stored instances: {OF_ITS_DAY}"
    if not isinstance(params.models.get(NAME, ChampionConfig()), ChampionConfig):
        raise UserError(PARAMS_FILE, "is a model of another kind", "rename it", f"models.{NAME}")
    _copy(bundle)
    digest = sha256_tree(CHAMPION)
    changes = {
        f"models.{NAME}": {"kind": "champion", "digest": digest},
        "experiment.models": [*_others(params), NAME],
        "abtest.control": NAME,
    }
    settings.changes(changes | ({} if params.train.start_from is None else {"train.start_from": digest}))
    return f"{PARAMS_FILE}: the next run of the graph compares with it ({CHAMPION}/, models.{NAME}, abtest.control)"


def _others(params: Params) -> list[str]:
    return [name for name in params.experiment.models if name != NAME]


def _unseat(params: Params) -> None:
    """Takes the champion off the board and out of the test."""
    changes: dict[str, Any] = {"experiment.models": _others(params)}
    if params.abtest.control == NAME:
        changes["abtest.control"] = POPULARITY
    if params.train.start_from is not None:
        changes["train.start_from"] = None
    if params.evaluate.reference == NAME:
        changes["evaluate.reference"] = _others(params)[0]
    settings.changes(changes)
    shutil.rmtree(CHAMPION, ignore_errors=True)


def restore(registry: Registry) -> None:
    """Brings the champion's folder back, where params.yaml names the champion and the folder is not its."""
    entry = load_params().models.get(NAME)
    bundle = _bundle(registry) if isinstance(entry, ChampionConfig) else None
    if bundle is None or not isinstance(entry, ChampionConfig) or sha256_tree(bundle) != entry.digest:
        return
    if not CHAMPION.exists() or sha256_tree(CHAMPION) != entry.digest:
        _copy(bundle)


def _bundle(registry: Registry) -> Path | None:
    version = registry.versions.alias(NAME)
    return None if version is None else registry.versions.bundle(version)


def _copy(bundle: Path) -> None:
    with stage_output(CHAMPION) as out:
        copy_tree(bundle, out)
