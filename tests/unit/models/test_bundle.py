"""A model on disk: two plain files, enough to build it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from kit import FRAME, MODELS, make_history, make_items, says

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.models.bundle import load_model, save_model
from hisac_lab.models.catalog import build

SPACE = make_items()


def _save(name: str, out: Path, seed: int = 3) -> torch.nn.Module:
    out.mkdir(exist_ok=True)
    model = build(MODELS[name], FRAME, SPACE, seed).eval()
    save_model(out, model, MODELS[name], SPACE)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_gives_the_same_logits_without_the_artefacts(name: str, tmp_path: Path) -> None:
    model = _save(name, tmp_path)
    again, config = load_model(tmp_path)
    assert config == MODELS[name]
    assert not again.training
    history, candidates = make_history([9, 0, 3]), torch.arange(12).view(3, 4)
    assert torch.equal(again(history, candidates), model(history, candidates))


def test_a_bundle_is_two_files_without_pickles(tmp_path: Path) -> None:
    _save("hisac", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]
    head = (tmp_path / "weights.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    assert "encoder.ids.weight" in json.loads(head[8 : 8 + size])
    facts = json.loads((tmp_path / "model.json").read_text())
    assert set(facts) == {"model", "frame", "items"}
    assert facts["items"] == SPACE.shape()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _save("hisac", tmp_path / name)
    _save("hisac", tmp_path / "other", seed=4)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two") != sha256_tree(tmp_path / "other")


@pytest.mark.parametrize("missing", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    _save("din-whole", tmp_path)
    (tmp_path / missing).unlink()
    with says(missing, "does not exist"):
        load_model(tmp_path)
