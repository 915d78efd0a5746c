"""MIRRN: multi-granularity interest retrieval and refinement (Xu et al., KDD 2025), as its public code does it.

Read in the authors' code and in LongCTR's; both multiply frequencies with the diagonal of their weight only, by a slip
in the subscripts. Here the whole block is used.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig, SequenceConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.heads import TargetHeads, check_heads
from hisac_lab.models.retrieval import chosen_events, event_state
from hisac_lab.models.tables import Embedding
from hisac_lab.ops import hashing
from hisac_lab.ops.select import best_events

PLACES = 32
DROPOUT = 0.1  # of the filter, as in the authors' code
ROUTES = ("target", "local", "global")


class FourierFilter(nn.Module):
    """Mixes a short sequence by a learned product with its frequencies, in blocks of the width.

    Args:
        dim: D.
        blocks: A divisor of D.
        norm: Whether dropout comes before the residual connection, and layer normalization behind it.
    """

    def __init__(self, dim: int, blocks: int, norm: bool = False) -> None:
        super().__init__()
        check_heads(blocks, dim)
        self.blocks = blocks
        self.weight = nn.Parameter(torch.randn(blocks, dim // blocks, dim // blocks, 2) * 0.02)
        self.dropout = nn.Dropout(DROPOUT if norm else 0.0)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, sequence: Tensor) -> Tensor:
        """(..., K, D) to (..., K, D), with a residual connection."""
        length = sequence.shape[-2]
        spectrum = torch.fft.rfft(sequence.float(), dim=-2).unflatten(-1, (self.blocks, -1))
        mixed = torch.einsum("...fni,nio->...fno", spectrum, torch.view_as_complex(self.weight)).flatten(-2)
        filtered = torch.fft.irfft(mixed, n=length, dim=-2).to(sequence.dtype)
        out: Tensor = self.norm(sequence + self.dropout(filtered))
        return out


class MIRRNConfig(SequenceConfig):
    """MIRRN: three searches, a filter over each, attention over the three answers."""

    kind: Literal["mirrn"] = Field("mirrn", description="MIRRN")
    bits: int = Field(32, ge=1, description="bits of a signature")
    top: int = Field(16, ge=1, description="events kept per search")
    recent: int = Field(16, ge=1, description="newest events whose mean is the local query")
    heads: int = Field(4, ge=1, description="blocks of the Fourier filter and heads of the attention")
    norm: bool = Field(True, description="dropout and layer normalization behind the filter, as in the authors' code")
    seed: int = Field(0, ge=0, description="seed of the random planes")


class MIRRNBranch(LongBranch):
    """Three searches (candidate, recent mean, overall mean), a filter over each, attention over the three answers."""

    lazy = True
    ordered = True
    Config = MIRRNConfig
    examples: ClassVar = {
        "mirrn": MIRRNConfig(top=5, recent=3, heads=2),
        "mirrn-no-norm": MIRRNConfig(top=5, recent=3, heads=2, norm=False),
    }
    golden: ClassVar = {
        "mirrn": MIRRNConfig(length=None, bits=32, recent=16, norm=False, seed=0, top=8, heads=4),
        "mirrn_norm": MIRRNConfig(length=None, bits=32, recent=16, norm=True, seed=0, top=8, heads=4),
    }
    card = (
        CardLine(
            "three queries: candidate, mean of the newest 16, mean of all",
            "stated",
            "docs/papers/baselines.md#mirrn",
            "test_three_queries_search_for_themselves",
        ),
        CardLine(
            "SimHash of 32 bits, smallest Hamming distance, found events in time order",
            "stated",
            "docs/papers/baselines.md#mirrn",
            "test_hamming_search_finds_the_nearest_signatures",
        ),
        CardLine(
            "a Fourier filter over each search's events uses the whole block of its weight, as in the paper's formula",
            "stated",
            "docs/papers/baselines.md#mirrn",
            "test_the_filter_uses_the_whole_block",
        ),
        CardLine(
            "mean pooling, then attention of the candidate over three vectors",
            "stated",
            "docs/papers/baselines.md#mirrn",
            "test_an_answer_without_events_is_silent",
        ),
        CardLine(
            "0.02 times an embedding of the distance to now, in log buckets",
            "inferred",
            "docs/papers/baselines.md#mirrn",
            "test_places_are_counted_from_the_newest_event",
        ),
        CardLine(
            "dropout, then layer normalization of filtered and input, behind the filter (switch `norm`)",
            "stated",
            "docs/papers/baselines.md#mirrn",
            "test_the_filter_is_normalized_with_its_input",
        ),
        CardLine(
            "clustering centers as global queries; the authors' code takes the mean too",
            "left out",
            "docs/papers/baselines.md#mirrn",
        ),
    )
    planes: Tensor

    def __init__(self, config: MIRRNConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("planes", hashing.planes(backbone.dim, config.bits, config.seed))
        self.place = Embedding(PLACES, backbone.dim)
        self.filters = nn.ModuleList(FourierFilter(backbone.dim, config.heads, config.norm) for _ in ROUTES)
        self.fuse = TargetHeads(backbone.dim, config.heads)

    def _sign(self, vectors: Tensor) -> Tensor:
        return hashing.pack(hashing.sign_bits(vectors, self.planes))

    @torch.no_grad()
    def _find(self, state: UserState, queries: Tensor) -> tuple[Tensor, Tensor]:
        near = -hashing.hamming(self._sign(queries), state["long_key"]).float()
        return best_events(near, state["long_mask"], self.config.top)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """History, signatures, and what the two queries that know no candidate find; places are (R, 2, K)."""
        state = event_state(history, events)
        with torch.no_grad():
            state["long_key"] = self._sign(events)
            queries = torch.stack([means(events, history.mask, self.config.recent), means(events, history.mask)], dim=1)
            state["route_places"], state["route_valid"] = self._find(UserState(state), queries)
        return state

    def retrieve(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Places found for each candidate, then for the two other queries; two (R, C + 2, K)."""
        places, valid = self._find(state, candidates.vectors)
        return torch.cat([places, state["route_places"]], dim=1), torch.cat([valid, state["route_valid"]], dim=1)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """(R, C, D)."""
        count = candidates.items.shape[1]
        places, valid = self.retrieve(state, candidates)
        from_newest = state["long_mask"].shape[1] - 1 - places
        far = torch.log2(1.0 + from_newest.double()).long().clamp(max=PLACES - 1)
        chosen = (chosen_events(state, candidates, places) + 0.02 * self.place(far)) * valid[..., None]
        groups = (slice(None, count), slice(count, count + 1), slice(count + 1, None))
        routes = [one(chosen[:, group]) for one, group in zip(self.filters, groups, strict=True)]
        answers = torch.cat(
            [
                (route * valid[:, group, :, None]).sum(dim=2) / valid[:, group].sum(dim=2)[..., None].clamp(min=1)
                for route, group in zip(routes, groups, strict=True)
            ],
            dim=1,
        )  # (R, C + 2, D)
        answer, common = answers[:, :count, None], answers[:, None, count:].expand(-1, count, -1, -1)
        has_events = state["long_mask"].any(dim=1)[:, None, None].expand(-1, count, len(ROUTES))
        out: Tensor = self.fuse(candidates.vectors, torch.cat([answer, common], dim=2), has_events)
        return out

    def cost(self, history: History) -> Cost:
        """A product of complex numbers counts once."""
        length, (dim, bits), top = history.items.shape[1], self.planes.shape, self.config.top
        words = -(-bits // hashing.WORD)
        state = length * (4 * dim + 1 + 4 * words) + 2 * top * (8 + 1)
        per_filter = (top // 2 + 1) * dim * (dim // self.config.heads)
        return Cost(
            state, (length + 2) * dim * bits, 2 * per_filter, dim * bits + per_filter + self.fuse.cost(len(ROUTES))
        )


def means(events: Tensor, mask: Tensor, newest: int | None = None) -> Tensor:
    """Mean of real events, of the newest few or of all; (R, L, D) to (R, D), zeros without an event."""
    if newest is not None:
        events, mask = events[:, -newest:], mask[:, -newest:]
    return (events * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
