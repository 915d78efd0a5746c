"""Transformer blocks over a sequence of tokens, and candidates that read it as if each were the next token.

Tokens never see a candidate, so their keys and values are computed once per request; a candidate sees the tokens and
itself, never another candidate.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hisac_lab.models.heads import check_heads
from hisac_lab.ops.attention import FLOOR, join_heads, split_heads
from hisac_lab.ops.buckets import AGE_BUCKETS, age_bucket
from hisac_lab.ops.select import take_rows

FEED_FORWARD = 4


class SoftmaxBlock(nn.Module):
    """A pre-norm transformer block: softmax attention, then a feed-forward network (SASRec-like).

    Args:
        dim: D.
        heads: H, a divisor of D.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.forward_in = nn.Linear(dim, FEED_FORWARD * dim)
        self.forward_out = nn.Linear(FEED_FORWARD * dim, dim)

    def projections(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys, values per head; (R, H, N, D / H) each."""
        return tuple(split_heads(part, self.heads) for part in self.project(self.norm(x)).chunk(3, dim=-1))

    def weights(self, scores: Tensor) -> Tensor:
        """Attention weights from biased scores; (..., N)."""
        return torch.softmax(scores, dim=-1)

    def finish(self, x: Tensor, mixed: Tensor, projections: tuple[Tensor, ...]) -> Tensor:
        """Output projection, residuals, feed-forward; (R, N, D)."""
        x = x + self.out(join_heads(mixed))
        out: Tensor = x + self.forward_out(torch.relu(self.forward_in(self.norm_forward(x))))
        return out

    @staticmethod
    def cost(dim: int) -> int:
        """Multiply-adds of a token's own layers."""
        return (4 + 2 * FEED_FORWARD) * dim * dim


class HSTUBlock(nn.Module):
    """An HSTU-like block (Zhai et al., ICML 2024, arXiv 2402.17152): SiLU attention without softmax, and a gate.

    The scores are divided by the window, a constant: by the padded length of a batch, a request would score
    differently in other company.

    Args:
        dim: D.
        heads: H, a divisor of D.
        window: Tokens at most.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm, self.norm_mixed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 4 * dim)
        self.out = nn.Linear(dim, dim)

    def projections(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys, values and gates per head; (R, H, N, D / H) each."""
        projected = nn.functional.silu(self.project(self.norm(x)))
        return tuple(split_heads(part, self.heads) for part in projected.chunk(4, dim=-1))

    def weights(self, scores: Tensor) -> Tensor:
        """Attention weights from biased scores, zero where the bias is `FLOOR`; (..., N)."""
        # SiLU of the smallest number would be -0 times it: not a zero in every number format.
        there = scores > FLOOR / 2
        return nn.functional.silu(torch.where(there, scores, 0.0)) * there / self.window

    def finish(self, x: Tensor, mixed: Tensor, projections: tuple[Tensor, ...]) -> Tensor:
        """Normalized, gated, projected, with a residual; (R, N, D)."""
        out: Tensor = x + self.out(self.norm_mixed(join_heads(mixed)) * join_heads(projections[3]))
        return out

    @staticmethod
    def cost(dim: int) -> int:
        """Multiply-adds of a token's own layers."""
        return 5 * dim * dim


class Stack(nn.Module):
    """Blocks over N tokens.

    Args:
        dim: D.
        heads: H.
        layers: Blocks.
        block: Which kind.
        window: Tokens at most.
        gaps: Learn a bias per head and time gap, in whole logarithms.
    """

    def __init__(
        self, dim: int, heads: int, layers: int, window: int, block: Literal["softmax", "hstu"] = "softmax",
        gaps: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        check_heads(heads, dim)
        self.dim, self.heads = dim, heads
        self.blocks = nn.ModuleList(
            SoftmaxBlock(dim, heads) if block == "softmax" else HSTUBlock(dim, heads, window) for _ in range(layers)
        )
        self.gaps = nn.Parameter(torch.zeros(heads, AGE_BUCKETS)) if gaps else None
        self.norm = nn.LayerNorm(dim)

    def _blocks(self) -> list[SoftmaxBlock | HSTUBlock]:
        return list(self.blocks)  # type: ignore[arg-type]

    def bias(self, gaps: Tensor, allowed: Tensor) -> Tensor:
        """Bias of pairs from their gap in seconds, `FLOOR` where not allowed: (R, M, N) to (R, H or 1, M, N) fp32."""
        if self.gaps is None:
            bias = torch.zeros(allowed.shape, device=allowed.device)[:, None]
        else:
            bias = take_rows(self.gaps.T, age_bucket(gaps)).movedim(-1, 1)
        return bias.masked_fill(~allowed[:, None], FLOOR)

    def tokens(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the tokens through all blocks.

        Args:
            x: (R, N, D).
            bias: From token (row) to token (column); (R, H or 1, N, N). A token must be allowed to see itself.

        Returns:
            Their outputs, (R, N, D), and keys and values of every block, (R, layers, 2, N, D).
        """
        kept = []
        for block in self._blocks():
            projections = block.projections(x)
            q, k, v = projections[:3]
            scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1]) + bias
            kept.append(torch.stack([join_heads(k), join_heads(v)], dim=1))
            x = block.finish(x, block.weights(scores).to(v.dtype) @ v, projections)
        return self.norm(x), torch.stack(kept, dim=1)

    def queries(self, x: Tensor, kept: Tensor, bias: Tensor) -> Tensor:
        """Runs candidates through all blocks; each sees the tokens and itself.

        Args:
            x: (R, C, D).
            kept: From `tokens`.
            bias: To every token; (R, H or 1, 1 or C, N).

        Returns:
            (R, C, D).
        """
        for level, block in enumerate(self._blocks()):
            projections = block.projections(x)
            q, own_k, own_v = projections[:3]
            k, v = (split_heads(part, self.heads) for part in kept[:, level].unbind(dim=1))
            far = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1]) + bias
            near = (q * own_k).sum(dim=-1, keepdim=True).float() / math.sqrt(q.shape[-1])
            if self.gaps is not None:
                near = near + self.gaps[None, :, :1, None]
            weights = block.weights(torch.cat([far, near], dim=-1)).to(v.dtype)
            x = block.finish(x, weights[..., :-1] @ v + weights[..., -1:] * own_v, projections)
        out: Tensor = self.norm(x)
        return out

    def cost(self, tokens: int) -> tuple[int, int]:
        """Multiply-adds of `tokens` for so many, and of `queries` for one candidate."""
        per_token = sum(block.cost(self.dim) for block in self._blocks())
        pairs = 2 * tokens * self.dim * len(self.blocks)
        return tokens * (per_token + pairs), per_token + pairs
