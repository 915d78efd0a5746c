"""Stage evaluate: all runs on the same test exposures."""

import os

from hisac_lab.base.artifacts import digest_of, sha256_tree, stage_output
from hisac_lab.base.code import OURS
from hisac_lab.cli.paths import ARTIFACTS, TIMINGS, WORK
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.evaluate import evaluate, runs_of


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("evaluate", EvaluateConfig)
    experiment = load_section("experiment", ExperimentConfig)
    compute = load_section("compute", ComputeConfig)
    runs = len(experiment.models) * len(experiment.seeds)
    workers = min(runs, int(os.environ.get("HISAC_LAB_THREADS") or os.cpu_count() or 1))
    settings = [part.model_dump(mode="json") for part in (config, compute)]
    inputs = [sha256_tree(path) for path in (ARTIFACTS.prepare, ARTIFACTS.instances)]
    key = [settings, inputs, OURS.digest(__name__)]
    with stage_output(ARTIFACTS.evaluate) as out:
        evaluate(
            config,
            compute,
            prepared=ARTIFACTS.prepare,
            runs=runs_of(ARTIFACTS.train, experiment),
            out=out,
            timings=TIMINGS,
            instances=ARTIFACTS.instances,
            workers=workers,
            work=WORK / "evaluate" / digest_of(key),
        )
