"""Stage plan: what the training of each model takes from the sweep and from the instance store.

One small file a model, so that a new winner trains the swept model alone, and a new store those that read it.
"""

from hisac_lab.base.artifacts import read_json, read_manifest, stage_output, write_json
from hisac_lab.cli.paths import CODE, INSTANCES, PLAN, SWEEP
from hisac_lab.models.catalog import KINDS


def run() -> None:
    """Runs the stage in the current folder."""
    best, store = read_json(SWEEP / "best.json"), read_manifest(INSTANCES)["digest"]
    with stage_output(PLAN) as out:
        for name, entry in read_json(CODE / "experiment.json").items():
            reads = KINDS[entry["kind"]].Config.needs_instances
            settings = best["settings"] if best["model"] == name else None
            write_json(out / f"{name}.json", {"settings": settings, "instances": store if reads else None})
