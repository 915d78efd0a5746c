"""A causal transformer over the newest events: SASRec-like, or of HSTU-like blocks."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.stack import Stack


class TransformerConfig(ModelConfig):
    """Self-attention over the newest events."""

    kind: Literal["transformer"] = Field("transformer", description="causal transformer over raw events")
    block: Literal["softmax", "hstu"] = Field("softmax", description="softmax: SASRec-like; hstu: HSTU-like")
    readout: Literal["candidate", "last"] = Field(
        "candidate", description="candidate: it stands as the next event; last: the newest event's output answers all"
    )
    window: int = Field(200, ge=1, description="newest events it reads; cost is quadratic in it")
    layers: int = Field(2, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="heads")


GOLDEN = TransformerConfig(readout="candidate", window=30, layers=2, heads=4, block="softmax")


class TransformerBranch(LongBranch):
    """Self-attention over a window; a candidate reads it as the next event would, or gets the newest event's output."""

    ordered = True
    Config = TransformerConfig
    examples: ClassVar = {
        "transformer": TransformerConfig(window=12, layers=1),
        "transformer-last": TransformerConfig(window=12, readout="last", layers=1),
        "hstu": TransformerConfig(block="hstu", window=12, heads=2),
    }
    golden: ClassVar = {
        "transformer": GOLDEN,
        "hstu": GOLDEN.model_copy(update={"block": "hstu"}),
    }
    card = (
        CardLine(
            "causal: an event sees itself and what came before",
            "stated",
            "docs/papers/baselines.md#transformers",
            "test_an_event_sees_no_later_one",
        ),
        CardLine(
            "softmax block: learned places",
            "stated",
            "docs/papers/baselines.md#transformers",
            "test_places_are_counted_from_the_newest_event",
        ),
        CardLine(
            "places are counted from the newest event",
            "inferred",
            "docs/papers/baselines.md#transformers",
            "test_places_are_counted_from_the_newest_event",
        ),
        CardLine(
            "hstu block: SiLU attention, divided by a constant, gated, biased by time gap",
            "stated",
            "docs/papers/baselines.md#transformers",
            "test_the_hstu_block_is_its_formula",
        ),
        CardLine(
            "the candidate stands as the next event (switch `readout`)",
            "inferred",
            "docs/papers/baselines.md#transformers",
            "test_a_candidate_reads_like_the_next_event",
        ),
        CardLine(
            "training on every next event; actions between items; HSTU's bias by place",
            "left out",
            "docs/papers/baselines.md#transformers",
        ),
    )

    def __init__(self, config: TransformerConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        hstu = config.block == "hstu"
        self.stack = Stack(backbone.dim, config.heads, config.layers, config.window, config.block, gaps=hstu)
        self.place = None if hstu else nn.Embedding(config.window + 1, backbone.dim)
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=0.02)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Keys and values of every block, (R, layers, 2, N, D), or the last output, (R, D)."""
        near, x = history.last(self.config.window), events[:, -self.config.window :]
        width = x.shape[1]
        if self.place is not None:
            x = x + self.place.weight[torch.arange(width, 0, -1, device=x.device)]
        causal = torch.ones(width, width, dtype=torch.bool, device=x.device).tril()
        itself = torch.eye(width, dtype=torch.bool, device=x.device)
        gaps = near.ages[:, None, :] - near.ages[:, :, None]
        outputs, kept = self.stack.tokens(x, self.stack.bias(gaps, causal & near.mask[:, None, :] | itself))
        if self.config.readout == "last":
            return {"last": outputs[:, -1] * near.mask[:, -1:]}
        bias = self.stack.bias(near.ages[:, None, :], near.mask[:, None, :])
        return {"kept": kept, "bias": bias}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """(R, C, D)."""
        if self.config.readout == "last":
            return state["last"][:, None, :].expand_as(candidates.vectors)
        x = candidates.vectors if self.place is None else candidates.vectors + self.place.weight[0]
        return self.stack.queries(x, state["kept"], state["bias"])

    def cost(self, history: History) -> Cost:
        """Quadratic in the window once per request, linear in it per candidate."""
        window = min(history.items.shape[1], self.config.window)
        tokens, query = self.stack.cost(window)
        dim, heads = self.stack.dim, self.config.heads if self.config.block == "hstu" else 1
        if self.config.readout == "last":
            return Cost(4 * dim, tokens, 0, 0)
        return Cost(4 * window * (2 * self.config.layers * dim + heads), tokens, 0, query)
