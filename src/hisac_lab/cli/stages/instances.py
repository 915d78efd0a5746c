"""Stage instances: IAT's source model, and the store of every sample's vector."""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, InstancesConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.instances import NONE, no_store


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("instances", InstancesConfig)
    if config.order == NONE:
        with stage_output(ARTIFACTS.instances) as out:
            no_store(out)
        return
    from hisac_lab.inference.items import load_items  # from here on torch is needed
    from hisac_lab.training.instances import make_instances

    backbone = load_section("backbone", BackboneConfig)
    train = load_section("train", TrainConfig)
    compute = load_section("compute", ComputeConfig)
    with stage_output(ARTIFACTS.instances) as out:
        items = load_items(prepared=ARTIFACTS.prepare, embedded=ARTIFACTS.embed, codebook=ARTIFACTS.codebook)
        make_instances(config, backbone, train, compute, items, prepared=ARTIFACTS.prepare, out=out)
