"""The version that an alias points at, as a server asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit import says
from registered import PRODUCT, store_in

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.aliased import Aliased
from hisac_lab.registry.mirror import Lineage
from hisac_lab.registry.store import Registry


@pytest.fixture
def mirrored(registry: Registry, run: Artifacts, tmp_path: Path) -> Registry:
    """A registry with a version of each model and no champion."""
    registry.mirror(run, Lineage("commit", {}, {}), tmp_path / "none.json")
    return registry


def test_an_alias_gives_number_and_bundle(mirrored: Registry, run: Artifacts, tmp_path: Path) -> None:
    aliased = Aliased(store_in(tmp_path).tracking_uri, PRODUCT, "champion")
    with says(PRODUCT, "has no champion", "hisac-lab promote"):
        aliased.number()
    version = mirrored.versions.pick("new", None)
    mirrored.versions.set_champion(version, "decision")
    assert aliased.number() == str(version.version)
    assert sha256_tree(aliased.bundle(aliased.number())) == sha256_tree(run.bundle("new"))
    with says(PRODUCT, "has no other", "serve.alias"):
        Aliased(store_in(tmp_path).tracking_uri, PRODUCT, "other").number()


def test_a_bundle_that_was_changed_is_refused(mirrored: Registry, tmp_path: Path) -> None:
    version = mirrored.versions.pick("new", None)
    aliased = Aliased(store_in(tmp_path).tracking_uri, PRODUCT, "champion")
    weights = aliased.bundle(str(version.version)) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with says("is damaged"):
        aliased.bundle(str(version.version))
