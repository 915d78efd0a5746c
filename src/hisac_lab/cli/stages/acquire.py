"""Stage acquire: the raw files of the data set."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli import origin
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import load_section
from hisac_lab.sources.acquire import acquire


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("acquire", AcquireConfig)
    with stage_output(ARTIFACTS.acquire) as out:
        acquire(config, out=out)
    origin.note(config)
