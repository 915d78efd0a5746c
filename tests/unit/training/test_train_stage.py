"""The stage `train`: a bundle, a curve, a manifest; the same bytes whether killed or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit import BACKBONE, MODELS, Stages, after, says

from hisac_lab.base.artifacts import read_manifest, sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.records import Trained
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.training import train as stage
from hisac_lab.training.loop import train
from hisac_lab.training.train import train_model, work_folder

CONFIG = TrainConfig(epochs=1, batch_requests=128, checkpoint_every=2)
CPU = ComputeConfig(device="cpu")


FULL = BACKBONE.model_copy(update={"features": BackboneConfig().features})


def _run(
    stages: Stages,
    items: ItemSpace,
    home: Path,
    config: HiSACConfig | None = None,
    backbone: BackboneConfig = BACKBONE,
) -> Path:
    out = home / "out"
    out.mkdir(parents=True)
    model = config or MODELS["hisac"]
    train_model("hisac", model, backbone, CONFIG, CPU, 3, items, prepared=stages.prepare, out=out, work=home / "work")
    return out


def test_a_run_with_shuffled_labels_says_so_and_has_other_weights(
    stages: Stages, items: ItemSpace, tmp_path: Path
) -> None:
    own, shuffled = tmp_path / "own", tmp_path / "shuffled"
    for home, labels in ((own, "own"), (shuffled, "shuffled")):
        home.mkdir()
        config = CONFIG.model_copy(update={"labels": labels})
        train_model("votes", MODELS["votes"], BACKBONE, config, CPU, 3, items, prepared=stages.prepare, out=home,
                    work=tmp_path / "work")  # fmt: skip
    assert (Trained.open(own).labels, Trained.open(shuffled).labels) == ("own", "shuffled")
    assert "labels" not in read_manifest(own)
    assert sha256_tree(own) != sha256_tree(shuffled)


def test_the_stage_writes_a_model_its_curve_and_what_it_was(stages: Stages, items: ItemSpace, tmp_path: Path) -> None:
    out = _run(stages, items, tmp_path)
    manifest = read_manifest(out)
    model, config = load_model(out)
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    assert sorted(path.name for path in out.iterdir()) == [
        "curve.jsonl",
        "manifest.json",
        "model.json",
        "weights.safetensors",
    ]
    assert config == MODELS["hisac"]
    assert (manifest["name"], manifest["seed"]) == ("hisac", 3)
    assert manifest["settings"] == config.model_dump(mode="json")
    assert manifest["parameters"] == sum(part.numel() for part in model.parameters())
    assert manifest["steps"] == curve[-1]["step"]
    assert manifest["valid_auc"] == max(point["valid_auc"] for point in curve)
    assert not (tmp_path / "work").exists()


def test_features_that_the_data_cannot_give_are_named(stages: Stages, items: ItemSpace, tmp_path: Path) -> None:
    told = _run(stages, items, tmp_path / "told", backbone=FULL)
    assert read_manifest(told)["features_left_out"] == ["user", "request"]
    without = FULL.model_copy(update={"feedback": False})
    untold = _run(stages, items, tmp_path / "untold", backbone=without)
    assert read_manifest(untold)["features_left_out"] == ["rate", "user", "request"]
    columns = load_model(untold)[0].context_columns
    assert columns.names[:2] == ("item_days", "item_never")
    assert not any(name.startswith("pair_positive") for name in columns.names)


@pytest.mark.parametrize("backbone", [BACKBONE, FULL], ids=["length", "all"])
def test_a_killed_stage_ends_in_the_same_bytes(
    backbone: BackboneConfig, stages: Stages, items: ItemSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _run(stages, items, tmp_path / "whole", backbone=backbone)

    def killed(*args: object, **options: object) -> None:
        train(*args, **{**options, "on_step": after(5)})  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        _run(stages, items, tmp_path / "killed", backbone=backbone)
    assert (tmp_path / "killed" / "work" / "checkpoint.pt").exists()
    monkeypatch.setattr(stage, "train", train)
    (tmp_path / "killed" / "out").rmdir()
    assert sha256_tree(_run(stages, items, tmp_path / "killed", backbone=backbone)) == sha256_tree(whole)


def test_settings_beyond_the_codebook_stop_the_stage(stages: Stages, items: ItemSpace, tmp_path: Path) -> None:
    with says("settings", "models.*.agents", "lower agents"):
        _run(stages, items, tmp_path, HiSACConfig(agents=1000))


def test_an_unprepared_folder_is_named(items: ItemSpace, tmp_path: Path) -> None:
    nowhere = Stages(*[tmp_path / "nowhere"] * 6)
    with pytest.raises(UserError, match="does not exist"):
        _run(nowhere, items, tmp_path)


def test_the_folder_for_resuming_changes_with_what_it_is_for(tmp_path: Path) -> None:
    one = work_folder(tmp_path, ["settings", 1])
    assert one == work_folder(tmp_path, ["settings", 1])
    assert one != work_folder(tmp_path, ["settings", 2])
    assert one.parent == tmp_path
