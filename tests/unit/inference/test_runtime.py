"""Where a model runs: the device, number format and threads that are asked for."""

from __future__ import annotations

import pytest
import torch
from kit import says

from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.inference.runtime import Runtime


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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"settings: compute\.device: is cuda, but no GPU"):
        Runtime.start(ComputeConfig(device="cuda"))
    assert Runtime.start(ComputeConfig(device="auto")).device.type == "cpu"


def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
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
