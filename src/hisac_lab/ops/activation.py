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
    """Keeps no hidden unit: the gradients need only which of them were above zero, and are linear in the rest."""

    @staticmethod
    def forward(ctx: Any, scaled: Tensor, shift: Tensor, events: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(scaled, shift, events, out)
        r, c, h, _ = scaled.shape
        scores = events.new_empty(r, c, events.shape[1])
        for row, part in _parts(scaled, events):
            hidden = _crossed(scaled[row, part], shift[row, part], events[row]).relu_()
            torch.bmm(out.expand(len(hidden), 1, h), hidden, out=scores[row, part].unsqueeze(1))
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        scaled, shift, events, out = ctx.saved_tensors
        (grad,) = grads
        to_scaled, to_shift = torch.empty_like(scaled), torch.empty_like(shift)
        to_events, weights = torch.zeros_like(events), scaled * out[:, None]
        for row, part in _parts(scaled, events):
            crossed = _crossed(scaled[row, part], shift[row, part], events[row])
            # Gradient of each hidden unit as if its weight were one: the weights come in outside of the sums over L.
            reached = torch.ops.aten.threshold_backward(grad[row, part, None, :].expand_as(crossed), crossed, 0)
            flat = reached.flatten(0, 1)
            torch.mm(flat, events[row], out=to_scaled[row, part].flatten(0, 1))
            torch.sum(reached, dim=2, out=to_shift[row, part])
            to_events[row].addmm_(flat.t(), weights[row, part].flatten(0, 1))
        to_out = ((to_scaled * scaled).sum(dim=3) + to_shift * shift).sum(dim=(0, 1))
        return to_scaled * out[:, None], to_shift * out, to_events, to_out


def _parts(scaled: Tensor, events: Tensor) -> Iterator[tuple[int, slice]]:
    """Requests, and as many of their candidates at once as the buffer holds."""
    rows, candidates, hidden, _ = scaled.shape
    some = max(1, BUFFER // max(1, hidden * events.shape[1]))
    for row in range(rows):
        for begin in range(0, candidates, some):
            yield row, slice(begin, begin + some)


def _crossed(weights: Tensor, shift: Tensor, events: Tensor) -> Tensor:
    """Hidden units before the relu, for some candidates of one request: (C, H, D), (C, H), (L, D) to (C, H, L)."""
    return torch.addmm(shift.reshape(-1, 1), weights.flatten(0, 1), events.t()).view(*weights.shape[:2], -1)
