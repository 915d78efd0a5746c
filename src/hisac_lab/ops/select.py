"""Rows of tables, and choosing few events of a long history: pads never outrank events, ties go to the newest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CROWDED = 1 << 12
"""Places a row on a GPU from which sorting them is faster."""


def take_rows(table: Tensor, places: Tensor) -> Tensor:
    """Rows of a table: what `functional.embedding` gives, with a gradient several times as fast on a processor.

    On a GPU the gradient of a row that many places ask for would be added one place after another; there a crowded
    table uses `functional.embedding`, which sorts the places first.

    Args:
        table: (N, D).
        places: (...) int64, below N.

    Returns:
        (..., D).
    """
    if table.is_cuda and places.numel() > CROWDED * len(table):
        return nn.functional.embedding(places, table)
    return table.index_select(0, places.reshape(-1)).view(*places.shape, table.shape[1])


def best_events(scores: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` events of highest score for each query, in time order.

    Equal scores go to the newer event. Where fewer events are there, the places in front stay empty: the width is
    always `count`, so what comes after does not depend on how histories are padded.

    Args:
        scores: (R, C, L), any finite numbers.
        mask: True at events that may be chosen; (R, L), (R, 1, L) or (R, C, L) bool.
        count: Events wanted.

    Returns:
        Places, 0 where empty, (R, C, count) int64; True at chosen events, (R, C, count) bool.
    """
    if mask.dim() == 2:
        mask = mask[:, None, :]
    r, c, length = scores.shape
    # Highest score first, then newest: a stable sort of the events turned round. For k far below L a plain top-k
    # finds the same set, up to ties at its border; those are settled by counting.
    keep = min(count, length)
    scores = scores.masked_fill(~mask, -torch.inf)
    border = scores.topk(keep, dim=2).values[..., -1:]
    above, level = scores > border, (scores == border) & mask
    room = keep - above.sum(dim=2, keepdim=True)
    newer = level.flip(2).cumsum(dim=2).flip(2)
    chosen = (above & mask) | (level & (newer <= room))
    # Chosen events move to the right end, in time order.
    rank = chosen.flip(2).cumsum(dim=2).flip(2)  # 1 at the newest chosen
    row, column, event = torch.nonzero(chosen, as_tuple=True)
    target = count - rank[row, column, event]
    places = torch.zeros(r, c, count, dtype=torch.int64, device=scores.device)
    valid = torch.zeros(r, c, count, dtype=torch.bool, device=scores.device)
    places[row, column, target] = event
    valid[row, column, target] = True
    return places, valid


def plain_best_events(scores: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`best_events`, one query at a time."""
    mask = (mask[:, None, :] if mask.dim() == 2 else mask).expand_as(scores)
    places = torch.zeros(*scores.shape[:2], count, dtype=torch.int64)
    valid = torch.zeros_like(places, dtype=torch.bool)
    for row, column in torch.cartesian_prod(*(torch.arange(size) for size in scores.shape[:2])).tolist():
        events = [event for event in range(scores.shape[2]) if mask[row, column, event]]
        events.sort(key=lambda event: (float(scores[row, column, event]), event))
        best = sorted(events[-count:])
        for place, event in enumerate(best, count - len(best)):
            places[row, column, place], valid[row, column, place] = event, True
    return places, valid


def gather_events(values: Tensor, places: Tensor) -> Tensor:
    """Values at places of a history: (R, L, ...) and (R, C, K) to (R, C, K, ...)."""
    starts = torch.arange(len(values), device=values.device)[:, None, None] * values.shape[1]
    return values.flatten(0, 1).index_select(0, (places + starts).reshape(-1)).view(*places.shape, *values.shape[2:])
