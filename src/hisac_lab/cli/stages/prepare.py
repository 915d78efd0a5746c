"""Stage prepare: the event store, joined from the shards."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.prepare import prepare


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("prepare", PrepareConfig)
    with stage_output(ARTIFACTS.prepare) as out:
        prepare(config, ingested=ARTIFACTS.ingest, shards=ARTIFACTS.shards(config.shards), out=out)
