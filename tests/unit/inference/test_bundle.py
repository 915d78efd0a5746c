"""A model on disk: two plain files, enough to build it again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from kit import BACKBONE, EVERY, ITEMS, as_backbone, make_history, make_items, says

from hisac_lab.base.artifacts import sha256_tree, write_json, write_manifest
from hisac_lab.codebook.build import grow
from hisac_lab.config.tokens import RQVAEConfig
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.models import tables
from hisac_lab.models.catalog import build
from hisac_lab.models.hisac import HiSACBranch, HiSACConfig
from hisac_lab.tokens.rqvae import fit_rqvae

SPACE = make_items()


def _save(name: str, out: Path, seed: int = 3) -> torch.nn.Module:
    out.mkdir(exist_ok=True)
    model = build(EVERY[name], BACKBONE, SPACE, seed).eval()
    save_model(out, model, EVERY[name], SPACE)
    return model


@pytest.mark.parametrize("name", EVERY)
def test_a_saved_model_gives_the_same_logits_without_the_artifacts(name: str, tmp_path: Path) -> None:
    model = _save(name, tmp_path)
    again, config = load_model(tmp_path)
    assert config == EVERY[name]
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
    assert set(facts) == {"model", "backbone", "items", "codebook", "tied"}
    assert facts["items"] == SPACE.shape()


def test_of_a_large_table_the_file_is_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process reads the rows that it asks for; the file's others stay there."""
    monkeypatch.setattr(tables, "SPARSE_ROWS", ITEMS)
    model = _save("din-whole", tmp_path)
    again = load_model(tmp_path)[0]
    for one, two in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines if line.endswith(str(tmp_path / "weights.safetensors"))]
    places = {name: part.data_ptr() for name, part in again.state_dict().items()}
    mapped = [name for name, at in places.items() if any(int(a, 16) <= at < int(b, 16) for a, b in ranges)]
    assert mapped == ["encoder.ids.weight"]


def test_what_is_frozen_is_stored_once(tmp_path: Path) -> None:
    """Routing reads the vectors that the item encoder projects: the largest part of a bundle, once."""
    model = _save("hisac", tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["tied"]["long.semantic"] == "encoder.semantic"
    head = (tmp_path / "weights.safetensors").read_bytes()
    stored = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
    assert "encoder.semantic" in stored
    assert "long.semantic" not in stored
    again, _ = load_model(tmp_path)
    assert torch.equal(again.state_dict()["long.semantic"], model.state_dict()["long.semantic"])


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


def test_a_model_refuses_a_codebook_it_was_not_trained_with(tmp_path: Path) -> None:
    _save("hisac", tmp_path / "model")
    for name, digest in (("own", SPACE.codebook.digest), ("other", "0123456789abcdef")):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name, digest=digest)
    load_model(tmp_path / "model", tmp_path / "own")
    with says("model.json", "codebook", SPACE.codebook.digest, "0123456789abcdef", "train it again"):
        load_model(tmp_path / "model", tmp_path / "other")


def test_a_codebook_with_a_space_of_its_own_is_routed_there_and_saved(tmp_path: Path) -> None:
    """RQ-VAE codewords live among latents: routing compares them with the items' latents, not their embeddings."""
    quantizer = fit_rqvae(SPACE.semantic.numpy(), (5, 3), RQVAEConfig(latent=4, hidden=(8,), steps=30), 0)
    latents = quantizer.project(SPACE.semantic.numpy())
    space = dataclasses.replace(SPACE, codebook=grow(quantizer.encode(SPACE.semantic.numpy()), quantizer, latents))
    config = HiSACConfig(agents=4)
    model = build(config, BACKBONE, space, 0).eval()
    assert isinstance(model.long, HiSACBranch)
    assert model.long.semantic.shape == (ITEMS, 4)
    assert as_backbone(model).encoder.semantic.shape == SPACE.semantic.shape
    save_model(tmp_path, model, config, space)
    history, candidates = make_history([9, 0, 3]), torch.arange(12).view(3, 4)
    assert torch.equal(load_model(tmp_path)[0](history, candidates), model(history, candidates))


def test_a_model_whose_package_is_not_installed_names_it(tmp_path: Path) -> None:
    _save("mean", tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    facts["model"]["kind"] = "peak"
    for package, words in (("shop-models==1.2", "shop-models==1.2"), (None, "another version of hisac-lab")):
        write_json(tmp_path / "model.json", facts | ({"package": package} if package else {}))
        with says(str(tmp_path / "model.json"), "model.kind", "'peak' comes from", words, "install it"):
            load_model(tmp_path)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_weights_cut_short_are_told(tmp_path: Path, left: int) -> None:
    _save("hisac", tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with says(f"{path}: is damaged, or not of the model in model.json beside it (", "restore it with `dvc checkout`"):
        load_model(tmp_path)


def test_weights_of_another_shape_or_name_are_told(tmp_path: Path) -> None:
    _save("din-short-only", tmp_path / "din")
    _save("hisac", tmp_path / "hisac")
    path = tmp_path / "hisac/weights.safetensors"
    path.write_bytes((tmp_path / "din/weights.safetensors").read_bytes())
    with says(f"{path}: is damaged, or not of the model in model.json beside it (", "restore it with `dvc checkout`"):
        load_model(tmp_path / "hisac")


@pytest.mark.parametrize("part", ["model", "backbone", "items"])
def test_every_flipped_bit_of_a_key_in_the_models_file_is_one_line(tmp_path: Path, part: str) -> None:
    _save("hisac", tmp_path)
    path = tmp_path / "model.json"
    facts = json.loads(path.read_text())
    for key in facts[part]:
        flipped = chr(ord(key[0]) ^ 1) + key[1:]
        changed = {flipped if name == key else name: value for name, value in facts[part].items()}
        write_json(path, facts | {part: changed})
        with says("", "; "):
            load_model(tmp_path)
