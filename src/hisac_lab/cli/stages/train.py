"""Stage train: one model, one seed."""

from hisac_lab.base.artifacts import read_json, sha256_file, sha256_tree
from hisac_lab.base.code import OURS
from hisac_lab.cli.paths import CODEBOOK, EMBED, INSTANCES, PREPARE, TRAIN, WORK, code_path, plan_path
from hisac_lab.config.base import load_section, parse
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import FrameConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.items import load_items
from hisac_lab.models.catalog import Models
from hisac_lab.training.parallel import team_output
from hisac_lab.training.train import train_model, work_folder


def run(model: str, seed: int) -> None:
    """Runs one instance of the stage in the current folder.

    Args:
        model: Its name in the section `models`; the swept one takes the winner's settings.
        seed: Seed of this run.
    """
    config = load_section("models", Models).get(model)
    plan = read_json(plan_path(model))
    if plan["settings"] is not None:
        config = parse(type(config), plan["settings"], plan_path(model))
    frame = load_section("frame", FrameConfig)
    train = load_section("train", TrainConfig)
    compute = load_section("compute", ComputeConfig)
    inputs = [sha256_tree(path) for path in (PREPARE, EMBED, CODEBOOK)]
    settings = [part.model_dump(mode="json") for part in (config, frame, train, compute)]
    inputs += [plan["instances"], OURS.digest(__name__), sha256_file(code_path(model))]
    work = work_folder(WORK / "train" / f"{model}-{seed}", [settings, inputs])
    with team_output(TRAIN / f"{model}-{seed}") as out:
        items = load_items(PREPARE, EMBED, CODEBOOK)
        train_model(model, config, frame, train, compute, seed, items, PREPARE, out, work, INSTANCES)
