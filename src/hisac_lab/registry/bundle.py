"""The stage `register`: one self-contained bundle per model, from files alone.

A bundle holds weights, vocabulary, settings, fidelity card, the encoder of items that come later, and the evidence that
promotion asks for. MLflow is a mirror
of it: when the registry is lost, it is rebuilt from here.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from hisac_lab.abtest.records import AA, NO_VERDICT, SAMPLE_RATIO, ABTested, ABTests
from hisac_lab.base.artifacts import digest_of, sha256_tree
from hisac_lab.base.stages import JUDGES, STAGES, Artifacts
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.records import Evaluated, ModelScores, Pair, Scores
from hisac_lab.events.store import EventStore
from hisac_lab.inference.append import keep_encoder
from hisac_lab.inference.bundle import MODEL_FILES, load_model, weights_of
from hisac_lab.inference.records import CARD, Claim, ModelFile, VocabularyFile
from hisac_lab.models.catalog import fidelity_card, learns
from hisac_lab.registry.context import save_snapshots
from hisac_lab.registry.records import ABEvidence, Comparison, Evidence, Registered


def build_bundles(experiment: ExperimentConfig, artifacts: Artifacts, *, out: Path) -> None:
    """Writes one bundle per model: the seed that was best on validation.

    That of the champion, which is on the board to be compared with, is not in the manifest: it is registered already.

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
    runs = {name: artifacts.run(name, scores.models[name].best_seed) for name in experiment.models}
    files = {name: ModelFile.open(run).model for name, run in runs.items()}
    weights = {name: weights_of(run) if learns(files[name]) else files[name]["weights"] for name, run in runs.items()}
    digests = {}
    for name, run in runs.items():
        folder = out / name
        folder.mkdir()
        scored = scores.models[name]
        for file in MODEL_FILES:
            shutil.copyfile(run / file, folder / file)
        vocabulary.save(folder)
        model, config = load_model(run, codebook=artifacts.codebook, instances=artifacts.instances)
        save_snapshots(folder, model, store)
        keep_encoder(folder, prepared=artifacts.prepare, embedded=artifacts.embed, tokenized=artifacts.tokenize)
        Claim.write_list(folder / CARD, (Claim(**asdict(line)) for line in fidelity_card(config)))
        Evidence(
            model=name,
            seed=scored.best_seed,
            seeds=sorted(scored.seeds),
            weights=weights[name],
            fingerprint=evaluated.fingerprint,
            negatives=evaluated.negatives,
            valid_auc=_valid_auc(scored),
            side=scored.control,
            labels=scored.labels,
            metrics={metric: entry for metric, entry in scored.metrics.items() if entry is not None},
            calibration_error=scored.served.calibration.error,
            calibration_chance=scored.served.calibration.chance,
            cost=scored.cost,
            parameters=scored.parameters,
            popularity=scores.popularity.get(name),
            comparisons=_comparisons(name, scores.pairs, weights),
            abtest=_ab_evidence(name, tests, tested),
        ).save(folder)
        if learns(files[name]):
            digests[name] = sha256_tree(folder)
    stages = _digests(artifacts, experiment)
    Registered(models=digests, stages=stages, pipeline=digest_of(stages)).save(out)


def _valid_auc(scored: ModelScores) -> float:
    """Mean over the seeds."""
    return round(sum(seed.valid_auc for _, seed in sorted(scored.seeds.items())) / len(scored.seeds), 6)


def _comparisons(name: str, pairs: list[Pair], weights: dict[str, str]) -> dict[str, Comparison]:
    """The pairs of a model, each as this one less the other."""
    found = {}
    for pair in pairs:
        low, high = pair.interval
        if pair.one == name and pair.other in weights:
            other, difference, interval = pair.other, pair.difference, (low, high)
        elif pair.other == name and pair.one in weights:
            other, difference, interval = pair.one, -pair.difference, (-high, -low)
        else:
            continue
        found[other] = Comparison(difference=difference, interval=interval, p=pair.p, weights=weights[other])
    return found


def _ab_evidence(name: str, tests: ABTests, tested: ABTested) -> ABEvidence | None:
    """The test of a model; None for the control. All that the registry reads of `abtest` passes here."""
    if name == tests.control:
        return None
    test = tests.tests.get(name)
    verdict = NO_VERDICT if test is None else test.verdict
    holds = {check.name: check.holds for check in tests.checks}
    return ABEvidence(
        kind=tests.evidence,
        verdict=verdict,
        reason=tests.reason_of(name),
        control=tests.control,
        lift=None if test is None or verdict == NO_VERDICT else test.corrected,
        sample_ratio_holds=holds.get(SAMPLE_RATIO, True),
        aa_holds=holds.get(AA, True),
        fingerprint=tested.fingerprint,
        test_fingerprint=tested.test_fingerprint,
    )


def _digests(artifacts: Artifacts, experiment: ExperimentConfig) -> dict[str, str]:
    """Digest of each stage's output; shards are left out, `prepare` holds them joined."""
    runs = [artifacts.run(name, seed) for name in experiment.models for seed in experiment.seeds]
    above = [stage for stage in STAGES if stage not in (*JUDGES, "shard", "train", "register")]
    trained = digest_of({run.name: sha256_tree(run) for run in runs})
    return {stage: sha256_tree(artifacts.at(stage)) for stage in above} | {"train": trained}
