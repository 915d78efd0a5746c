"""What compressors of a history share: values with time decay, K vectors, and the reader that candidates meet."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from hisac_lab.config.model import ValueConfig
from hisac_lab.models.contract import Candidates, History, LongBranch, UserState
from hisac_lab.models.heads import Score, TargetHeads
from hisac_lab.models.stack import Stack
from hisac_lab.ops.attention import FLOOR

DAY = 86_400.0


class CompressedBranch(LongBranch):
    """Compresses a history to K vectors once per request; candidates attend to those, at once or after a block.

    Args:
        config: Decay and reader.
        dim: D.
        score: As of `TargetHeads`.
    """

    def __init__(self, config: ValueConfig, dim: int, score: Score = "learned") -> None:
        super().__init__()
        self.dim, self.fading = dim, config.decay
        self.value = nn.Linear(dim, dim)
        start = math.log(math.expm1(config.decay_rate))  # softplus of it is the rate
        self.decay = None if config.decay == "none" else nn.Parameter(torch.tensor(start))
        self.reader = TargetHeads(dim, config.heads, score, config.soft_counts)
        self.soft_counts = self.reader.soft_counts
        self.block = Stack(dim, config.heads, 1, 1, gaps=False) if config.reader == "transformer" else None

    @abstractmethod
    def compress(self, history: History, values: Tensor) -> tuple[Tensor, Tensor]:
        """Condenses a history.

        Args:
            history: R histories.
            values: Value of each event; (R, L, D).

        Returns:
            K vectors, (R, K, D), and their bias in the attention, `FLOOR` where a vector is not there, (R, K).
        """

    def fade(self, ages: Tensor) -> Tensor | float:
        """What is left of an event's value at its age in seconds, no more than all of it; (R, L)."""
        if self.decay is None:
            return 1.0
        rate, ages = nn.functional.softplus(self.decay), ages.clamp(min=0)
        if self.fading == "power":
            return torch.exp(-rate * torch.log1p(ages / DAY))
        return torch.exp(-rate * ages / DAY)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Request-level compression; keys (where learned) and values of K vectors, (R, K, D), their bias, (R, K)."""
        values, left = self.value(events), self.fade(history.ages)
        if isinstance(left, Tensor):
            values = values * left[..., None].to(events.dtype)
        compressed, bias = self.compress(history, values)
        if self.block is not None:
            pairs = bias[:, None, None, :].expand(-1, -1, bias.shape[1], -1)
            itself = torch.eye(bias.shape[1], dtype=torch.bool, device=bias.device)
            alone = itself & (bias <= FLOOR)[:, None, None, :]  # an empty place sees itself, to stay finite
            compressed = self.block.tokens(compressed, pairs.masked_fill(alone, 0.0))[0]
        if self.soft_counts:  # from shares of a history to counts, which are the same to a softmax
            bias = bias + history.mask.sum(dim=1, keepdim=True).clamp(min=1).log()
        return self.reader.project(compressed) | {"bias": bias}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Multi-head target attention over K vectors; (R, C, D + `soft_counts`)."""
        return self.reader.read(candidates.vectors, state["keys"], state["values"], state["bias"])

    def reading(self, length: int, kept: int) -> tuple[int, int, int]:
        """State bytes, multiply-adds per request and per candidate of everything but the compression itself."""
        square, parts = self.dim**2, 1 + self.reader.learned  # values, and keys where they are learned
        block = 0 if self.block is None else self.block.cost(kept)[0]
        state = kept * (parts * self.dim + 1) * 4
        return state, (length + parts * kept) * square + block, parts * (square + kept * self.dim)
