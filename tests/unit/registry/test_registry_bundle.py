"""Bundles: what a model needs elsewhere and what its promotion is judged by, from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from finished import edit
from kit import EVERY, says
from registered import KINDS, register, space, write_weights

from hisac_lab.base.artifacts import digest_of, read_json, sha256_file, sha256_tree
from hisac_lab.base.stages import Artifacts
from hisac_lab.inference.bundle import load_model, weights_of
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.catalog import fidelity_card
from hisac_lab.registry.records import Evidence, Registered

FILES = {"weights.safetensors", "model.json", "vocabulary.json", "card.json", "evidence.json"} | {
    "catalog.json",
    "item_fields.npy",
    "tokens",
    "embed",
}
SERVED_SEED = 1


def serve_another_seed(run: Artifacts) -> None:
    """Adds a second run of `new`, better than the first."""
    scores = read_json(run.evaluate / "metrics.json")
    new = scores["models"]["new"]
    calibration = new["seeds"]["0"]["calibration"] | {"error": 0.04}
    new["seeds"]["1"] = new["seeds"]["0"] | {"calibration": calibration}
    new["best_seed"] = SERVED_SEED
    edit(run.evaluate / "metrics.json", **scores)
    run.run("new", SERVED_SEED).mkdir()
    write_weights(run, "new", SERVED_SEED, space())


def test_a_bundle_holds_the_seed_that_is_served_and_builds_the_model_alone(run: Artifacts, tmp_path: Path) -> None:
    serve_another_seed(run)
    register(run)
    bundle = run.bundle("new").rename(tmp_path / "elsewhere")
    assert {path.name for path in bundle.iterdir()} == FILES
    model, config = load_model(bundle)
    assert config == EVERY[KINDS["new"]]
    for seed, same in ((0, False), (SERVED_SEED, True)):
        other = load_model(run.run("new", seed))[0].state_dict()
        assert all(torch.equal(part, other[name]) for name, part in model.state_dict().items()) == same


def test_evidence_is_that_of_the_evaluation_and_of_the_test(run: Artifacts) -> None:
    serve_another_seed(run)
    register(run)
    scores = read_json(run.evaluate / "metrics.json")["models"]["new"]
    found = Evidence.open(run.bundle("new"))
    assert (found.model, found.seed, found.fingerprint) == ("new", SERVED_SEED, "fedcba9876543210")
    assert (found.negatives, found.parameters) == ("real exposures", 1234)
    assert found.calibration_error == 0.04
    assert (found.seeds, found.valid_auc, found.side) == ([0, SERVED_SEED], 0.7, None)
    assert found.cost.facts() == scores["cost"]
    assert {name: metric.facts() for name, metric in found.metrics.items()} == scores["metrics"]
    test = read_json(run.abtest / "abtest.json")["tests"]["new"]
    assert found.abtest is not None
    assert found.abtest.facts() == {
        "kind": "fitted",
        "verdict": "better",
        "reason": "",
        "control": "base",
        "fingerprint": "fedcba9876543210",
        "test_fingerprint": "00ff00ff00ff00ff",
        "lift": test["corrected"],
        "sample_ratio_holds": True,
        "aa_holds": True,
    }


def test_the_lift_is_the_one_that_is_corrected_as_the_verdict_is(run: Artifacts) -> None:
    tests = read_json(run.abtest / "abtest.json")["tests"]
    tests["new"]["corrected"] = tests["new"]["lift"] | {"low": 0.003}
    edit(run.abtest / "abtest.json", tests=tests)
    register(run)
    found = Evidence.open(run.bundle("new")).abtest
    assert found is not None
    assert found.lift is not None
    assert found.lift.low == 0.003


def test_arms_of_a_wrong_size_and_a_control_unlike_itself_are_told(run: Artifacts) -> None:
    for split, itself in ((True, False), (False, True)):
        checks = [{"name": "aa", "holds": itself, "says": "p"}, {"name": "sample_ratio", "holds": split, "says": "p"}]
        edit(run.abtest / "abtest.json", checks=checks)
        register(run)
        found = Evidence.open(run.bundle("new")).abtest
        assert found is not None
        assert (found.sample_ratio_holds, found.aa_holds) == (split, itself)


def test_a_model_of_a_log_with_nothing_to_compare_by_has_no_verdict_and_may_challenge(run: Artifacts) -> None:
    checks = [{"name": "data", "holds": False, "says": "no two test users"}]
    edit(run.abtest / "abtest.json", checks=checks, tests={}, aa=None)
    register(run)
    base, new = (Evidence.open(run.bundle(name)) for name in ("base", "new"))
    assert base.abtest is None
    assert new.abtest is not None
    assert (new.abtest.verdict, new.abtest.reason, new.abtest.lift) == ("no verdict", "no two test users", None)
    assert new.may_challenge


def test_a_pair_is_told_from_both_sides_with_the_weights_of_the_other(run: Artifacts) -> None:
    base, new = (Evidence.open(run.bundle(name)) for name in ("base", "new"))
    assert base.weights != new.weights
    assert base.weights == weights_of(run.bundle("base")) == weights_of(run.run("base", 0))
    assert new.comparisons.keys() == {"base"}
    assert new.comparisons["base"].facts() == {
        "difference": 0.01,
        "interval": [0.007, 0.013],
        "p": 0.004,
        "weights": base.weights,
    }
    assert base.comparisons["new"].facts() == {
        "difference": -0.01,
        "interval": [-0.013, -0.007],
        "p": 0.004,
        "weights": new.weights,
    }


def test_weights_are_those_of_the_files_and_not_of_the_evidence(run: Artifacts) -> None:
    before = weights_of(run.bundle("new"))
    edit(run.bundle("new") / "evidence.json", seed=7)
    assert weights_of(run.bundle("new")) == before
    write_weights(run, "new", 0, space())
    assert weights_of(run.run("new", 0)) == before
    edit(run.run("new", 0) / "model.json", codebook="another")
    assert weights_of(run.run("new", 0)) != before


def test_popularity_is_compared_with_where_the_evaluation_says_so(run: Artifacts) -> None:
    found = Evidence.open(run.bundle("new")).popularity
    assert found is not None
    assert found.facts() == {"difference": 0.02, "interval": [0.012, 0.028]}
    edit(run.evaluate / "metrics.json", popularity={})
    register(run)
    assert Evidence.open(run.bundle("new")).popularity is None


@pytest.mark.parametrize("marked", [{}, {"control": "item"}, {"control": "user"}, {"labels": "shuffled"}])
def test_a_control_is_no_challenger(run: Artifacts, marked: dict[str, str]) -> None:
    models = read_json(run.evaluate / "metrics.json")["models"]
    edit(run.evaluate / "metrics.json", models=models | {"new": models["new"] | marked})
    register(run)
    found = {name: Evidence.open(run.bundle(name)).may_challenge for name in KINDS}
    assert found == {"base": False, "new": not marked}


def test_the_control_has_no_test(run: Artifacts) -> None:
    assert Evidence.open(run.bundle("base")).abtest is None


def test_a_bundle_knows_the_items_in_the_order_of_their_numbers_and_its_card(run: Artifacts) -> None:
    edit(run.prepare / "manifest.json", history_limit=77)
    register(run)
    assert VocabularyFile.open(run.bundle("new")) == VocabularyFile(items=list("abcd"), history_limit=77)
    card = read_json(run.bundle("new") / "card.json")
    wanted = fidelity_card(EVERY[KINDS["new"]])
    assert [(line["claim"], line["status"], line["source"]) for line in card] == [
        (line.claim, line.status, line.source) for line in wanted
    ]


def test_the_manifest_holds_the_digest_of_each_bundle_and_of_each_stage(run: Artifacts) -> None:
    found = Registered.open(run.register)
    assert found.models == {name: sha256_tree(run.bundle(name)) for name in KINDS}
    names = "acquire ingest prepare embed tokenize codebook sweep instances evaluate abtest".split()
    runs = {f"{name}-0": sha256_tree(run.run(name, 0)) for name in KINDS}
    stages = {name: sha256_tree(run.at(name)) for name in names} | {"train": digest_of(runs)}
    assert found.stages == stages
    assert found.pipeline == digest_of(stages)


def test_the_same_run_gives_the_same_bundles_and_another_a_pipeline_of_its_own(run: Artifacts) -> None:
    before = Registered.open(run.register)
    register(run)
    assert Registered.open(run.register) == before
    edit(run.train / "base-0/manifest.json", steps=21)
    register(run)
    after = Registered.open(run.register)
    assert after.models == before.models
    assert after.stages == before.stages | {"train": after.stages["train"]}
    assert after.pipeline != before.pipeline


def test_a_model_trained_with_another_codebook_is_refused_and_the_old_bundles_stay(run: Artifacts) -> None:
    before = sha256_tree(run.register)
    edit(run.codebook / "manifest.json", digest="another")
    with says("model.json: codebook: the model was trained with codebook", "another", "train it again"):
        register(run)
    assert sha256_tree(run.register) == before


@pytest.mark.parametrize(
    "name",
    [
        "prepare/manifest.json",
        "evaluate/metrics.json",
        "evaluate/manifest.json",
        "abtest/abtest.json",
        "abtest/manifest.json",
        "train/new-0/weights.safetensors",
        "codebook/manifest.json",
    ],
)
def test_a_stage_that_has_not_run_is_named_and_the_old_bundles_stay(run: Artifacts, name: str) -> None:
    before = sha256_file(run.register / "manifest.json")
    (run.root / name).unlink()
    with says(f"{run.root / name}: does not exist", "run the stage that makes it"):
        register(run)
    assert sha256_file(run.register / "manifest.json") == before
