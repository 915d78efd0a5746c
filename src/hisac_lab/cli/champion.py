"""The champion in the project: its folder, and its place on the board and in the A/B test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hisac_lab.base.artifacts import stage_output
from hisac_lab.base.errors import UserError
from hisac_lab.cli import settings
from hisac_lab.cli.params import load_params
from hisac_lab.cli.paths import CHAMPION
from hisac_lab.config.base import PARAMS_FILE
from hisac_lab.inference.bundle import weights_of
from hisac_lab.models.champion import ChampionConfig
from hisac_lab.registry.store import Registry

NAME = "champion"
"""Of its entry in the section `models`."""


def seat(registry: Registry) -> str:
    """Puts the champion's bundle into the project, on the board and into the A/B test as the control.

    Where there is no champion any more, board and test are without one.

    Returns:
        What to tell.

    Raises:
        UserError: The bundle is damaged, or params.yaml cannot be changed.
    """
    bundle, params = _bundle(registry), load_params()
    others = [name for name in params.experiment.models if name != NAME]
    changes: dict[str, Any] = {"experiment.models": others}
    if bundle is None:
        for key, name in (("abtest.control", params.abtest.control), ("evaluate.reference", params.evaluate.reference)):
            if name == NAME:
                changes[key] = others[0]
        settings.changes(changes)
        shutil.rmtree(CHAMPION, ignore_errors=True)
        return f"{PARAMS_FILE}: the board is without a champion"
    if not isinstance(params.models.get(NAME, ChampionConfig()), ChampionConfig):
        raise UserError(PARAMS_FILE, "is a model of another kind", "rename it", f"models.{NAME}")
    _copy(bundle)
    entry = {"kind": "champion", "digest": weights_of(CHAMPION)}
    changes |= {"experiment.models": [*others, NAME], "abtest.control": NAME}
    settings.changes({f"models.{NAME}": entry} | changes)
    return f"{PARAMS_FILE}: the next run of the graph compares with it ({CHAMPION}/, models.{NAME}, abtest.control)"


def restore(registry: Registry) -> None:
    """Brings the champion's folder back, where params.yaml names the champion and the folder is not its."""
    entry = load_params().models.get(NAME)
    bundle = _bundle(registry) if isinstance(entry, ChampionConfig) else None
    if bundle is None or not isinstance(entry, ChampionConfig) or weights_of(bundle) != entry.digest:
        return
    if not CHAMPION.exists() or weights_of(CHAMPION) != entry.digest:
        _copy(bundle)


def _bundle(registry: Registry) -> Path | None:
    version = registry.versions.alias(NAME)
    return None if version is None else registry.versions.bundle(version)


def _copy(bundle: Path) -> None:
    with stage_output(CHAMPION) as out:
        shutil.copytree(bundle, out, dirs_exist_ok=True)
