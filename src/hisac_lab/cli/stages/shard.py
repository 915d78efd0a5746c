"""Stage shard: histories, requests and samples of one shard of the users."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.shard import shard


def run(index: int) -> None:
    """Runs the stage in the current folder."""
    config = load_section("prepare", PrepareConfig)
    with stage_output(ARTIFACTS.at(f"shard@{index}")) as out:
        shard(config, ingested=ARTIFACTS.ingest, index=index, out=out)
