"""Stage plan: what the training of each model takes from the sweep and from the instance store.

One small file a model, so that a new winner trains the swept model alone, and a new store those that read it.
"""

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli.code import Experiment, needs_instances
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.cli.plan import Plan
from hisac_lab.config.base import load_section
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.events.records import InstancesMade
from hisac_lab.sweep.records import Best


def run() -> None:
    """Runs the stage in the current folder."""
    tuned = load_section("experiment", ExperimentConfig).tuned
    swept = {name: Best.open(ARTIFACTS.swept(name)) for name in load_section("sweep", SweepConfig).models}
    store = InstancesMade.open(ARTIFACTS.instances).digest
    with stage_output(ARTIFACTS.plan) as out:
        for name, coded in Experiment.read(ARTIFACTS.code / "experiment.json").models.items():
            reads = needs_instances(coded.kind)
            best = swept.get(name)
            own = tuned[name].model_dump(mode="json", exclude_none=True) if name in tuned else {}
            own |= best.tuned if best else {}
            Plan(
                settings=best.settings if best else None,
                instances=store if reads else None,
                **({"tuned": own} if own or name in tuned else {}),
            ).write(out / f"{name}.json")
