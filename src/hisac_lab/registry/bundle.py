"""The stage `register`: one self-contained bundle per model, from files alone.

A bundle holds weights, vocabulary, settings, fidelity card and the evidence that promotion asks for. MLflow is a mirror
of it: when the registry is lost, it is rebuilt from here.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from hisac_lab.base.artifacts import digest_of, read_json, read_manifest, sha256_tree, write_json, write_manifest
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import MODEL, WEIGHTS, load_model
from hisac_lab.models.catalog import fidelity_card

EVIDENCE, CARD, VOCABULARY = "evidence.json", "card.json", "vocabulary.json"


def build_bundles(experiment: ExperimentConfig, stages: Mapping[str, Path], out: Path) -> None:
    """Writes one bundle per model: the seed that was best on validation.

    Args:
        experiment: Which models there are.
        stages: Output directory of each stage by name.
        out: An empty directory.

    Raises:
        UserError: A stage has not run.
    """
    store = EventStore.open(stages["prepare"])
    results = read_json(stages["evaluate"] / "metrics.json")["models"]
    tests = read_json(stages["abtest"] / "abtest.json")
    protocol = read_manifest(stages["evaluate"])
    experiment_design = read_manifest(stages["abtest"])
    items = store.item_table["item"].tolist()
    digests = {}
    for name in experiment.models:
        folder = out / name
        folder.mkdir()
        result = results[name]
        seed = str(result["best_seed"])
        run = stages["train"] / f"{name}-{seed}"
        for file in (WEIGHTS, MODEL):
            shutil.copyfile(run / file, folder / file)
        write_json(folder / VOCABULARY, {"items": items, "history_limit": store.limit})
        write_json(
            folder / CARD,
            [asdict(line) for line in fidelity_card(load_model(run, stages["codebook"], stages["instances"])[1])],
        )
        test = tests["tests"].get(name)
        write_json(
            folder / EVIDENCE,
            {
                "model": name,
                "seed": int(seed),
                "fingerprint": protocol["fingerprint"],
                "negatives": protocol["negatives"],
                "metrics": result["metrics"],
                "calibration_error": result["seeds"][seed]["calibration"]["error"],
                "cost": result["cost"],
                "parameters": result["parameters"],
                "abtest": None
                if test is None
                else {
                    "control": tests["control"],
                    "fingerprint": experiment_design["fingerprint"],
                    "test_fingerprint": experiment_design["test_fingerprint"],
                    "lift": test["lift_cuped"],
                    "sample_ratio_p": test["sample_ratio_p"],
                    "verdict": test["verdict"],
                },
            },
        )
        digests[name] = sha256_tree(folder)
    inputs = {stage: sha256_tree(path) for stage, path in sorted(stages.items()) if stage != "train"}
    inputs["train"] = digest_of({run.name: sha256_tree(run) for run in _runs(stages["train"], experiment)})
    write_manifest(out, models=digests, stages=inputs, pipeline=digest_of(inputs))


def _runs(trained: Path, experiment: ExperimentConfig) -> list[Path]:
    return [trained / f"{name}-{seed}" for name in experiment.models for seed in experiment.seeds]
