"""Model versions: one for each bundle, found by its digest, and the newest is the challenger."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kit import says
from registered import PRODUCT, add_foreign, with_evidence

from hisac_lab.base.artifacts import read_json, sha256_tree
from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.records import Evidence
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import BUNDLE, CODE_TAG, PROJECT


def add(registry: Registry, bundle: Path, **changes: Any) -> str:
    """Registers a bundle whose evidence has these changes; gives the version."""
    digest = with_evidence(bundle, **changes) if changes else sha256_tree(bundle)
    run = registry.client.create_run(registry.experiment).info.run_id
    return registry.versions.register(bundle, digest, run)


def test_a_bundle_registered_twice_has_one_version_and_another_bundle_another(
    registry: Registry, run: Artifacts
) -> None:
    bundle = run.bundle("new")
    one = sha256_tree(bundle)
    assert (add(registry, bundle), add(registry, bundle), add(registry, bundle, seed=1)) == ("1", "1", "2")
    versions = registry.versions
    assert [str(version.version) for version in versions.all()] == ["1", "2"]
    for digest, wanted in ((one, "1"), (sha256_tree(bundle), "2")):
        found = versions.by_digest(digest)
        assert found is not None
        assert str(found.version) == wanted
    assert versions.by_digest("0" * 64) is None


def test_versions_of_all_models_share_the_product_and_are_picked_by_number_or_model(
    registry: Registry, run: Artifacts
) -> None:
    add(registry, run.bundle("new"))
    add(registry, run.bundle("base"))
    add(registry, run.bundle("new"), seed=1)
    picks = {("new", None): "3", ("base", None): "2", (None, "2"): "2", ("new", "1"): "1"}
    assert {asked: str(registry.versions.pick(*asked).version) for asked in picks} == picks
    assert [model.name for model in registry.client.search_registered_models()] == [PRODUCT]


def test_a_version_tells_its_evidence_in_short_and_comes_from_the_run_that_made_it(
    registry: Registry, run: Artifacts
) -> None:
    new = run.bundle("new")
    owner = registry.client.create_run(registry.experiment).info.run_id
    registry.versions.register(new, sha256_tree(new), owner)
    add(registry, run.bundle("base"))
    version = registry.versions.pick("new", None)
    assert version.run_id == owner
    tags = {
        BUNDLE: sha256_tree(new),
        PROJECT: registry.promoter.ledger.entries()[0]["hash"],
        "model": "new",
        "seed": "0",
        "fingerprint": "fedcba9876543210",
        "auc": "0.71",
        "auc_low": "0.7",
        "auc_high": "0.72",
        "calibration_error": "0.02",
        "state_bytes": "4000.5",
        "request_macs": "25250000",
        "verdict": "better",
        "lift": "0.012",
        "lift_low": "0.008",
        "lift_high": "0.016",
    }
    code = version.tags.pop(CODE_TAG)
    assert len(code) == 16
    assert version.tags == tags
    control = registry.versions.pick("base", None).tags
    assert (control["verdict"], control[CODE_TAG], "lift" in control) == ("control", code, False)


def test_versions_are_found_by_their_numbers(registry: Registry, run: Artifacts) -> None:
    """MLflow compares metrics of logged models; tags it tells apart by equality alone."""
    for name in ("base", "new"):
        add(registry, run.bundle(name))
    for query, names in (
        ("metrics.auc > 0.7", ["new"]),
        ("metrics.auc >= 0.7", ["base", "new"]),
        ("metrics.lift_low > 0.01", []),
        ("metrics.request_macs <= 25250000", ["base", "new"]),
    ):
        found = registry.client.search_logged_models([registry.experiment], query)
        assert sorted(str(model.name) for model in found) == names
    (version,) = registry.client.search_model_versions("tags.model = 'new'")
    assert float(version.tags["auc"]) == 0.71


def test_a_version_carries_its_bundle_the_code_that_serves_it_and_its_card(registry: Registry, run: Artifacts) -> None:
    bundle = run.bundle("new")
    add(registry, bundle)
    version = registry.versions.pick("new", None)
    assert registry.versions.evidence(version) == Evidence.open(bundle)
    home = Path(mlflow.artifacts.download_artifacts("models:/ranker/1"))
    (carried,) = home.rglob("weights.safetensors")
    assert sha256_tree(carried.parent) == sha256_tree(bundle)
    for module in ("registry/served.py", "models/hisac.py", "inference/bundle.py"):
        assert (home / "code/hisac_lab" / module).exists()
    pinned = (home / "requirements.txt").read_text().splitlines()
    assert f"safetensors=={metadata.version('safetensors')}" in pinned
    assert all("==" in line and "+" not in line for line in pinned)
    card = str(version.description)
    assert card.startswith("**hisac**: ")
    claims = [
        f"| {claim['status']} | {claim['claim']} | `{claim['source'].removeprefix('docs/papers/')}` |"
        for claim in read_json(bundle / "card.json")
    ]
    told = [line for line in card.splitlines() if line in claims]
    assert told == claims[: len(told)]
    assert len(told) > 10
    assert len(card) <= 5000, "what MLflow's tables hold on PostgreSQL"
    assert ("The rest does not fit here" in card) == (len(told) < len(claims))


def test_a_model_of_another_package_names_it(registry: Registry, run: Artifacts) -> None:
    path = run.bundle("new") / "model.json"
    path.write_text(path.read_text().replace("{", '{"package": "cinema==1.2", ', 1))
    add(registry, run.bundle("new"))
    assert registry.versions.pick("new", None).tags["package"] == "cinema==1.2"


def test_versions_stand_in_the_order_of_their_numbers(registry: Registry, run: Artifacts) -> None:
    add(registry, run.bundle("new"))
    tags = {BUNDLE: "of another seed", PROJECT: registry.versions.project}
    for _ in range(10):
        registry.client.create_model_version(PRODUCT, str(run.bundle("new")), tags=tags)
    registry.client.set_model_version_tag(PRODUCT, "2", "touched", "last")
    assert [str(version.version) for version in registry.versions.all()] == [str(at) for at in range(1, 12)]


def test_only_versions_from_bundles_count(registry: Registry, run: Artifacts) -> None:
    add_foreign(registry, run.bundle("new"))
    assert registry.versions.all() == []
    add(registry, run.bundle("new"))
    registry.client.create_model_version(PRODUCT, str(run.bundle("new")))
    assert [str(version.version) for version in registry.versions.all()] == ["1"]


def test_what_is_not_there_is_told_with_what_is(registry: Registry, run: Artifacts) -> None:
    for name in ("nothing", "o'clock", "", "foreign"):
        with says(f"ranker has no version of a model {name!r} (there are: none yet: run the graph); name one"):
            registry.versions.pick(name, None)
    with says("registry: ranker has no version 1 (there are: none yet: run the graph)"):
        registry.versions.pick(None, "1")
    with says("registry: ranker has no challenger", "(there are: none yet: run the graph)"):
        registry.versions.pick(None, None)
    add(registry, run.bundle("new"))
    with says("ranker has no version of a model 'base' (there are: new); name one of them"):
        registry.versions.pick("base", "1")
    registry.client.create_model_version(PRODUCT, str(run.bundle("new")))
    for version in ("2", "3", "0", "one"):  # the second comes from no bundle
        with says(f"registry: ranker has no version {version} of new (there are: 1); name one of them"):
            registry.versions.pick("new", version)
    assert str(registry.versions.pick(None, "1").version) == "1"


def test_a_version_without_evidence_is_told(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "MLmodel").write_text("")
    add_foreign(registry, tmp_path / "empty")
    assert registry.versions.all() == []
    version = registry.client.get_model_version("foreign", "1")
    with says("models:/foreign/1: evidence.json: holds no evidence; register it through the graph"):
        registry.versions.evidence(version)


@pytest.mark.parametrize(
    "file", ["weights.safetensors", "model.json", "evidence.json", "vocabulary.json", "code/hisac_lab/ops/auc.py"]
)
def test_a_damaged_version_is_neither_judged_nor_served(registry: Registry, run: Artifacts, file: str) -> None:
    add(registry, run.bundle("new"))
    version = registry.versions.pick("new", None)
    assert mlflow.pyfunc.load_model("models:/ranker/1") is not None
    home = Path(mlflow.artifacts.download_artifacts("models:/ranker/1"))
    (path,) = [found for found in home.rglob(Path(file).name) if str(found).endswith(file)]
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    damage = "is not the code that was registered: its digest" if file.startswith("code") else "is damaged: its SHA-256"
    with says(f": {damage} is ", "was recorded; delete this version in MLflow, then `hisac-lab sync`"):
        registry.versions.evidence(version)
    with pytest.raises(Exception, match=rf"{damage} is .* was recorded; download the version again"):
        mlflow.pyfunc.load_model("models:/ranker/1")


def test_a_version_whose_tags_were_taken_away_is_not_judged(registry: Registry, run: Artifacts) -> None:
    add(registry, run.bundle("new"))
    registry.client.delete_model_version_tag(PRODUCT, "1", CODE_TAG)
    with says("is not the code that was registered", "none was recorded"):
        registry.versions.evidence(registry.versions.pick("new", None))
