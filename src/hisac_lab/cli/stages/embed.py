"""Stage embed: the frozen semantic space of the items."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.tokens.embeddings import embed


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("embed", EmbedConfig)
    with stage_output(ARTIFACTS.embed) as out:
        embed(config, prepared=ARTIFACTS.prepare, out=out)
