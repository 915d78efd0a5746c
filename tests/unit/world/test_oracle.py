"""The oracle: exact areas from a stream, on any part of the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.base.errors import UserError
from hisac_lab.config.world import WorldConfig
from hisac_lab.ops.auc import auc
from hisac_lab.world.oracle import StreamingAUC, oracle, read_truth
from hisac_lab.world.simulate import simulate


@given(seed=st.integers(0, 1_000), cuts=st.lists(st.integers(1, 4_999), max_size=4))
def test_the_streamed_area_is_the_exact_one(seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    scores = random.beta(1, 3, 5_000)
    scores[:50] = 0.5
    scores[-2:] = 0.0, 1.0
    labels = (random.random(5_000) < scores).astype(np.int8)
    area = StreamingAUC()
    for block, part in zip(np.split(labels, sorted(cuts)), np.split(scores, sorted(cuts)), strict=True):
        area.add(block, part)
    assert area.value == pytest.approx(auc(labels, scores), abs=1e-4)


def test_an_area_needs_both_classes() -> None:
    area = StreamingAUC()
    area.add(np.ones(3, np.int8), np.full(3, 0.5))
    assert area.value is None


def test_the_ceiling_of_a_period_is_that_of_its_exposures(tmp_path: Path) -> None:
    facts = simulate(WorldConfig(users=20), out=tmp_path)
    (columns,) = read_truth(tmp_path)
    begin, end = np.quantile(columns["time"], [0.5, 0.9]).astype(int)
    found = oracle(tmp_path, facts["examined"], begin, end)
    use = (columns["time"] >= begin) & (columns["time"] < end)
    assert found["events"] == use.sum()
    assert found["clicks"] == columns["click"][use].sum()
    seen = np.asarray(facts["examined"])[columns["position"][use]]
    for name in ("probability", "probability_recent"):
        scores = columns[name][use]
        assert found["auc"][name] == pytest.approx(auc(columns["click"][use], scores), abs=2e-4)
        assert found["auc"][f"{name}_anywhere"] == pytest.approx(auc(columns["click"][use], scores / seen), abs=2e-4)
    assert oracle(tmp_path, facts["examined"], facts["from"], facts["to"]) == facts["oracle"]
    assert oracle(tmp_path, facts["examined"], 0, 1)["auc"]["probability"] is None


def test_a_log_without_its_truth_or_cut_short_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no part"):
        list(read_truth(tmp_path))
    simulate(WorldConfig(users=2), out=tmp_path)
    part = tmp_path / "truth" / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"part-00000\.parquet.*is not whole"):
        list(read_truth(tmp_path))
    part.unlink()
    with pytest.raises(UserError, match="does not exist"):
        list(read_truth(tmp_path))
