"""Days of an own log: the stages from preparation to bundles, with small settings, in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from kit import BACKBONE, MODELS, prepare_log, raw_log

from hisac_lab.abtest.experiment import abtest
from hisac_lab.base.artifacts import stage_output, write_manifest
from hisac_lab.base.stages import Artifacts
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.config.model import BackboneConfig, ExperimentConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig, TokenizeLimits
from hisac_lab.config.train import TrainConfig
from hisac_lab.evaluation.evaluate import evaluate, runs_of
from hisac_lab.events.store import EventStore
from hisac_lab.inference.items import load_items
from hisac_lab.models.champion import ChampionConfig
from hisac_lab.registry.bundle import build_bundles
from hisac_lab.registry.records import Evidence, Registered
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize
from hisac_lab.training.champion import enter_champion
from hisac_lab.training.train import train_model

COMPUTE = ComputeConfig(device="cpu")


@dataclass(frozen=True)
class Day:
    """The outputs of one day, and the models that were on its board."""

    made: Artifacts
    models: tuple[str, ...]

    @property
    def store(self) -> EventStore:
        return EventStore.open(self.made.prepare)

    def evidence(self, name: str) -> Evidence:
        return Evidence.open(self.made.bundle(name))

    def digest(self, name: str) -> str:
        return Registered.open(self.made.register).models[name]


ANY_IDS = TokenizeLimits(max_bucket_share=1.0)
"""Items that nobody touched in training have no neighbors to tell them apart."""
FILMS = PrepareConfig(history="positives", positive_from=4.0, columns=ColumnsConfig(text=("title",)))


def prepare_day(root: Path, events: pd.DataFrame, table: pd.DataFrame, config: PrepareConfig = FILMS) -> Artifacts:
    """The stages up to the codebook, on the log of a day."""
    made = Artifacts(root)
    items = table.rename(columns={"item": "item_id"}).to_csv(index=False, lineterminator="\n")
    raw = raw_log(made.acquire, events, items)
    prepare_log(config, raw, made.prepare)
    with stage_output(made.embed) as out:
        embed(EmbedConfig(method="cooccurrence", cooccurrence_dim=8), prepared=made.prepare, out=out)
    with stage_output(made.tokenize) as out:
        tokenize(
            TokenizeConfig(widths=(8, 8, 8), flat=(6,), limits=ANY_IDS),
            prepared=made.prepare,
            embedded=made.embed,
            out=out,
        )
    with stage_output(made.codebook) as out:
        build_codebook(tokenized=made.tokenize, out=out)
    made.instances.mkdir()
    write_manifest(made.instances, order="none", digest="none")
    return made


def learn(made: Artifacts, name: str, epochs: int, batch: int, backbone: BackboneConfig = BACKBONE) -> None:
    items = load_items(prepared=made.prepare, embedded=made.embed, codebook=made.codebook)
    train = TrainConfig(epochs=epochs, batch_requests=batch)
    with stage_output(made.run(name, 0)) as out:
        work = made.root / ".work"
        train_model(
            name,
            MODELS["din-short-only"],
            backbone,
            train,
            COMPUTE,
            0,
            items,
            prepared=made.prepare,
            out=out,
            work=work,
        )


def enter(made: Artifacts, bundle: Path, digest: str) -> None:
    items = load_items(prepared=made.prepare, embedded=made.embed, codebook=made.codebook)
    config = ChampionConfig(digest=digest)
    with stage_output(made.run("champion", 0)) as out:
        enter_champion("champion", config, COMPUTE, 0, items, prepared=made.prepare, bundle=bundle, out=out)


def judge(made: Artifacts, control: str, *models: str) -> Day:
    """The stages from the evaluation to the bundles; the first model is the reference."""
    experiment = ExperimentConfig(models=models, seeds=(0,))
    with stage_output(made.evaluate) as out:
        config = EvaluateConfig(reference=models[0], bootstrap=50, slices=2)
        runs = runs_of(made.train, experiment)
        evaluate(config, COMPUTE, prepared=made.prepare, runs=runs, out=out, timings=made.root / "timings.json")
    with stage_output(made.abtest) as out:
        config_ab = ABTestConfig(control=control, users=600, visits=2, pool=20, slate=5, world_dim=4)
        folders = {"prepared": made.prepare, "trained": made.train, "evaluated": made.evaluate}
        abtest(config_ab, experiment, COMPUTE, **folders, out=out)
    with stage_output(made.register) as out:
        build_bundles(experiment, made, out=out)
    return Day(made, models)
