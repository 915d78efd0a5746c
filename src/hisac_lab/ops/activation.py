"""The scores of DIN's activation unit, without the tensor of all hidden units; the plain form stands beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BUFFER = 1 << 18  # numbers: what a processor's cache holds


def unit_scores(scaled: Tensor, shift: Tensor, events: Tensor, out: Tensor) -> Tensor:
    """out . relu(scaled e + shift) of every candidate and event.

    On the processor it goes by a few candidates at once, in a buffer that stays in the cache and is computed again for
    the gradient: faster than `plain_unit_scores` on long histories, and its memory does not grow with the batch.

    Args:
        scaled: Weights of each candidate's H hidden units; (R, C, H, D).
        shift: What each hidden unit has without an event; (R, C, H).
        events: (R, L, D).
        out: Weight of each hidden unit; (H,).

    Returns:
        (R, C, L) float32.
    """
    few = scaled[..., 0].numel() * events.shape[1] <= 2 * BUFFER  # for a short history all at once is quicker
    if few or events.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return plain_unit_scores(scaled, shift, events, out)
    found: Tensor = _UnitScores.apply(scaled, shift, events, out)  # type: ignore[no-untyped-call]
    return found


def plain_unit_scores(scaled: Tensor, shift: Tensor, events: Tensor, out: Tensor) -> Tensor:
    """`unit_scores` by automatic differentiation, every hidden unit kept."""
    r, c, h, d = scaled.shape
    crossed = torch.baddbmm(shift.reshape(r, -1, 1), scaled.reshape(r, -1, d), events.transpose(1, 2))
    hidden = torch.relu_(crossed).view(r * c, h, -1)
    return torch.bmm(out.to(hidden.dtype).expand(r * c, 1, -1), hidden).view(r, c, -1).float()


class _UnitScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scaled: Tensor, shift: Tensor, events: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(scaled, shift, events, out)
        r, c, h, _ = scaled.shape
        scores = events.new_empty(r, c, events.shape[1])
        for row, part in _parts(scaled, events):
            hidden = _hidden(scaled[row, part], shift[row, part], events[row])
            torch.bmm(out.expand(len(hidden), 1, h), hidden, out=scores[row, part].unsqueeze(1))
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        scaled, shift, events, out = ctx.saved_tensors
        (grad,) = grads
        to_scaled, to_shift = torch.empty_like(scaled), torch.empty_like(shift)
        to_events, to_out = torch.zeros_like(events), torch.zeros_like(out)
        for row, part in _parts(scaled, events):
            weights = scaled[row, part].flatten(0, 1)
            hidden, outer = _hidden(scaled[row, part], shift[row, part], events[row]), grad[row, part]
            to_out += torch.bmm(hidden, outer.unsqueeze(2)).sum(dim=0).view(-1)
            inner = torch.ops.aten.threshold_backward(outer[:, None, :] * out[:, None], hidden, 0)
            torch.mm(inner.flatten(0, 1), events[row], out=to_scaled[row, part].flatten(0, 1))
            torch.sum(inner, dim=2, out=to_shift[row, part])
            to_events[row].addmm_(inner.flatten(0, 1).t(), weights)
        return to_scaled, to_shift, to_events, to_out


def _parts(scaled: Tensor, events: Tensor) -> Iterator[tuple[int, slice]]:
    """Requests, and as many of their candidates at once as the buffer holds."""
    rows, candidates, hidden, _ = scaled.shape
    some = max(1, BUFFER // max(1, hidden * events.shape[1]))
    for row in range(rows):
        for begin in range(0, candidates, some):
            yield row, slice(begin, begin + some)


def _hidden(weights: Tensor, shift: Tensor, events: Tensor) -> Tensor:
    """Hidden units of some candidates of one request: (C, H, D), (C, H), (L, D) to (C, H, L)."""
    crossed = torch.addmm(shift.reshape(-1, 1), weights.flatten(0, 1), events.t())
    return crossed.relu_().view(*weights.shape[:2], -1)
