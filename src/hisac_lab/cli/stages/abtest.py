"""Stage abtest: each model against the control policy, in the simulated world or a fitted one."""

from hisac_lab.abtest.experiment import abtest
from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ExperimentConfig


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("abtest", ABTestConfig)
    experiment = load_section("experiment", ExperimentConfig)
    compute = load_section("compute", ComputeConfig)
    with stage_output(ARTIFACTS.abtest) as out:
        abtest(
            config,
            experiment,
            compute,
            prepared=ARTIFACTS.prepare,
            trained=ARTIFACTS.train,
            evaluated=ARTIFACTS.evaluate,
            out=out,
            acquired=ARTIFACTS.acquire,
            codebook=ARTIFACTS.codebook,
            instances=ARTIFACTS.instances,
        )
