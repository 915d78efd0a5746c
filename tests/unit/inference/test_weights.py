"""A file of weights whose tables came in blocks: the bytes of one written at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from hisac_lab.inference.weights import Streamed, write_weights

TENSORS = {
    "tower.0.bias": torch.arange(3.0),
    "encoder.ids.weight": torch.arange(20.0).view(5, 4),
    "encoder.fields": torch.arange(10).view(5, 2),
    "é mask": torch.tensor([True, False, True]),
    "count": torch.tensor(7),
    "äther": torch.arange(2, dtype=torch.int32),
    "ages": torch.arange(2, dtype=torch.float64),
}


@pytest.mark.parametrize("streamed", [[], ["encoder.ids.weight"], ["encoder.ids.weight", "tower.0.bias"]])
def test_a_table_in_blocks_is_written_as_one_that_is_whole(tmp_path: Path, streamed: list[str]) -> None:
    rest = {name: part for name, part in TENSORS.items() if name not in streamed}
    parts = {name: Streamed(tuple(TENSORS[name].shape), iter(TENSORS[name].split(2))) for name in streamed}
    write_weights(tmp_path / "weights", rest, parts)
    assert (tmp_path / "weights").read_bytes() == save(TENSORS)


def test_blocks_that_are_not_the_whole_table_are_refused(tmp_path: Path) -> None:
    short = {"table": Streamed((5, 4), iter([torch.zeros(2, 4)]))}
    with pytest.raises(ValueError, match="table has 2 rows, not 5"):
        write_weights(tmp_path / "weights", {}, short)
