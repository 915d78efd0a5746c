"""Linear-time compressors to set HiSAC against: k-means, LSH, time patches, learned queries.

The paper names them and gives no settings: docs/papers/hisac.md#compared-compressors.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig, ValueConfig
from hisac_lab.models.compress import CompressedBranch
from hisac_lab.models.contract import SOFT_COUNTS, CardLine, Cost, History, ItemSpace
from hisac_lab.ops import hashing
from hisac_lab.ops.attention import FLOOR
from hisac_lab.ops.jagged import distinct, segment_sum
from hisac_lab.ops.select import take_rows

MARGIN = 1e-5
"""Distances nearer than this are ties, so that rounding does not decide between equal centers."""
CELLS = 1 << 20  # distances from points to centers at once: they should stay in the cache


class CompressConfig(ValueConfig):
    """Linear-time compressors of a history to K vectors."""

    kind: Literal["compress"] = Field("compress", description="a compressor beside HiSAC")
    by: Literal["kmeans", "lsh", "patches", "queries"] = Field(
        "kmeans",
        description="kmeans and lsh: clusters of frozen embeddings; patches: equal stretches of the sequence; "
        "queries: attention of K learned queries",
    )
    size: int = Field(32, ge=1, description="vectors K; lsh: the power of two at or below it")
    iterations: int = Field(5, ge=1, description="kmeans only: Lloyd iterations")
    seed: int = Field(0, ge=0, description="lsh only: seed of the random planes")


GOLDEN = CompressConfig(
    length=None,
    decay="exponential",
    decay_rate=0.01815,
    reader="attention",
    heads=4,
    by="kmeans",
    size=8,
    iterations=5,
    seed=0,
    soft_counts=False,
    state_bits=32,
)


class CompressBranch(CompressedBranch):
    """Groups events, takes each group's mean; larger groups weigh more by the log of their share."""

    Config = CompressConfig
    examples: ClassVar = {
        "kmeans": CompressConfig(size=4),
        "lsh": CompressConfig(by="lsh", size=5, decay="power"),
        "patches": CompressConfig(by="patches", size=3, decay="none"),
        "queries": CompressConfig(by="queries", size=4, reader="transformer"),
        "kmeans-soft-counts": CompressConfig(size=4, soft_counts=True),
    }
    golden: ClassVar = {
        "kmeans": GOLDEN,
        "lsh": GOLDEN.model_copy(update={"by": "lsh"}),
        "patches": GOLDEN.model_copy(update={"by": "patches"}),
        "queries": GOLDEN.model_copy(update={"reader": "transformer", "by": "queries"}),
    }
    card = (
        CardLine(
            "kmeans: Lloyd's algorithm over each user's frozen embeddings, events weighing one each",
            "inferred",
            "docs/papers/hisac.md#compared-compressors",
            "test_k_means_lowers_the_distortion",
        ),
        CardLine(
            "kmeans starts at distinct items evenly spaced by number, whatever their order",
            "inferred",
            "docs/papers/baselines.md#compressors",
            "test_k_means_knows_no_order",
        ),
        CardLine(
            "lsh: groups are equal sign bits of frozen embeddings",
            "inferred",
            "docs/papers/hisac.md#compared-compressors",
            "test_lsh_groups_equal_signatures",
        ),
        CardLine(
            "patches: equal parts of the sequence, counted from the newest",
            "inferred",
            "docs/papers/hisac.md#compared-compressors",
            "test_patches_are_equal_stretches",
        ),
        CardLine(
            "queries: attention of K learned queries over the events, for the paper's aggregator",
            "inferred",
            "docs/papers/hisac.md#compared-compressors",
            "test_learned_queries_are_attention",
        ),
        CardLine(
            "groups weigh by the log of their share of the events",
            "inferred",
            "docs/papers/baselines.md#compressors",
            "test_a_group_is_the_mean_of_its_events_and_weighs_its_share",
        ),
        CardLine(
            "multi-head attention reads the groups",
            "stated",
            "docs/papers/hisac.md#compared-compressors",
            "test_groups_are_read_by_attention",
        ),
        SOFT_COUNTS,
        CardLine(
            "the settings of the paper's own compressors, which are not public",
            "left out",
            "docs/papers/hisac.md#compared-compressors",
        ),
    )
    semantic: Tensor
    item_bucket: Tensor

    def __init__(self, config: CompressConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(config, backbone.dim)
        self.config = config
        self.ordered = config.by == "patches"
        self.size = config.size
        if config.by == "kmeans":
            self.register_buffer("semantic", items.semantic)
        if config.by == "lsh":
            bits = config.size.bit_length() - 1
            self.size = 1 << bits
            signs = hashing.sign_bits(items.semantic, hashing.planes(items.semantic.shape[1], bits, config.seed))
            buckets = (signs * (1 << torch.arange(bits))).sum(dim=1)
            self.register_buffer("item_bucket", torch.where(items.semantic.any(dim=1), buckets, -1))
        if config.by == "queries":
            self.queries = nn.Parameter(torch.randn(config.size, backbone.dim) * backbone.dim**-0.5)
            self.match = nn.Linear(backbone.dim, backbone.dim, bias=False)

    def slots(self, history: History) -> Tensor:
        """Group of each event, -1 for none; (R, L) int64."""
        if self.config.by == "patches":
            length = history.mask.sum(dim=1, keepdim=True)
            width = history.mask.shape[1]
            from_newest = width - 1 - torch.arange(width, device=history.mask.device)
            return torch.where(history.mask, from_newest * self.size // length.clamp(min=1), -1)
        if self.config.by == "lsh":
            return torch.where(history.mask, self.item_bucket[history.items], -1)
        return self._k_means(history.items, history.mask & self._embedded(history.items))

    def _embedded(self, items: Tensor) -> Tensor:
        """Whether items have an embedding; any shape."""
        return take_rows(self.semantic, items).abs().amax(dim=-1) > 0

    @torch.no_grad()
    def _k_means(self, items: Tensor, embedded: Tensor) -> Tensor:
        points = distinct(items, embedded)
        group = torch.empty_like(points.values)
        at_once = max(1, CELLS // (self.size * group.shape[1]))
        alike = points.counts.count_nonzero(dim=1).argsort()  # together, so that little is padded
        for rows in torch.split(alike, at_once):
            counts = points.counts[rows]
            width = max(1, int(counts.any(dim=0).sum()))
            group[rows, :width] = self._lloyd(points.values[rows, :width], counts[:, :width])
        return torch.where(points.slots >= 0, group.gather(1, points.slots.clamp(min=0)), -1)

    def _lloyd(self, values: Tensor, counts: Tensor) -> Tensor:
        """Group of each distinct item, which weighs its count, -1 in the padding; (R, U) int64."""
        there = counts > 0
        count = there.sum(dim=1, keepdim=True)
        points = take_rows(self.semantic, values.clamp(min=0))  # (R, U, S)
        weight = counts[..., None].to(points.dtype)
        weighted = points * weight
        steps = torch.arange(self.size, device=values.device)
        # More groups than distinct items: the surplus has no center.
        start = torch.where(count >= self.size, steps * count // self.size, steps.minimum(count - 1).clamp(min=0))
        alive = steps < count
        centers = points.gather(1, start[..., None].expand(-1, -1, points.shape[2]))  # (R, K, S)
        group = self._nearest(points, centers, alive, there)
        for _ in range(self.config.iterations):
            mass = segment_sum(weight, group, self.size)
            centers = torch.where(mass > 0, segment_sum(weighted, group, self.size) / mass.clamp(min=1), centers)
            group = self._nearest(points, centers, alive, there)
        return group

    def _nearest(self, points: Tensor, centers: Tensor, alive: Tensor, there: Tensor) -> Tensor:
        """Place of the nearest living center to each point that is there, the first of equals, else -1; (R, U)."""
        steps = torch.arange(self.size, device=points.device, dtype=points.dtype)
        square = (centers**2).sum(dim=2).masked_fill(~alive, -FLOOR)
        distance = torch.bmm(points, -2 * centers.transpose(1, 2)).float()  # (R, U, K), written over from here on
        distance.add_(square[:, None]).add_(MARGIN * steps)
        # The place of the least, faster than `argmin` on a processor: all others are lifted far beyond K.
        distance.sub_(distance.amin(dim=2, keepdim=True))
        nearest = torch.add(steps, distance, alpha=-FLOOR, out=distance).amin(dim=2)
        return torch.where(there, nearest.long(), -1)

    def compress(self, history: History, values: Tensor) -> tuple[Tensor, Tensor]:
        """Means of groups and the log of their share of events, or answers of learned queries."""
        if self.config.by == "queries":
            scores = (self.match(values) @ self.queries.T).transpose(1, 2).float() / math.sqrt(self.dim)  # (R, K, L)
            mask = history.mask[:, None, :]
            weights = torch.softmax(scores.masked_fill(~mask, FLOOR), dim=2) * mask
            empty = ~history.mask.any(dim=1, keepdim=True)
            bias = torch.zeros(len(empty), self.size, device=values.device).masked_fill(empty, FLOOR)
            return torch.bmm(weights.to(values.dtype), values), bias
        slots = self.slots(history)
        there = torch.ones_like(values[..., :1])
        counts = segment_sum(there.float(), slots, self.size)
        means = segment_sum(values, slots, self.size) / counts.clamp(min=1).to(values.dtype)
        share = counts[..., 0] / counts[..., 0].sum(dim=1, keepdim=True).clamp(min=1)
        return means, torch.log(share).clamp(min=FLOOR)

    def cost(self, history: History) -> Cost:
        """Linear in the history once per request; a candidate sees K vectors."""
        length = history.items.shape[1]
        state, encode, candidate = self.reading(length, self.size)
        if self.config.by == "queries":
            encode += length * self.dim**2 + 2 * length * self.size * self.dim
        elif self.config.by == "kmeans":
            points = distinct(history.items, self._embedded(history.items)).values.shape[1]
            encode += (self.config.iterations + 1) * points * self.size * self.semantic.shape[1]
        return Cost(state, encode, 0, candidate)
