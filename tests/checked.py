"""`hisac-lab data check` run, and what it prints used."""

from __future__ import annotations

from pathlib import Path

import yaml
from kit import prepare_log
from typer.testing import CliRunner, Result

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.main import app
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import parse
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.store import EventStore
from hisac_lab.sources.acquire import acquire


def run(*arguments: object) -> Result:
    """Runs the command."""
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def pasted(text: str, home: Path) -> EventStore:
    """Runs the stages with the printed mapping."""
    sections = yaml.safe_load(text)
    config = parse(AcquireConfig, sections["acquire"], "params.yaml")
    with stage_output(home / "acquired") as out:
        acquire(config, out=out)
    prepare_log(parse(PrepareConfig, sections["prepare"], "params.yaml"), home / "acquired", home / "prepared")
    return EventStore.open(home / "prepared")
