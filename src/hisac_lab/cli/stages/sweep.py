"""Stage sweep: the Optuna study."""

import os

from hisac_lab.base.artifacts import sha256_file, sha256_tree, stage_output
from hisac_lab.base.code import OURS
from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import ARTIFACTS, WORK
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.catalog import Models
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.sweep.sweep import TrialTask, sweep
from hisac_lab.training.train import work_folder


def run() -> None:
    """Runs the stage in the current folder.

    Raises:
        UserError: `sweep.depth` is deeper than the codebook, or the model is not of kind hisac.
    """
    config = load_section("sweep", SweepConfig)
    base = load_section("models", Models).get(config.model)
    if not isinstance(base, HiSACConfig):
        raise UserError("params.yaml", f"{config.model!r} is no model of kind hisac", "name one", "sweep.model")
    deepest = CodebookFacts.open(ARTIFACTS.codebook).depth
    if max(config.depth) > deepest:
        raise UserError(
            "params.yaml",
            f"{max(config.depth)} is deeper than the codebook's {deepest}",
            "lower it",
            "sweep.depth",
        )
    task = TrialTask(
        base=base,
        backbone=load_section("backbone", BackboneConfig),
        train=load_section("train", TrainConfig).model_copy(update={"epochs": config.epochs}),
        compute=load_section("compute", ComputeConfig),
        share=config.train_share,
        seed=config.seed,
        prepared=ARTIFACTS.prepare,
        embedded=ARTIFACTS.embed,
        codebook=ARTIFACTS.codebook,
    )
    inputs = [sha256_tree(path) for path in (ARTIFACTS.prepare, ARTIFACTS.embed, ARTIFACTS.codebook)]
    inputs += [OURS.digest(__name__), sha256_file(ARTIFACTS.code_of(config.model))]
    settings = [part.model_dump(mode="json") for part in (task.base, task.backbone, task.train, task.compute)]
    work = work_folder(WORK / "sweep", [config.train_share, config.seed, settings, inputs])
    workers = min(config.round_size, int(os.environ.get("HISAC_LAB_THREADS") or os.cpu_count() or 1))
    with stage_output(ARTIFACTS.sweep) as out:
        sweep(config, task, workers=workers, out=out, work=work)
