"""Stage ingest: the raw log checked, numbered and spread over shards of users."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.ingest import ingest


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("prepare", PrepareConfig)
    with stage_output(ARTIFACTS.ingest) as out:
        ingest(config, raw=ARTIFACTS.acquire, out=out)
