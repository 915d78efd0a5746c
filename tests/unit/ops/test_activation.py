"""Scores of DIN's activation unit: those of the plain form, with its gradients."""

from __future__ import annotations

import pytest
import torch

from hisac_lab.ops import activation
from hisac_lab.ops.activation import plain_unit_scores, unit_scores


def _parts(shape: tuple[int, int, int, int, int], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    r, c, h, d, length = shape
    random = torch.Generator().manual_seed(0)
    sizes = ((r, c, h, d), (r, c, h), (r, length, d), (h,))
    return tuple(torch.randn(size, generator=random, dtype=dtype).requires_grad_() for size in sizes)


@pytest.mark.parametrize("buffer", [0, 100, 1 << 18])
@pytest.mark.parametrize("shape", [(3, 2, 4, 5, 7), (1, 1, 1, 1, 1), (2, 3, 8, 4, 40)])
def test_scores_and_gradients_are_those_of_the_plain_form(
    shape: tuple[int, int, int, int, int], buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "BUFFER", buffer)
    parts = _parts(shape)
    found, plain = unit_scores(*parts), plain_unit_scores(*parts)
    torch.testing.assert_close(found, plain)
    weights = torch.randn_like(plain)
    grads = (torch.autograd.grad((one * weights).sum(), parts) for one in (found, plain))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "BUFFER", 0)
    assert torch.autograd.gradcheck(unit_scores, _parts((2, 2, 3, 4, 5), torch.float64))
