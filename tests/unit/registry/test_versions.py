"""Model versions: one for each bundle, found by its digest, and the newest is the challenger."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kit import says
from registered import add_foreign, with_evidence

from hisac_lab.base.artifacts import read_json, sha256_tree
from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import BUNDLE, CHALLENGER, PROJECT


def add(registry: Registry, bundle: Path, name: str = "new", **changes: Any) -> str:
    """Registers a bundle whose evidence has these changes; gives the version."""
    digest = with_evidence(bundle, **changes) if changes else sha256_tree(bundle)
    run = registry.client.create_run(registry.experiment).info.run_id
    return registry.versions.register(name, bundle, digest, run)


def test_a_bundle_registered_twice_has_one_version_and_another_bundle_another(
    registry: Registry, run: Artifacts
) -> None:
    bundle = run.bundle("new")
    one = sha256_tree(bundle)
    assert (add(registry, bundle), add(registry, bundle), add(registry, bundle, seed=1)) == ("1", "1", "2")
    versions = registry.versions
    assert [str(version.version) for version in versions.all("new")] == ["1", "2"]
    for digest, wanted in ((one, "1"), (sha256_tree(bundle), "2")):
        found = versions.by_digest("new", digest)
        assert found is not None
        assert str(found.version) == wanted
    assert versions.by_digest("new", "0" * 64) is None
    assert versions.by_digest("other", one) is None


def test_the_bundle_registered_last_is_the_challenger_also_when_it_is_known(registry: Registry, run: Artifacts) -> None:
    bundle = run.bundle("new")
    seed = Evidence.open(bundle).seed
    for at, wanted in ((seed, "1"), (9, "2"), (seed, "1")):
        add(registry, bundle, seed=at)
        assert str(registry.versions.pick("new", None).version) == wanted
        found = registry.versions.alias("new", CHALLENGER)
        assert found is not None
        assert str(found.version) == wanted


def test_a_version_tells_its_evidence_in_short_and_comes_from_the_run_that_made_it(
    registry: Registry, run: Artifacts
) -> None:
    new, base = run.bundle("new"), run.bundle("base")
    owner = registry.client.create_run(registry.experiment).info.run_id
    registry.versions.register("new", new, sha256_tree(new), owner)
    add(registry, base, "base")
    version = registry.versions.pick("new", "1")
    assert version.run_id == owner
    tags = {
        BUNDLE: sha256_tree(new),
        PROJECT: registry.promoter.ledger.entries()[0]["hash"],
        "fingerprint": "fedcba9876543210",
        "auc": "0.7100 [0.7000, 0.7200]",
        "calibration_error": "0.0200",
        "candidate_macs": "50000",
        "abtest": "better against base: +0.80% to +1.60%",
    }
    assert version.tags == tags
    assert registry.versions.pick("base", "1").tags["abtest"] == "control"


def test_a_version_carries_its_bundle_the_code_that_serves_it_and_its_card(registry: Registry, run: Artifacts) -> None:
    bundle = run.bundle("new")
    add(registry, bundle)
    version = registry.versions.pick("new", "1")
    assert registry.versions.evidence(version) == Evidence.open(bundle)
    home = Path(mlflow.artifacts.download_artifacts("models:/new/1"))
    (carried,) = home.rglob("weights.safetensors")
    assert sha256_tree(carried.parent) == sha256_tree(bundle)
    for module in ("registry/served.py", "models/hisac.py", "inference/bundle.py"):
        assert (home / "code/hisac_lab" / module).exists()
    pinned = (home / "requirements.txt").read_text().splitlines()
    assert f"safetensors=={metadata.version('safetensors')}" in pinned
    assert all("==" in line and "+" not in line for line in pinned)
    card = registry.client.get_registered_model("new").description
    assert card.startswith("**new**: ")
    for claim in read_json(bundle / "card.json"):
        assert f"| {claim['status']} | {claim['claim']} | `{claim['source']}` |" in card.splitlines()


def test_a_model_of_another_package_names_it(registry: Registry, run: Artifacts) -> None:
    path = run.bundle("new") / "model.json"
    path.write_text(path.read_text().replace("{", '{"package": "cinema==1.2", ', 1))
    add(registry, run.bundle("new"))
    assert registry.versions.pick("new", "1").tags["package"] == "cinema==1.2"


def test_versions_stand_in_the_order_of_their_numbers(registry: Registry, run: Artifacts) -> None:
    add(registry, run.bundle("new"))
    tags = {BUNDLE: "of another seed", PROJECT: registry.versions.project}
    for _ in range(10):
        registry.client.create_model_version("new", str(run.bundle("new")), tags=tags)
    registry.client.set_model_version_tag("new", "2", "touched", "last")
    assert [str(version.version) for version in registry.versions.all("new")] == [str(at) for at in range(1, 12)]


def test_only_models_from_bundles_count(registry: Registry, run: Artifacts) -> None:
    add_foreign(registry, run.bundle("new"))
    assert registry.versions.names() == []
    add(registry, run.bundle("new"))
    add(registry, run.bundle("base"), "base")
    assert registry.versions.names() == ["base", "new"]


def test_a_model_that_is_not_there_is_told_with_those_that_are(registry: Registry, run: Artifacts) -> None:
    add_foreign(registry, run.bundle("new"))
    names = ("nothing", "o'clock", "", "foreign")
    for name in names:
        with says(f"registry: there is no model {name!r} (there are: none yet: run the graph)", "name one"):
            registry.versions.pick(name, None)
    add(registry, run.bundle("new"))
    for name in names:
        with says(f"registry: there is no model {name!r} (there are: new); name one of them"):
            registry.versions.pick(name, "1")


def test_a_version_that_is_not_there_is_told_with_those_that_are(registry: Registry, run: Artifacts) -> None:
    add(registry, run.bundle("new"))
    registry.client.create_model_version("new", str(run.bundle("new")))
    for version in ("2", "3", "0", "one"):  # the second comes from no bundle
        with says(f"registry: new has no version {version} (there are: 1); name one of them"):
            registry.versions.pick("new", version)
    assert str(registry.versions.pick("new", "1").version) == "1"


def test_a_model_whose_challenger_was_removed_asks_for_a_version(registry: Registry, run: Artifacts) -> None:
    add(registry, run.bundle("new"))
    registry.client.delete_registered_model_alias("new", CHALLENGER)
    with says("registry: new has no challenger (there are: 1); name a version with --version"):
        registry.versions.pick("new", None)
    assert str(registry.versions.pick("new", "1").version) == "1"


def test_a_version_without_evidence_is_told(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "MLmodel").write_text("")
    add_foreign(registry, tmp_path / "empty")
    assert registry.versions.all("foreign") == []
    version = registry.client.get_model_version("foreign", "1")
    with says("models:/foreign/1: evidence.json: holds no evidence; register it through the graph"):
        registry.versions.evidence(version)


@pytest.mark.parametrize("file", ["weights.safetensors", "model.json", "evidence.json", "vocabulary.json"])
def test_a_damaged_version_is_neither_judged_nor_served(registry: Registry, run: Artifacts, file: str) -> None:
    add(registry, run.bundle("new"))
    version = registry.versions.pick("new", None)
    assert mlflow.pyfunc.load_model("models:/new/1") is not None
    home = Path(mlflow.artifacts.download_artifacts("models:/new/1"))
    (path,) = home.rglob(file)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with says(": is damaged: its SHA-256 is ", "was recorded; delete this version in MLflow, then `hisac-lab sync`"):
        registry.versions.evidence(version)
    with pytest.raises(Exception, match=r"is damaged: its SHA-256 is .* was recorded; download the version again"):
        mlflow.pyfunc.load_model("models:/new/1")
