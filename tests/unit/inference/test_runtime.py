"""Scoring many rows: in any batches, with or without cached agents, on the device that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import CPU, FRAME, MODELS, says

from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.events import batches
from hisac_lab.events.batches import Rows
from hisac_lab.inference import runtime
from hisac_lab.inference.runtime import AgentCache, Runtime, histories, score_rows
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace


@pytest.mark.parametrize("name", ["din-short-only", "din-whole", "hisac"])
def test_scores_do_not_depend_on_batches_or_on_the_cache(
    name: str, items: ItemSpace, rows: dict[str, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, test = build(MODELS[name], FRAME, items, 0), rows["test"]
    plain = score_rows(model, test, CPU)
    assert plain.shape == test.candidates.shape
    monkeypatch.setattr(batches, "SCORING_ROWS", 7)
    np.testing.assert_allclose(score_rows(model, test, CPU), plain, atol=1e-5)
    cache = AgentCache.fill(model, test, CPU)
    assert (cache is None) == (name != "hisac")
    np.testing.assert_allclose(score_rows(model, test, CPU, cache), plain, atol=1e-5)


def test_shares_of_the_scoring_add_up_to_the_whole_to_the_bit(
    items: ItemSpace, rows: dict[str, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SCORING_ROWS", 16)
    model, test = build(MODELS["hisac"], FRAME, items, 0), rows["test"]
    shares = [score_rows(model, test, CPU, share=(place, 3)) for place in range(3)]
    assert all(share.any() for share in shares)
    np.testing.assert_array_equal(sum(shares), score_rows(model, test, CPU))


def test_the_cache_holds_the_agents_of_every_row(items: ItemSpace, rows: dict[str, Rows]) -> None:
    model, valid = build(MODELS["hisac"], FRAME, items, 0), rows["valid"]
    cache = AgentCache.fill(model, valid, CPU)
    assert cache is not None
    for index in (np.arange(5), np.array([17]), np.arange(len(valid) - 9, len(valid))[::-1]):
        counted = model.agents(histories(valid, index, CPU))
        cached = histories(valid, index, CPU, cache).agents
        assert counted is not None
        assert cached is not None
        assert torch.equal(cached.nodes, counted.nodes)
        assert torch.equal(cached.votes, counted.votes)


@pytest.mark.parametrize(
    ("precision", "mixed"), [("auto", False), ("fp32", False), ("bf16", True)], ids=["auto", "fp32", "bf16"]
)
def test_the_processor_computes_in_single_precision_unless_told_otherwise(precision: str, mixed: bool) -> None:
    found = Runtime.start(ComputeConfig.model_validate({"device": "cpu", "precision": precision}))
    assert found == Runtime(torch.device("cpu"), mixed)
    with found.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if mixed else torch.float32)


def test_a_missing_gpu_is_an_error_when_demanded_and_none_when_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"settings: compute\.device: is cuda, but no GPU"):
        Runtime.start(ComputeConfig(device="cuda"))
    assert Runtime.start(ComputeConfig(device="auto")).device.type == "cpu"


def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(runtime.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(runtime.torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Runtime.start(ComputeConfig()) == Runtime(torch.device("cuda"), mixed=True)
    assert Runtime.start(ComputeConfig(device="cpu")).device.type == "cpu"
    assert taken == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with says("torchrun", "--nproc-per-node", "3 processes or more, but GPUs seen: 2", "one for each GPU"):
        Runtime.start(ComputeConfig())


def test_the_number_of_threads_is_the_one_in_the_settings() -> None:
    Runtime.start(ComputeConfig(device="cpu", math_threads=1))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
