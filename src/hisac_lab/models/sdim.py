"""SDIM: sampling by hash collision (Cao et al., CIKM 2022, arXiv 2205.10249): cost per candidate knows no length."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hisac_lab.config.model import BackboneConfig, SequenceConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.ops import hashing
from hisac_lab.ops.jagged import segment_sum


class SDIMConfig(SequenceConfig):
    """SDIM: events whose hashes collide with the candidate's are summed."""

    kind: Literal["sdim"] = Field("sdim", description="SDIM")
    groups: int = Field(16, ge=1, description="independent hashes; the answer is their mean")
    bits: int = Field(3, ge=1, le=16, description="bits of one hash")
    normalize: bool = Field(True, description="scale each hash's sum to unit length")
    seed: int = Field(0, ge=0, description="seed of the random planes")


class SDIMBranch(LongBranch):
    """Sums the history into hash tables once per request; a candidate reads one bucket of each.

    The table of a group has 2^bits rows, one per bucket; an event stands in the bucket of its signature.
    """

    Config = SDIMConfig
    examples: ClassVar = {
        "sdim": SDIMConfig(groups=4, bits=2),
        "sdim-sum": SDIMConfig(groups=3, bits=3, normalize=False),
    }
    golden: ClassVar = {
        "sdim": SDIMConfig(length=None, groups=8, bits=3, normalize=True, seed=0),
    }
    card = (
        CardLine(
            "an event counts in a group when its bits there equal the candidate's",
            "stated",
            "docs/papers/baselines.md#sdim",
            "test_a_bucket_holds_the_colliding_events",
        ),
        CardLine(
            "each group's sum has unit length, and groups are averaged (switch `normalize`)",
            "inferred",
            "docs/papers/baselines.md#sdim",
            "test_groups_are_unit_length_and_averaged",
        ),
        CardLine(
            "tables are built once per request, before any candidate",
            "stated",
            "docs/papers/baselines.md#sdim",
            "test_hash_tables_do_not_grow_with_the_history",
        ),
        CardLine(
            "a hash without the age; a separate server for user hashing",
            "left out",
            "docs/papers/baselines.md#sdim",
        ),
    )
    planes: Tensor

    def __init__(self, config: SDIMConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("planes", hashing.planes(backbone.dim, config.groups * config.bits, config.seed))

    @torch.no_grad()
    def buckets(self, vectors: Tensor) -> Tensor:
        """Bucket in each group: (..., D) to (..., G) int64."""
        bits = hashing.sign_bits(vectors, self.planes)
        return hashing.bucket(bits.view(*bits.shape[:-1], self.config.groups, self.config.bits))

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Sums of each bucket; (R, G, 2^bits, D)."""
        buckets, rows = self.buckets(events), 1 << self.config.bits
        tables = [
            segment_sum(events, torch.where(history.mask, buckets[..., group], -1), rows)
            for group in range(self.config.groups)
        ]
        return {"tables": torch.stack(tables, dim=1)}

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Mean over groups of the candidate's buckets; (R, C, D)."""
        buckets = self.buckets(candidates.vectors)  # (R, C, G)
        rows = torch.arange(len(buckets), device=buckets.device)[:, None, None]
        groups = torch.arange(self.config.groups, device=buckets.device)
        sums = state["tables"][rows, groups, buckets]  # (R, C, G, D)
        if self.config.normalize:
            sums = torch.nn.functional.normalize(sums.float(), dim=-1)
        return sums.mean(dim=2).to(candidates.vectors.dtype)

    def cost(self, history: History) -> Cost:
        """Hashing is all there is to multiply."""
        dim, bits = self.planes.shape
        tables = self.config.groups * (1 << self.config.bits) * dim * 4
        return Cost(tables, history.items.shape[1] * dim * bits, 0, dim * bits)
