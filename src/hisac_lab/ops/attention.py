"""Multi-head attention of candidates over a sequence, with a bias per key and rows that may have no key."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOOR = torch.finfo(torch.float32).min
"""Bias of a key that is not there."""


def split_heads(vectors: Tensor, heads: int) -> Tensor:
    """(..., N, D) to (..., H, N, D / H)."""
    *front, n, d = vectors.shape
    return vectors.view(*front, n, heads, d // heads).transpose(-2, -3)


def join_heads(vectors: Tensor) -> Tensor:
    """(..., H, N, D / H) to (..., N, D)."""
    return vectors.transpose(-2, -3).flatten(-2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, heads: int) -> Tensor:
    """softmax(q k / sqrt(D / H) + bias) v per head; the softmax runs in fp32.

    Args:
        queries: (..., C, D).
        keys: (..., K, D).
        values: (..., K, D).
        bias: `FLOOR` where a key is not there; (..., K).
        heads: H, a divisor of D.

    Returns:
        (..., C, D); zeros where no key is there.
    """
    return weigh(dot_scores(queries, keys, heads), values, bias)


def dot_scores(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Products q k / sqrt(D / H) per head in fp32: (..., C, D) and (..., K, D) to (..., H, C, K)."""
    q, k = split_heads(queries, heads), split_heads(keys, heads)
    return (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])


def weigh(scores: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """softmax(scores + bias) v per head; the softmax runs in fp32.

    Args:
        scores: fp32; (..., H, C, K).
        values: (..., K, D), D a multiple of H.
        bias: `FLOOR` where a key is not there; (..., K).

    Returns:
        (..., C, D); zeros where no key is there.
    """
    v = split_heads(values, scores.shape[-3])
    return join_heads(shares(scores, bias).to(v.dtype) @ v)


def shares(scores: Tensor, bias: Tensor) -> Tensor:
    """What `weigh` weighs values by, fp32; arguments as there, (..., H, C, K), zeros where no key is there."""
    sees_any = (bias > FLOOR).any(dim=-1)[..., None, None, None]
    return torch.softmax(scores + bias[..., None, None, :], dim=-1) * sees_any


def soft_count(scores: Tensor) -> Tensor:
    """log(1 + sum of e^score) over the keys: how much a softmax over them divides away; 0 where no key is there.

    Args:
        scores: With their bias, `FLOOR` or lower where a key is not there; (..., K).

    Returns:
        (...) float32.
    """
    return torch.nn.functional.softplus(torch.logsumexp(scores.float().clamp(min=FLOOR), dim=-1))


def plain_attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, heads: int) -> Tensor:
    """`attend` for (C, D) and (K, D), one query and one head at a time, over the keys that are there."""
    there = bias > FLOOR
    out = torch.zeros_like(queries)
    width = queries.shape[1] // heads
    if not there.any():
        return out
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        for row, query in enumerate(queries[:, columns]):
            scores = torch.stack([query @ key for key in keys[there][:, columns]]) / math.sqrt(width) + bias[there]
            out[row, columns] = torch.softmax(scores, dim=0) @ values[there][:, columns]
    return out


def key_bias(mask: Tensor) -> Tensor:
    """Zero at real keys, `FLOOR` elsewhere; fp32."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, FLOOR)
