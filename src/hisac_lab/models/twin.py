"""TWIN: a two-stage network whose search uses the attention's own scores (Chang et al., KDD 2023, arXiv 2302.02352)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import AttentionConfig, BackboneConfig
from hisac_lab.models.contract import (
    SOFT_COUNTS,
    Candidates,
    CardLine,
    Cost,
    History,
    ItemSpace,
    LongBranch,
    UserState,
)
from hisac_lab.models.heads import TargetHeads
from hisac_lab.models.retrieval import chosen_events, event_state
from hisac_lab.ops.attention import join_heads, soft_count, split_heads
from hisac_lab.ops.buckets import AGE_BUCKETS, age_bucket
from hisac_lab.ops.select import best_events, gather_events, take_rows


class TWINConfig(AttentionConfig):
    """TWIN: the search ranks events by the attention's own scores."""

    kind: Literal["twin"] = Field("twin", description="TWIN")
    top: int = Field(50, ge=1, description="events kept per candidate and head")
    heads: int = Field(4, ge=1, description="heads of the attention")
    cross: bool = Field(True, description="a learned bias per head and age: the cross feature of an event")


class TWINBranch(LongBranch):
    """Each head keeps the K events it scores highest and attends to those with the same scores."""

    lazy = True
    Config = TWINConfig
    examples: ClassVar = {
        "twin": TWINConfig(top=4, heads=2),
        "twin-no-cross": TWINConfig(top=4, cross=False),
        "twin-soft-counts": TWINConfig(top=4, heads=2, soft_counts=True),
    }
    golden: ClassVar = {
        "twin": TWINConfig(cross=True, top=8, heads=4, soft_counts=False),
    }
    card = (
        CardLine(
            "search and attention score alike: same queries, keys and bias",
            "stated",
            "docs/papers/baselines.md#twin",
            "test_search_keeps_what_attention_scores_highest",
        ),
        CardLine(
            "with room for all events it is plain multi-head target attention",
            "stated",
            "docs/papers/baselines.md#twin",
            "test_with_room_for_all_it_is_full_attention",
        ),
        CardLine(
            "cross features enter as a scalar bias",
            "stated",
            "docs/papers/baselines.md#twin",
            "test_the_age_is_a_bias_per_head",
        ),
        CardLine(
            "the age is the cross feature, with a bias per head (switch `cross`)",
            "inferred",
            "docs/papers/baselines.md#twin",
            "test_the_age_is_a_bias_per_head",
        ),
        CardLine(
            "each head searches for itself",
            "inferred",
            "docs/papers/baselines.md#twin",
            "test_heads_choose_for_themselves",
        ),
        SOFT_COUNTS,
        CardLine(
            "keys from the item alone, computed once for all: our keys also hold the age",
            "left out",
            "docs/papers/baselines.md#twin",
        ),
    )

    def __init__(self, config: TWINConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.top = config.top
        self.heads = TargetHeads(backbone.dim, config.heads, soft_counts=config.soft_counts)
        self.soft_counts = self.heads.soft_counts
        self.cross = nn.Parameter(torch.zeros(config.heads, AGE_BUCKETS)) if config.cross else None

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """The history, with its keys projected once for all candidates."""
        with torch.no_grad():
            keys = self.heads.to_key(events)
        state = event_state(history, events) | {"long_keys": keys}
        if self.cross is not None:
            state["long_buckets"] = age_bucket(history.ages).to(torch.uint8)
        return state

    @torch.no_grad()
    def retrieve(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Places each head keeps, and which of them are real; two (R, H * C, K), heads first."""
        count = self.heads.heads
        queries = split_heads(self.heads.to_query(candidates.vectors), count)
        scores = (queries @ split_heads(state["long_keys"], count).transpose(2, 3)).float() / math.sqrt(
            queries.shape[-1]
        )
        if self.cross is not None:
            scores = scores + self.cross[:, state["long_buckets"].long()].transpose(0, 1)[:, :, None, :]
        return best_events(scores.flatten(1, 2), state["long_mask"], self.top)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Multi-head attention, each head over its own events; (R, C, D + `soft_counts`)."""
        r, c, dim = candidates.vectors.shape
        heads, width = self.heads.heads, dim // self.heads.heads
        places, valid = self.retrieve(state, candidates)
        chosen = chosen_events(state, candidates, places).view(r, heads, c, self.top, dim)
        # A head's own slice of each projection, applied to its own events.
        keys, values = (
            torch.einsum("rhckd,hwd->rhckw", chosen, part.weight.view(heads, width, dim))
            for part in (self.heads.to_key, self.heads.to_value)
        )
        queries = split_heads(self.heads.to_query(candidates.vectors), heads)
        scores = torch.einsum("rhcw,rhckw->rhck", queries, keys).float() / math.sqrt(width)
        if self.cross is not None:
            buckets = gather_events(state["long_buckets"], places).long().view(r, heads, c, self.top)
            cell = buckets + AGE_BUCKETS * torch.arange(heads, device=buckets.device)[:, None, None]
            scores = scores + take_rows(self.cross.view(-1, 1), cell).squeeze(-1)
        real = valid.view(r, heads, c, self.top)
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * real
        mixed = torch.einsum("rhck,rhckw->rhcw", weights.to(values.dtype), values)
        out: Tensor = self.heads.merge(join_heads(mixed))
        return torch.cat([out, soft_count(scores).transpose(1, 2)], dim=-1) if self.soft_counts else out

    def cost(self, history: History) -> Cost:
        """The search multiplies a candidate with every projected key."""
        length, dim = history.items.shape[1], self.heads.merge.in_features
        bucket = 0 if self.cross is None else 1
        exact = 2 * self.top * dim * dim + 2 * self.top * dim
        # The query is projected twice: for the search without gradient, for the attention with it.
        return Cost(length * (8 * dim + 1 + bucket), length * dim * dim, 0, 3 * dim * dim + length * dim + exact)
