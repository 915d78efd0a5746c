"""Stage sweep: the Optuna study of one model; and its trials alone, where machines share a study."""

import os
import shutil
from pathlib import Path

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
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import Models
from hisac_lab.sweep.export import export
from hisac_lab.sweep.space import Base, check
from hisac_lab.sweep.sweep import join, study_of, sweep
from hisac_lab.sweep.trial import TrialTask
from hisac_lab.training.train import work_folder


def run(model: str) -> None:
    """Runs one instance of the stage in the current folder.

    Args:
        model: Its name in the section `models`.

    Raises:
        UserError: The search space does not fit the model, or every trial has failed.
    """
    config, task = _asked(model)
    workers = min(config.round_size, int(os.environ.get("HISAC_LAB_THREADS") or os.cpu_count() or 1))
    _clear(config.models)
    with stage_output(ARTIFACTS.swept(model)) as out:
        trials = sweep(config, model, task, workers=workers, out=out, work=task.work)
    export(trials, config.space[model], TIMINGS.parent / f"sweep-{model}.journal")


def help_out(model: str) -> int:
    """Runs trials of a shared study in the current folder until none is left; writes no output.

    Args:
        model: Its name in the section `models`.

    Returns:
        How many trials the study has.

    Raises:
        UserError: The study is not shared, its server does not answer, or every trial has failed.
    """
    config, task = _asked(model)
    if config.storage is None:
        hint = "name a database there, or run the stage: hisac-lab stage sweep --model " + model
        raise UserError("params.yaml", "no study is shared", hint, "sweep.storage")
    Runtime.start(task.compute)
    trials, _ = join(study_of(config, model, task, 1, task.work), task.work)
    shutil.rmtree(task.work, ignore_errors=True)
    return len(trials)


def _asked(model: str) -> tuple[SweepConfig, TrialTask]:
    """The section, and what every trial shares.

    Raises:
        UserError: The search space does not fit the model.
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
    work: Path = work_folder(WORK / "sweep" / model, [config.train_share, config.seed, gates, settings, inputs])
    return config, TrialTask(
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


def _clear(models: tuple[str, ...]) -> None:
    """Removes what earlier settings, or an earlier version, left beside the outputs of these models."""
    for left in ARTIFACTS.sweep.glob("[!.]*"):
        if left.is_file():
            left.unlink()
        elif left.name not in models:
            shutil.rmtree(left)
