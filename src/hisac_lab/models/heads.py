"""Multi-head target attention, over a whole sequence or over the few events chosen for each candidate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.ops.attention import dot_scores, key_bias, shares, soft_count, weigh

Score = Literal["learned", "frozen", "both"]
SHARP, BROAD = 0.06, 0.42
"""First temperatures of the outer heads: where trained ones ended in probes on unit vectors."""


def check_heads(heads: int, dim: int) -> None:
    """Refuses heads that do not divide the width.

    Raises:
        UserError: They do not.
    """
    if dim % heads:
        raise UserError(SETTINGS, f"{heads} heads do not divide backbone.dim {dim}", "change one", "models.*.heads")


class TargetHeads(nn.Module):
    """Multi-head attention with its projections.

    Args:
        dim: D.
        heads: A divisor of D.
        score: What a query and a key are compared by: `learned`, q k; `frozen`, a squared distance that is given, over
            a trained temperature per head; `both`, the sum.
        soft_counts: Whether each head tells how much it found.

    Attributes:
        soft_counts: Columns of soft counts behind an answer.
        to_query, to_key: Not there where the score is frozen.

    Raises:
        UserError: Heads do not divide D.
    """

    to_query: nn.Linear
    to_key: nn.Linear

    def __init__(self, dim: int, heads: int, score: Score = "learned", soft_counts: bool = False) -> None:
        super().__init__()
        check_heads(heads, dim)
        self.heads = heads
        self.soft_counts = heads if soft_counts else 0
        self.learned = score != "frozen"
        if self.learned:
            self.to_query = nn.Linear(dim, dim, bias=False)
            self.to_key = nn.Linear(dim, dim, bias=False)
        self.to_value = nn.Linear(dim, dim, bias=False)
        self.merge = nn.Linear(dim, dim)
        self.kernel = None if score == "learned" else Kernel(heads)

    def project(self, events: Tensor) -> dict[str, Tensor]:
        """What `read` needs of events: `keys`, unless the score is frozen, and `values`; (..., K, D) to the same."""
        keys = {"keys": self.to_key(events)} if self.learned else {}
        return keys | {"values": self.to_value(events)}

    def read(
        self, queries: Tensor, keys: Tensor | None, values: Tensor, bias: Tensor, gaps: Tensor | None = None
    ) -> Tensor:
        """Attends to projected keys and values.

        Args:
            queries: (..., C, D).
            keys: (..., K, D); None where the score is frozen.
            values: (..., K, D).
            bias: On the scores, `FLOOR` where there is no key; (..., K).
            gaps: Squared distances of queries and keys, unless the score is learned; (..., C, K).

        Returns:
            (..., C, D + `soft_counts`): the bias of `merge` and zeros where there is no key at all.
        """
        scores = self._scores(queries, keys, gaps)
        out: Tensor = self.merge(weigh(scores, values, bias))
        if not self.soft_counts:
            return out
        counts = soft_count(scores + bias[..., None, None, :])  # (..., H, C)
        return torch.cat([out, counts.transpose(-1, -2)], dim=-1)

    def weights(self, queries: Tensor, keys: Tensor | None, bias: Tensor, gaps: Tensor | None = None) -> Tensor:
        """Share of each key in what each head of `read` reads; arguments as there, (..., H, C, K) float32."""
        return shares(self._scores(queries, keys, gaps), bias)

    def _scores(self, queries: Tensor, keys: Tensor | None, gaps: Tensor | None) -> Tensor:
        parts = [] if keys is None else [dot_scores(self.to_query(queries), keys, self.heads)]
        if self.kernel is not None and gaps is not None:
            parts.append(self.kernel(gaps))
        return sum(parts[1:], parts[0])

    def forward(self, queries: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Each query attends to events of its own: (R, C, D), (R, C, K, D), (R, C, K) to (R, C, D + `soft_counts`)."""
        keys, values = self.to_key(events), self.to_value(events)
        return self.read(queries[:, :, None, :], keys, values, key_bias(mask)).squeeze(2)

    def cost(self, events: int) -> int:
        """Multiply-adds of `forward` per query over so many events."""
        dim = self.merge.in_features
        return 2 * events * dim * dim + 2 * dim * dim + 2 * events * dim


class Kernel(nn.Module):
    """How near is near: squared distances over a temperature that is trained, one per head.

    Args:
        heads: H; the temperatures start evenly spaced in their logs from `SHARP` to `BROAD`.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        ends = torch.tensor([SHARP, BROAD]).log()
        spread = torch.linspace(0, 1, heads) if heads > 1 else torch.tensor([0.5])
        self.log_tau = nn.Parameter(ends[0] + spread * (ends[1] - ends[0]))

    def forward(self, gaps: Tensor) -> Tensor:
        """-gap / tau in fp32: (..., C, K) to (..., H, C, K)."""
        return gaps[..., None, :, :] * -(-self.log_tau).exp()[:, None, None]


class KernelSums(nn.Module):
    """Counts around a query, not divided by their sum: per temperature and count, log(1 + sum of exp(-gap / tau) n).

    Args:
        dim: D.
        heads: Temperatures.
        counts: Counts of each key, N.
    """

    def __init__(self, dim: int, heads: int, counts: int) -> None:
        super().__init__()
        self.kernel = Kernel(heads)
        self.out = nn.Linear(heads * counts, dim)

    def forward(self, gaps: Tensor, counts: Tensor) -> Tensor:
        """Squared distances (R, C, K) and counts (R, K, N) to (R, C, D)."""
        with torch.autocast(gaps.device.type, enabled=False):
            sums = (self.kernel(gaps).exp() @ counts[:, None]).log1p()
        out: Tensor = self.out(sums.transpose(1, 2).flatten(2))
        return out
