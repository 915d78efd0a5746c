"""Multi-head target attention, over a whole sequence or over the few events chosen for each candidate."""

from __future__ import annotations

from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.ops.attention import attend, key_bias


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

    Raises:
        UserError: It is none.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        check_heads(heads, dim)
        self.heads = heads
        self.to_query = nn.Linear(dim, dim, bias=False)
        self.to_key = nn.Linear(dim, dim, bias=False)
        self.to_value = nn.Linear(dim, dim, bias=False)
        self.merge = nn.Linear(dim, dim)

    def read(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attends to projected keys and values.

        Args:
            queries: (..., C, D).
            keys: (..., K, D).
            values: (..., K, D).
            bias: On the scores, `FLOOR` where there is no key; (..., K).

        Returns:
            (..., C, D); the bias of `merge` alone where there is no key at all.
        """
        out: Tensor = self.merge(attend(self.to_query(queries), keys, values, bias, self.heads))
        return out

    def forward(self, queries: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Each query attends to events of its own: (R, C, D), (R, C, K, D), (R, C, K) to (R, C, D)."""
        keys, values = self.to_key(events), self.to_value(events)
        return self.read(queries[:, :, None, :], keys, values, key_bias(mask)).squeeze(2)

    def cost(self, events: int) -> int:
        """Multiply-adds of `forward` per query over so many events."""
        dim = self.merge.in_features
        return 2 * events * dim * dim + 2 * dim * dim + 2 * events * dim
