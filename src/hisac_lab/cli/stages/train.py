"""Stage train: one model, one seed."""

from hisac_lab.base.artifacts import sha256_file, sha256_tree
from hisac_lab.base.code import OURS
from hisac_lab.cli.paths import ARTIFACTS, CHAMPION, WORK
from hisac_lab.cli.plan import Plan
from hisac_lab.config.base import load_section, parse
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig, TunedConfig
from hisac_lab.inference.items import load_items
from hisac_lab.models.catalog import Models
from hisac_lab.models.champion import ChampionConfig
from hisac_lab.training.champion import enter_champion
from hisac_lab.training.parallel import main_output
from hisac_lab.training.train import train_model, work_folder


def run(model: str, seed: int) -> None:
    """Runs one instance of the stage in the current folder.

    Args:
        model: Its name in the section `models`; the swept one takes the winner's settings.
        seed: Seed of this run.
    """
    config = load_section("models", Models).get(model)
    plan = Plan.read(ARTIFACTS.plan_of(model))
    if plan.settings is not None:
        config = parse(type(config), plan.settings, ARTIFACTS.plan_of(model))
    backbone = load_section("backbone", BackboneConfig)
    train = load_section("train", TrainConfig)
    if plan.tuned is not None:
        tuned = parse(TunedConfig, plan.tuned, ARTIFACTS.plan_of(model))
        backbone, train = tuned.over(backbone), tuned.over(train)
    compute = load_section("compute", ComputeConfig)
    inputs = [sha256_tree(path) for path in (ARTIFACTS.prepare, ARTIFACTS.embed, ARTIFACTS.codebook)]
    inputs += [OURS.digest(__name__), sha256_file(ARTIFACTS.code_of(model))]
    settings = [part.model_dump(mode="json") for part in (config, backbone, train, compute)]
    work = work_folder(WORK / "train" / f"{model}-{seed}", [settings, inputs, plan.instances])
    with main_output(ARTIFACTS.run(model, seed)) as out:
        items = load_items(prepared=ARTIFACTS.prepare, embedded=ARTIFACTS.embed, codebook=ARTIFACTS.codebook)
        if isinstance(config, ChampionConfig):
            enter_champion(model, config, compute, seed, items, prepared=ARTIFACTS.prepare, bundle=CHAMPION, out=out)
            return
        train_model(
            model,
            config,
            backbone,
            train,
            compute,
            seed,
            items,
            prepared=ARTIFACTS.prepare,
            out=out,
            work=work,
            instances=ARTIFACTS.instances,
            champion=CHAMPION,
        )
