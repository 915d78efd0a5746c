"""Stage tokenize: semantic IDs and their quality gate."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.tokens.tokenize import tokenize


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("tokenize", TokenizeConfig)
    with stage_output(ARTIFACTS.tokenize) as out:
        tokenize(config, prepared=ARTIFACTS.prepare, embedded=ARTIFACTS.embed, out=out)
