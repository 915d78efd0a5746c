"""What the report reads: a file that is missing, or of another version, is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished import TRIALS, build

from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts


def needed_files() -> Iterator[str]:
    for stage in ("acquire", "prepare", "embed", "tokenize", "codebook", "sweep/new", "evaluate", "abtest"):
        yield f"{stage}/manifest.json"
    yield from ("prepare/items.parquet", "embed/embeddings.npy", "codebook/item_nodes.npy", "codebook/vectors_0.npy")
    yield from ("sweep/new/trials.csv", "sweep/new/best.json", "train/new-0/manifest.json", "train/new-0/curve.jsonl")
    yield from ("evaluate/metrics.json", "evaluate/readings.json", "abtest/abtest.json")


@pytest.mark.parametrize("name", list(needed_files()))
def test_missing_file_is_named(inputs: Artifacts, tmp_path: Path, name: str) -> None:
    (tmp_path / "artifacts" / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        build(inputs, tmp_path)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("evaluate/manifest.json", "{}", "fingerprint"),
        ("sweep/new/trials.csv", "number,auc,standard_error,cost\n0,0.7,0.0,1\n", "state"),
        ("sweep/new/trials.csv", TRIALS + "4,1,0,complete,False,,high,0.1,0.0,1,1,1,True,\n", "auc"),
        ("train/new-0/curve.jsonl", "{", "curve.jsonl"),
    ],
)
def test_file_of_another_version_is_named(
    inputs: Artifacts, tmp_path: Path, name: str, content: str, field: str
) -> None:
    (tmp_path / "artifacts" / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(name)) as error:
        build(inputs, tmp_path)
    assert field in str(error.value)
    assert "run the stage" in str(error.value)
