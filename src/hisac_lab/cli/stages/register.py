"""Stage register: one self-contained bundle per model, with the evidence for its promotion."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.registry.bundle import build_bundles


def run() -> None:
    """Runs the stage in the current folder."""
    experiment = load_section("experiment", ExperimentConfig)
    with stage_output(ARTIFACTS.register) as out:
        build_bundles(experiment, ARTIFACTS, out=out)
