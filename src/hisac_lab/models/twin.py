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
    keys: Literal["events", "items"] = Field(
        "events",
        description="what keys are made of: events, with their age and feedback; items alone, as in the paper, so that "
        "a key can be kept per item",
    )


GOLDEN = TWINConfig(length=None, cross=True, keys="events", top=8, heads=4, soft_counts=False)


class TWINBranch(LongBranch):
    """Each head keeps the K events it scores highest and attends to those with the same scores."""

    lazy = True
    Config = TWINConfig
    examples: ClassVar = {
        "twin": TWINConfig(top=4, heads=2),
        "twin-no-cross": TWINConfig(top=4, cross=False),
        "twin-keys-of-items": TWINConfig(top=4, heads=2, keys="items"),
        "twin-soft-counts": TWINConfig(top=4, heads=2, soft_counts=True),
    }
    golden: ClassVar = {
        "twin": GOLDEN,
        "twin_keys_of_items": GOLDEN.model_copy(update={"keys": "items"}),
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
            "keys depend on the item alone with `keys: items`",
            "stated",
            "docs/papers/baselines.md#twin",
            "test_a_key_of_an_item_is_the_same_at_any_age",
        ),
        CardLine(
            "by default they also hold age and feedback of the event, as values do",
            "inferred",
            "docs/papers/baselines.md#twin",
            "test_a_key_of_an_item_is_the_same_at_any_age",
        ),
        CardLine(
            "a table of the keys of all items, kept beside the model",
            "left out",
            "docs/papers/baselines.md#twin",
        ),
    )

    def __init__(self, config: TWINConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.top, self.by_item = config.top, config.keys == "items"
        self.ordered = self.by_item  # equal scores, which equal items have, go to the newest
        self.heads = TargetHeads(backbone.dim, config.heads, soft_counts=config.soft_counts)
        self.soft_counts = self.heads.soft_counts
        self.cross = nn.Parameter(torch.zeros(config.heads, AGE_BUCKETS)) if config.cross else None

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """The history, with its keys projected once for all candidates."""
        with torch.no_grad():
            keys = self.heads.to_key(self.item_vectors(history.items) if self.by_item else events)
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

    def _of_head(self, part: nn.Linear, vectors: Tensor) -> Tensor:
        """A head's own slice of a projection, of its own events: (R, H, C, K, D) to (R, H, C, K, D / H)."""
        weight = part.weight.view(self.heads.heads, -1, vectors.shape[-1])
        return torch.einsum("rhckd,hwd->rhckw", vectors, weight)

    def _keys(self, state: UserState, places: Tensor, chosen: Tensor) -> Tensor:
        """Keys of the chosen events, of their items alone where those make them; (R, H, C, K, D / H)."""
        if not self.by_item:
            return self._of_head(self.heads.to_key, chosen)
        if torch.is_grad_enabled():
            items = gather_events(state["long_items"], places)
            return self._of_head(self.heads.to_key, self.item_vectors(items).view_as(chosen))
        kept = gather_events(state["long_keys"], places).view(*chosen.shape[:4], self.heads.heads, -1)
        return kept.diagonal(dim1=1, dim2=4).permute(0, 4, 1, 2, 3)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Multi-head attention, each head over its own events; (R, C, D + `soft_counts`)."""
        r, c, dim = candidates.vectors.shape
        heads, width = self.heads.heads, dim // self.heads.heads
        places, valid = self.retrieve(state, candidates)
        chosen = chosen_events(state, candidates, places).view(r, heads, c, self.top, dim)
        keys, values = self._keys(state, places, chosen), self._of_head(self.heads.to_value, chosen)
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
        exact = (1 if self.by_item else 2) * self.top * dim * dim + 2 * self.top * dim
        keys = length * dim * dim + (self.item_cost(history.items) if self.by_item else 0)
        # The query is projected twice: for the search without gradient, for the attention with it.
        return Cost(length * (8 * dim + 1 + bucket), keys, 0, 3 * dim * dim + length * dim + exact)
