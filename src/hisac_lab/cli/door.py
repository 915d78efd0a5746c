"""The check of params.yaml in front of every command: in full once, then remembered.

Settings of models stand beside their branches, and to read them is to load torch, seconds a time. What has passed is
therefore noted in `.work/checked`, by a hash of the file, of this package's code, and of the plug-ins (see
`hisac_lab.base.plugins`); only a change of one of them is checked again. A stage reads its own sections itself, and
trusts no note.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from hisac_lab.base import plugins
from hisac_lab.base.artifacts import digest_of, sha256_tree, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import WORK
from hisac_lab.config.base import PARAMS_FILE, load_section
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.config.sweep import SweepConfig

NOTE = WORK / "checked"
CATALOGS = ("hisac_lab.models.catalog", "hisac_lab.tables.layouts", "hisac_lab.tokens.methods")
"""They import the plug-ins, and refuse one with a fault."""


def check() -> None:
    """Checks params.yaml in the current folder, and the plug-ins.

    Raises:
        UserError: One line that names the first field at fault, its value and a hint, or the plug-in at fault.
    """
    key = _key()
    if key is not None and NOTE.is_file() and NOTE.read_text() == key:
        return
    for catalog in CATALOGS:
        importlib.import_module(catalog)
    from hisac_lab.cli.params import load_params

    load_params()
    if key is not None:
        try:
            write_file(NOTE, key)
        except (UserError, OSError):  # a folder that cannot be written is checked each time
            return


def idle() -> str | None:
    """One line when a model is swept whose winner nothing trains; None when there is none, or it cannot be told."""
    try:
        swept, board = load_section("sweep", SweepConfig).models, load_section("experiment", ExperimentConfig).models
    except UserError:  # whoever needs them says so
        return None
    if off := [name for name in swept if name not in board]:
        what = f"sweep.models names {', '.join(off)}, which experiment.models does not: nothing trains what is found"
        return f"params.yaml: {what} (add it there, or sweep a model of the board)"
    return None


def _key() -> str | None:
    if not PARAMS_FILE.is_file():
        return None
    brought = [point for group in plugins.GROUPS for point in plugins.points(group)]
    named = [[point.group, point.name, point.value, plugins.package(point)] for point in brought]
    code = [sha256_tree(Path(__file__).parent.parent), *map(plugins.digest, brought)]
    return digest_of([PARAMS_FILE.read_bytes().hex(), named, code])
