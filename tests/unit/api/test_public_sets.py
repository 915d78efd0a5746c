"""What a user downloads of a public set goes from the archive or folder to a comparison of models."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
from kit import BACKBONE

import hisac_lab as hl

BRIEF: dict[str, Any] = {
    "backbone": BACKBONE.model_dump(mode="json"),
    "train": {"epochs": 1, "batch_requests": 64},
    "compute": {"device": "cpu"},
}
LIMITS = {"min_use": 0.0, "min_occupancy": 0.0, "max_bucket_share": 1.0, "min_neighbor_overlap": 0.0}
LIMITS |= {"min_explained_variance": 0.0, "min_purity_lift": 0.0}


def _kuairand(folder: Path) -> Path:
    """The archive as published: folders, and files that no loader reads."""
    data = folder / "KuaiRand-Pure" / "data"
    layouts.kuairand(data)
    for name in ("user_features_pure.csv", "video_features_statistic_pure.csv"):
        (data / name).write_text("user_id\n1\n")
    with tarfile.open(folder / "KuaiRand-Pure.tar.gz", "w:gz") as box:
        box.add(folder / "KuaiRand-Pure", "KuaiRand-Pure")
    return folder / "KuaiRand-Pure.tar.gz"


def _taobao_mm(folder: Path) -> Path:
    """A clone of the repository: the raw tables beside the joined shards."""
    layouts.taobao_mm(folder / "Taobao-MM" / "raw")
    for name in ("train-shard-000000.parquet", "metadata.json", "README.md"):
        (folder / "Taobao-MM" / name).write_text("any")
    return folder / "Taobao-MM"


def _vk_lsvd(folder: Path) -> Path:
    """One subsample as downloads lay it: weeks by split, metadata beside."""
    layouts.vk_lsvd(folder / "made")
    places = {f"week_{week}": "subsamples/up0.001_ip0.001/train" for week in (23, 24)}
    places |= {"week_25": "subsamples/up0.001_ip0.001/validation", "week_26": "subsamples/up0.001_ip0.001/test"}
    for file in sorted((folder / "made").iterdir()):
        place = folder / "VK-LSVD" / places.get(file.stem, "metadata")
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)
    return folder / "VK-LSVD"


@pytest.mark.parametrize(
    ("name", "download", "embed_by"),
    [
        ("kuairand", _kuairand, {"method": "cooccurrence", "cooccurrence_dim": 8}),
        ("taobao-mm", _taobao_mm, {"method": "supplied"}),
        ("vk-lsvd", _vk_lsvd, {"method": "supplied"}),
    ],
)
def test_a_download_ends_in_a_comparison(
    tmp_path: Path, name: str, download: Callable[[Path], Path], embed_by: dict[str, Any]
) -> None:
    data = hl.load(name, path=str(download(tmp_path))).prepare()
    data = data.tokenize(widths=[2, 2], limits=LIMITS, embed_by=embed_by)
    models = {"DIN": data.fit("din", whole_history=False, **BRIEF), "HiSAC": data.fit("hisac", agents=4, **BRIEF)}
    compared = hl.evaluate(models, bootstrap=20, compute={"device": "cpu"})
    assert compared.protocol.negatives == "real exposures"
    assert set(compared.table()["model"]) == {"DIN", "HiSAC"}
