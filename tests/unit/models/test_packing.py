"""States of eight bits: near what they keep, a third of the bytes, a request's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kit import BACKBONE, ITEMS, make_history, make_items, padded, pick

from hisac_lab.config.model import StateConfig
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.compressors import CompressConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.packing import LOW, STEP, pack, unpack
from hisac_lab.models.path_votes import VotesConfig
from hisac_lab.testing.samples import lively

SPACE = make_items()
MODELS: dict[str, StateConfig] = {
    "hisac": HiSACConfig(agents=8, counts=VotesConfig(half_lives=(7.0,), into="tower")),
    "votes": VotesConfig(books=("residual", "flat_6"), half_lives=(7.0, 90.0), into="tower"),
    "kmeans": CompressConfig(size=4),
}
CANDIDATES = torch.arange(ITEMS).expand(3, -1)


def _model(name: str, bits: int) -> Ranker:
    return lively(MODELS[name].model_copy(update={"state_bits": bits}), SPACE)


@settings(deadline=None)
@given(arrays(np.float32, (2, 3, 5), elements=st.floats(-(2.0**20), 2.0**20, width=32)))
def test_a_number_comes_back_within_half_a_code_of_its_row(values: np.ndarray) -> None:
    scale = np.sign(values) * np.log1p(np.abs(values.astype(float)))
    found = unpack(pack({"x": torch.from_numpy(values)}))["x"].numpy().astype(float)
    back = np.sign(found) * np.log1p(np.abs(found))
    ends = np.abs(scale).max(axis=2, keepdims=True)
    code = (scale.max(axis=2, keepdims=True) - scale.min(axis=2, keepdims=True)) / 255
    # Half a code, and what sixteen bits round of the low end and, 255 times, of the width of a code.
    bound = 0.51 * code + (ends + 255 * code) * 2.0**-11 + 256 * 2.0**-25 + 1e-5
    assert (np.abs(back - scale) <= bound).all()


def test_codes_take_a_byte_and_numbers_of_nodes_four() -> None:
    nodes = torch.tensor([[3, 7, torch.iinfo(torch.int64).max]])
    state = {
        "v": torch.randn(1, 3, 32),
        "nodes": nodes,
        "mask": torch.ones(1, 3, dtype=torch.bool),
        "c": torch.ones(1, 2),
    }
    packed = pack(state)
    assert {name: part.nbytes for name, part in packed.items()} == {
        "v": 96, "v" + LOW: 6, "v" + STEP: 6, "nodes": 12, "mask": 3, "c": 8,
    }  # fmt: skip
    back = unpack(packed)
    assert set(back) == set(state)
    for name in ("nodes", "mask", "c"):
        assert torch.equal(back[name], state[name]), name


def test_a_row_of_equal_numbers_comes_back_equal_and_no_events_stay_none() -> None:
    back = unpack(pack({"x": torch.full((1, 2, 4), 3.0), "none": torch.zeros(1, 0, 4)}))
    torch.testing.assert_close(back["x"], torch.full((1, 2, 4), 3.0), atol=0.01, rtol=0)
    assert back["none"].shape == (1, 0, 4)


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_packed_states_are_near_and_their_bytes_few(name: str) -> None:
    history = make_history([40, 0, 7])
    with torch.inference_mode():
        plain, packed = (_model(name, bits).encode(history) for bits in (32, 8))
        scores = [_model(name, bits)(history, CANDIDATES) for bits in (32, 8)]
    assert packed.bytes < 0.6 * plain.bytes
    spread = float(scores[0].std())
    assert 0 < float((scores[0] - scores[1]).abs().mean()) < 0.05 * spread


@pytest.mark.parametrize("name", MODELS)
def test_a_packed_state_depends_on_its_request_alone(name: str) -> None:
    model, history = _model(name, 8), make_history([40, 0, 7])
    with torch.inference_mode():
        together = model(padded(history, 5), CANDIDATES)
        for row in range(3):
            alone = model(pick(history, [row]), CANDIDATES[:1])
            torch.testing.assert_close(alone, together[[row]], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_training_knows_nothing_of_it(name: str) -> None:
    history = make_history([40, 0, 7])
    assert torch.equal(*(_model(name, bits)(history, CANDIDATES) for bits in (32, 8)))
    built = [build(MODELS[name].model_copy(update={"state_bits": bits}), BACKBONE, SPACE, 0) for bits in (32, 8)]
    assert all(torch.equal(one, other) for one, other in zip(*(m.parameters() for m in built), strict=True))
