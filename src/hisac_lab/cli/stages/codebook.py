"""Stage codebook: the prefix tree over the semantic IDs."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.codebook.build import build_codebook


def run() -> None:
    """Runs the stage in the current folder."""
    with stage_output(ARTIFACTS.codebook) as out:
        build_codebook(tokenized=ARTIFACTS.tokenize, out=out)
