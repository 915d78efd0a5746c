"""Stage prepare: the event store, joined from the shards."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import INGEST, PREPARE, shard_path
from hisac_lab.config.base import load_section
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.prepare import prepare


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("prepare", PrepareConfig)
    with stage_output(PREPARE) as out:
        prepare(config, INGEST, [shard_path(index) for index in config.shards], out)
