"""Stage sweep: the Optuna study of one model."""

import os
import shutil

from hisac_lab.base.artifacts import sha256_file, sha256_tree, stage_output
from hisac_lab.base.code import OURS
from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import ARTIFACTS, TIMINGS, WORK
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.catalog import Models
from hisac_lab.sweep.export import export
from hisac_lab.sweep.space import Base, check
from hisac_lab.sweep.sweep import sweep
from hisac_lab.sweep.trial import TrialTask
from hisac_lab.training.train import work_folder


def run(model: str) -> None:
    """Runs one instance of the stage in the current folder.

    Args:
        model: Its name in the section `models`.

    Raises:
        UserError: The search space does not fit the model, or every trial has failed.
    """
    config = load_section("sweep", SweepConfig)
    if model not in config.models:
        raise UserError("params.yaml", f"{model!r} is not in it", "add it", "sweep.models")
    train = load_section("train", TrainConfig).model_copy(update={"epochs": config.epochs})
    base = Base(
        model=load_section("models", Models).get(model),
        backbone=load_section("backbone", BackboneConfig),
        train=train,
        tokenize=load_section("tokenize", TokenizeConfig),
    )
    check(config, model, base)
    compute = load_section("compute", ComputeConfig)
    inputs = [sha256_tree(path) for path in (ARTIFACTS.prepare, ARTIFACTS.embed, ARTIFACTS.codebook)]
    inputs += [OURS.digest(__name__), sha256_file(ARTIFACTS.code_of(model))]
    parts = (base.model, base.backbone, base.train, base.tokenize, compute)
    settings = [part.model_dump(mode="json") for part in parts]
    gates = [config.max_state_bytes, config.max_request_macs]
    work = work_folder(WORK / "sweep" / model, [config.train_share, config.seed, gates, settings, inputs])
    task = TrialTask(
        base=base,
        compute=compute,
        share=config.train_share,
        seed=config.seed,
        prepared=ARTIFACTS.prepare,
        embedded=ARTIFACTS.embed,
        codebook=ARTIFACTS.codebook,
        work=work,
        max_state_bytes=config.max_state_bytes,
        max_request_macs=config.max_request_macs,
    )
    workers = min(config.round_size, int(os.environ.get("HISAC_LAB_THREADS") or os.cpu_count() or 1))
    _clear(config.models)
    with stage_output(ARTIFACTS.swept(model)) as out:
        trials = sweep(config, model, task, workers=workers, out=out, work=work)
    export(trials, config.space[model], TIMINGS.parent / f"sweep-{model}.journal")


def _clear(models: tuple[str, ...]) -> None:
    """Removes what earlier settings, or an earlier version, left beside the outputs of these models."""
    for left in ARTIFACTS.sweep.glob("[!.]*"):
        if left.is_file():
            left.unlink()
        elif left.name not in models:
            shutil.rmtree(left)
