"""The stage `register`: one self-contained bundle per model, from files alone.

A bundle holds weights, vocabulary, settings, fidelity card and the evidence that promotion asks for. MLflow is a mirror
of it: when the registry is lost, it is rebuilt from here.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from hisac_lab.abtest.records import ABTested, ABTests
from hisac_lab.base.artifacts import digest_of, sha256_tree
from hisac_lab.base.stages import JUDGES, STAGES, Artifacts
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.records import Evaluated, Scores
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import MODEL, WEIGHTS, load_model
from hisac_lab.inference.records import CARD, Claim
from hisac_lab.models.catalog import fidelity_card
from hisac_lab.registry.context import save_snapshots
from hisac_lab.registry.records import ABEvidence, Evidence, Registered, VocabularyFile


def build_bundles(experiment: ExperimentConfig, artifacts: Artifacts, *, out: Path) -> None:
    """Writes one bundle per model: the seed that was best on validation.

    Args:
        experiment: Which models there are.
        artifacts: Outputs of the stages.
        out: An empty directory.

    Raises:
        UserError: A stage has not run.
    """
    store = EventStore.open(artifacts.prepare)
    scores, evaluated = Scores.open(artifacts.evaluate), Evaluated.open(artifacts.evaluate)
    tests, tested = ABTests.open(artifacts.abtest), ABTested.open(artifacts.abtest)
    vocabulary = VocabularyFile(items=store.item_table["item"].tolist(), history_limit=store.limit)
    digests = {}
    for name in experiment.models:
        folder = out / name
        folder.mkdir()
        scored = scores.models[name]
        run = artifacts.run(name, scored.best_seed)
        for file in (WEIGHTS, MODEL):
            shutil.copyfile(run / file, folder / file)
        vocabulary.save(folder)
        model, config = load_model(run, codebook=artifacts.codebook, instances=artifacts.instances)
        save_snapshots(folder, model, store)
        Claim.write_list(folder / CARD, (Claim(**asdict(line)) for line in fidelity_card(config)))
        Evidence(
            model=name,
            seed=scored.best_seed,
            fingerprint=evaluated.fingerprint,
            negatives=evaluated.negatives,
            metrics={metric: entry for metric, entry in scored.metrics.items() if entry is not None},
            calibration_error=scored.served.calibration.error,
            cost=scored.cost,
            parameters=scored.parameters,
            abtest=_ab_evidence(name, tests, tested),
        ).save(folder)
        digests[name] = sha256_tree(folder)
    stages = _digests(artifacts, experiment)
    Registered(models=digests, stages=stages, pipeline=digest_of(stages)).save(out)


def _ab_evidence(name: str, tests: ABTests, tested: ABTested) -> ABEvidence | None:
    """The test of a model; None for the control."""
    test = tests.tests.get(name)
    if test is None:
        return None
    return ABEvidence(
        control=tests.control,
        fingerprint=tested.fingerprint,
        test_fingerprint=tested.test_fingerprint,
        lift=test.lift,
        sample_ratio_p=test.draw.sample_ratio_p,
        verdict=test.verdict,
        evidence=tests.evidence,
        reasons=tests.reasons,
    )


def _digests(artifacts: Artifacts, experiment: ExperimentConfig) -> dict[str, str]:
    """Digest of each stage's output; shards are left out, `prepare` holds them joined."""
    runs = [artifacts.run(name, seed) for name in experiment.models for seed in experiment.seeds]
    above = [stage for stage in STAGES if stage not in (*JUDGES, "shard", "train", "register")]
    trained = digest_of({run.name: sha256_tree(run) for run in runs})
    return {stage: sha256_tree(artifacts.at(stage)) for stage in above} | {"train": trained}
