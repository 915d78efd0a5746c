"""The scores of DIN's activation unit, without the tensor of all hidden units; the plain form stands beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BUFFER = 1 << 18  # numbers: what a processor's cache holds


def unit_scores(scaled: Tensor, shift: Tensor, events: Tensor, out: Tensor) -> Tensor:
    """Values out . relu(scaled e + shift) of every candidate and event.

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
    fits = scaled[..., 0].numel() * events.shape[1] <= 2 * BUFFER  # for a short history all at once is quicker
    if fits or events.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return plain_unit_scores(scaled, shift, events, out)
    scores: Tensor = _UnitScores.apply(scaled, shift, events, out)  # type: ignore[no-untyped-call]
    return scores


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
        r, c, h, _ = scaled.shape
        # The shift is the weight of one more coordinate, in which every event is one.
        weights = torch.cat([scaled, shift[..., None]], dim=3)
        longer = torch.cat([events, events.new_ones(r, events.shape[1], 1)], dim=2)
        ctx.save_for_backward(scaled, shift, events, out, weights, longer)
        scores = events.new_empty(r, c, events.shape[1])
        for (keys,), (weight, score) in _pieces((longer,), (weights, scores)):
            hidden = _crossed(weight, keys).relu_()
            torch.bmm(out.expand(len(hidden), 1, h), hidden, out=score.unsqueeze(1))
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        scaled, shift, events, out, weights, longer = ctx.saved_tensors
        (grad,) = grads
        to_scaled, to_shift = torch.empty_like(scaled), torch.empty_like(shift)
        to_events, back = torch.zeros_like(events), scaled * out[:, None]
        by_request = (longer, events, to_events)
        by_candidate = (weights, back, grad, to_scaled, to_shift)
        for (keys, plain, to_plain), (weight, returned, outer, to_weight, to_weight_shift) in _pieces(
            by_request, by_candidate
        ):
            crossed = _crossed(weight, keys)
            # Gradient of each hidden unit as if its weight were one: the weights come in outside of the sums over L.
            reached = torch.ops.aten.threshold_backward(outer[:, None, :].expand_as(crossed), crossed, 0)
            flat = reached.flatten(0, 1)
            torch.mm(flat, plain, out=to_weight.flatten(0, 1))
            torch.sum(reached, dim=2, out=to_weight_shift)
            to_plain.addmm_(flat.t(), returned.flatten(0, 1))
        to_out = ((to_scaled * scaled).sum(dim=3) + to_shift * shift).sum(dim=(0, 1))
        return to_scaled * out[:, None], to_shift * out, to_events, to_out


def _pieces(
    by_request: tuple[Tensor, ...], by_candidate: tuple[Tensor, ...]
) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Views of one request and of as many of its candidates as the buffer holds.

    (R, ...) becomes (...) and (R, C, ...) becomes (C', ...). The first tensors are (R, L, D) and (R, C, H, D): they
    say how much a candidate takes.
    """
    at_once = max(1, BUFFER // max(1, by_candidate[0].shape[2] * by_request[0].shape[1]))
    rows = list(zip(*(part.unbind(0) for part in by_request), strict=True))
    for pieces in zip(*(torch.split(part, at_once, dim=1) for part in by_candidate), strict=True):
        yield from zip(rows, zip(*(part.unbind(0) for part in pieces), strict=True), strict=True)


def _crossed(weights: Tensor, events: Tensor) -> Tensor:
    """Hidden units before the relu, for some candidates of one request: (C, H, D), (L, D) to (C, H, L)."""
    return torch.mm(weights.flatten(0, 1), events.t()).view(*weights.shape[:2], -1)
