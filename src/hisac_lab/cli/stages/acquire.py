"""Stage acquire: the raw files of the data set."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ACQUIRE
from hisac_lab.config.base import load_section
from hisac_lab.config.events import AcquireConfig
from hisac_lab.events.sources import acquire


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("acquire", AcquireConfig)
    with stage_output(ACQUIRE) as out:
        acquire(config, out)
