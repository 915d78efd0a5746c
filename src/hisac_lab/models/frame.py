"""The frame every model stands in: item encoder, short branch, the long branch under test, one tower."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from hisac_lab.codebook.votes import Agents
from hisac_lab.config.model import FrameConfig
from hisac_lab.models.contract import History, ItemSpace, LongBranch, UserState
from hisac_lab.models.din import TargetAttention

AGE_BUCKETS = 32


class ItemEncoder(nn.Module):
    """Item id, categorical fields and the frozen semantic vector, projected and summed to one vector of width D."""

    semantic: Tensor
    fields: Tensor

    def __init__(self, items: ItemSpace, dim: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(len(items.semantic), dim)
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in items.field_sizes)
        self.project = nn.Linear(items.semantic.shape[1], dim)
        for table in (self.ids, *self.tables):
            nn.init.normal_(table.weight, std=0.02)
        self.register_buffer("semantic", items.semantic)
        self.register_buffer("fields", items.fields)

    def forward(self, items: Tensor) -> Tensor:
        """Item numbers of any shape to (..., D); each distinct item is computed once."""
        if items.numel() >= len(self.semantic):
            everything = torch.arange(len(self.semantic), device=items.device)
            return self._encode(everything)[items]
        distinct, place = torch.unique(items, return_inverse=True)
        return self._encode(distinct)[place]

    def _encode(self, items: Tensor) -> Tensor:
        vector: Tensor = self.ids(items) + self.project(self.semantic[items])
        for column, table in enumerate(self.tables):
            vector = vector + table(self.fields[items, column])
        return vector


class Ranker(nn.Module):
    """A click model: short branch (target attention on the last events), optional long branch, tower.

    Args:
        frame: Widths shared by all models.
        items: Frozen knowledge of the items.
        long: The long branch under test; None leaves the short branch alone.
    """

    def __init__(self, frame: FrameConfig, items: ItemSpace, long: LongBranch | None) -> None:
        super().__init__()
        self.frame = frame
        self.encoder = ItemEncoder(items, frame.dim)
        self.age = nn.Embedding(AGE_BUCKETS, frame.dim)
        nn.init.normal_(self.age.weight, std=0.02)
        self.short = TargetAttention(frame.dim, frame.attention_hidden)
        self.long = long
        # The long branch starts nearly silent and earns its weight: short histories lose nothing by it.
        self.gate = None if long is None else nn.Parameter(torch.full((frame.dim,), 0.1))
        branches = 1 if long is None else 2
        widths = [frame.dim * (1 + 2 * branches) + 1, *frame.tower]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(frame.dropout)]
        self.tower = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def agents(self, history: History) -> Agents | None:
        """What can be counted offline for these histories (see `LongBranch.agents`)."""
        return None if self.long is None else self.long.agents(history)

    def encode(self, history: History) -> UserState:
        """Once per request: histories to user states; knows no candidate."""
        width = self.frame.short_window
        whole = history if self.long is not None else history.last(width)
        events = self.encoder(whole.items) + self.age(age_bucket(whole.ages))
        length = torch.log1p(history.mask.sum(dim=1, keepdim=True).float())
        parts = {
            "short_events": events[:, -width:],
            "short_mask": whole.mask[:, -width:],
            "length": length,
        }
        if self.long is not None:
            parts |= self.long.encode(whole, events)
        return UserState(parts)

    def score(self, state: UserState, candidates: Tensor) -> Tensor:
        """Per candidate: (R, C) items to (R, C) logits."""
        queries = self.encoder(candidates)
        found = [self.short(queries, state["short_events"], state["short_mask"])]
        if self.long is not None and self.gate is not None:
            found.append(self.gate * self.long.attend(state, queries))
        length = state["length"][:, None, :].expand(-1, queries.shape[1], -1)
        features = torch.cat([queries, *found, *(queries * one for one in found), length], dim=-1)
        logits: Tensor = self.tower(features).squeeze(-1)
        return logits

    def forward(self, history: History, candidates: Tensor) -> Tensor:
        """`encode`, then `score`."""
        return self.score(self.encode(history), candidates)


def age_bucket(ages: Tensor) -> Tensor:
    """Whole logarithm to base 2 of the age in seconds, 0..31."""
    buckets: Tensor = torch.log2(1.0 + ages.clamp(min=0).double()).long().clamp(max=AGE_BUCKETS - 1)
    return buckets
