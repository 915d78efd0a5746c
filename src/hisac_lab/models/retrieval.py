"""Search first, attend to what was found: SIM (hard and soft) and ETA.

SIM: Pi et al., CIKM 2020 (arXiv 2006.05639). ETA: Chen et al., 2021 (arXiv 2108.04468). Public implementations of both
let pads outrank events of negative score, or shift the mask by one; `ops.select.best_events` cannot.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hisac_lab.base.errors import SETTINGS, UserError
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
from hisac_lab.ops import hashing
from hisac_lab.ops.jagged import distinct
from hisac_lab.ops.select import best_events, gather_events


def event_state(history: History, events: Tensor) -> dict[str, Tensor]:
    """A history to search in; in training also what is needed to embed the chosen events again."""
    state = {"long_events": events, "long_mask": history.mask}
    if torch.is_grad_enabled():
        state |= {"long_items": history.items, "long_ages": history.ages, "long_feedback": history.feedback}
    return state


def chosen_events(state: UserState, candidates: Candidates, places: Tensor) -> Tensor:
    """Representation of events at places: (R, C, K) to (R, C, K, D).

    In training they are embedded again, so that the gradient touches these few and not the whole history; the numbers
    are the same.
    """
    if not torch.is_grad_enabled():
        return gather_events(state["long_events"], places)
    return candidates.embed(*(gather_events(state[f"long_{name}"], places) for name in ("items", "ages", "feedback")))


class SearchBranch(LongBranch):
    """A general search unit picks K events per candidate, an exact one attends to them.

    Args:
        dim: D.
        heads: Heads of the exact unit.
        top: K.
        soft_counts: As of `TargetHeads`.
    """

    lazy = True

    def __init__(self, dim: int, heads: int, top: int, soft_counts: bool) -> None:
        super().__init__()
        self.top = top
        self.attention = TargetHeads(dim, heads, soft_counts=soft_counts)
        self.soft_counts = self.attention.soft_counts

    @abstractmethod
    def index(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """What the search keeps of each event, beside the event."""

    @abstractmethod
    def search(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Scores of all events, (R, C, L), and which may be chosen at all, (R, 1 or C, L) bool."""

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Keeps the history and its index."""
        return event_state(history, events) | self.index(history, events)

    @torch.no_grad()
    def retrieve(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Places of the chosen events, and which of them are real; two (R, C, K)."""
        scores, allowed = self.search(state, candidates)
        return best_events(scores, allowed, self.top)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Attention over the chosen events; (R, C, D + `soft_counts`)."""
        places, valid = self.retrieve(state, candidates)
        out: Tensor = self.attention(candidates.vectors, chosen_events(state, candidates, places), valid)
        return out


class SIMConfig(AttentionConfig):
    """SIM: a search for few events, then attention over them."""

    kind: Literal["sim"] = Field("sim", description="SIM, hard or soft")
    search: Literal["code", "field", "embedding", "semantic"] = Field(
        "code",
        description="hard: events of the candidate's first semantic code, or of its field; "
        "soft: largest product of learned embeddings, or cosine of frozen ones",
    )
    field: int = Field(0, ge=0, description="search field only: which item field, counted from 0")
    top: int = Field(50, ge=1, description="events kept per candidate")
    heads: int = Field(4, ge=1, description="heads of the attention over kept events")


GOLDEN = SIMConfig(length=None, search="code", field=0, top=8, heads=4, soft_counts=False)


class SIMBranch(SearchBranch):
    """SIM: hard search by category, soft search by inner product."""

    Config = SIMConfig
    examples: ClassVar = {
        "sim-code": SIMConfig(top=4),
        "sim-field": SIMConfig(search="field", field=1, top=4, heads=1),
        "sim-embedding": SIMConfig(search="embedding", top=4),
        "sim-semantic": SIMConfig(search="semantic", top=4),
        "sim-soft-counts": SIMConfig(search="code", top=4, heads=2, soft_counts=True),
    }
    golden: ClassVar = {
        "sim_hard": GOLDEN,
        "sim_soft": GOLDEN.model_copy(update={"search": "embedding"}),
    }
    card = (
        CardLine(
            "hard search: the newest K events of the candidate's category",
            "stated",
            "docs/papers/baselines.md#sim",
            "test_hard_search_finds_the_newest_of_the_category",
        ),
        CardLine(
            "a field or the first semantic code serves as the category (switch `search`)",
            "inferred",
            "docs/papers/baselines.md#sim",
            "test_hard_search_finds_the_newest_of_the_category",
        ),
        CardLine(
            "soft search: the K largest inner products of embeddings",
            "stated",
            "docs/papers/baselines.md#sim",
            "test_soft_search_finds_the_largest_products",
        ),
        CardLine(
            "exact unit: multi-head target attention",
            "stated",
            "docs/papers/baselines.md#sim",
            "test_the_exact_unit_attends_to_chosen_events_alone",
        ),
        CardLine(
            "gradient reaches chosen events only; the numbers are those of embedding all",
            "inferred",
            "docs/papers/baselines.md#the-base-model",
            "test_lazy_gradients_equal_eager_ones",
        ),
        SOFT_COUNTS,
        CardLine(
            "a learned projection of the soft search with its auxiliary loss, as in MUSE's code",
            "left out",
            "docs/papers/baselines.md#sim",
        ),
        CardLine(
            "time concatenated to an event, where ours adds its age; DIEN as the short branch",
            "left out",
            "docs/papers/baselines.md#sim",
        ),
    )
    item_key: Tensor

    def __init__(self, config: SIMConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(backbone.dim, config.heads, config.top, config.soft_counts)
        self.how = config.search
        self.hard = config.search in ("code", "field")
        self.ordered = config.search != "embedding"  # equal scores, which equal items have, go to the newest
        if config.search == "field" and config.field >= len(items.field_sizes):
            raise UserError(
                SETTINGS,
                f"field {config.field} is not one of the {len(items.field_sizes)} item fields",
                "name a smaller one, or add to prepare.columns.fields",
                "models.*.field",
            )
        if config.search == "code":
            self.register_buffer("item_key", torch.from_numpy(items.codebook.item_nodes[:, 0].copy()).int())
        elif config.search == "field":
            self.register_buffer("item_key", items.fields[:, config.field].int())
        else:
            unused = torch.zeros(0, 0)
            self.register_buffer("item_key", items.semantic if config.search == "semantic" else unused)

    def index(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Categories, or distinct items whose frozen vectors are looked up; nothing for learned embeddings."""
        if self.hard:
            return {"long_key": self.item_key[history.items]}
        if self.how == "embedding":
            return {}
        items = distinct(history.items, history.mask)
        return {"long_key": items.slots.int(), "long_distinct": items.values.int()}

    def search(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Hard: all of one category score alike. Soft: inner products, of equal items to the last bit alike."""
        mask = state["long_mask"][:, None, :]
        if self.hard:
            wanted = self.item_key[candidates.items][:, :, None]
            same = (wanted == state["long_key"][:, None, :]) & (wanted >= 0) & mask
            return torch.zeros(same.shape, device=same.device), same
        if self.how == "embedding":
            return torch.bmm(candidates.vectors, state["long_events"].transpose(1, 2)).float(), mask
        keys = self.item_key[state["long_distinct"].clamp(min=0)]
        scores = torch.bmm(self.item_key[candidates.items], keys.transpose(1, 2)).float()  # (R, C, U)
        slots = state["long_key"].clamp(min=0).long()[:, None, :]
        return scores.gather(2, slots.expand(-1, scores.shape[1], -1)), mask

    def cost(self, history: History) -> Cost:
        """Hard search compares numbers; soft search multiplies."""
        length, dim = history.items.shape[1], self.attention.merge.in_features
        different = len(torch.unique(history.items))
        search = {"embedding": length * dim, "semantic": different * self.item_key.shape[-1]}
        keys = 4 * length * (0 if self.how == "embedding" else 1) + 4 * different * (self.how == "semantic")
        return Cost(length * (4 * dim + 1) + keys, 0, 0, search.get(self.how, 0) + self.attention.cost(self.top))


class ETAConfig(AttentionConfig):
    """ETA: search by Hamming distance of SimHash signatures."""

    kind: Literal["eta"] = Field("eta", description="ETA")
    bits: int = Field(32, ge=1, description="bits of a signature")
    top: int = Field(50, ge=1, description="events kept per candidate")
    heads: int = Field(4, ge=1, description="heads of the attention over kept events")
    seed: int = Field(0, ge=0, description="seed of the random planes")


class ETABranch(SearchBranch):
    """ETA: search by Hamming distance of signatures, so that it costs b bits per event instead of D products."""

    ordered = True  # distances are small whole numbers: ties are common and go to the newest
    Config = ETAConfig
    examples: ClassVar = {
        "eta": ETAConfig(bits=40, top=4),
    }
    golden: ClassVar = {
        "eta": ETAConfig(length=None, bits=32, seed=0, top=8, heads=4, soft_counts=False),
    }
    card = (
        CardLine(
            "SimHash signatures of learned embeddings by fixed random planes",
            "stated",
            "docs/papers/baselines.md#eta",
            "test_signatures_are_signs_of_projections",
        ),
        CardLine(
            "the K events of smallest Hamming distance; padding never",
            "stated",
            "docs/papers/baselines.md#eta",
            "test_hamming_search_finds_the_nearest_signatures",
        ),
        CardLine(
            "ties go to the newest event",
            "inferred",
            "docs/papers/baselines.md#eta",
            "test_equal_distances_go_to_the_newest",
        ),
        SOFT_COUNTS,
        CardLine(
            "a hash of the item embedding alone: ours covers frozen content and age",
            "left out",
            "docs/papers/baselines.md#eta",
        ),
        CardLine(
            "the paper's training schedule and its serving system",
            "left out",
            "docs/papers/baselines.md#eta",
        ),
    )
    planes: Tensor

    def __init__(self, config: ETAConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(backbone.dim, config.heads, config.top, config.soft_counts)
        self.register_buffer("planes", hashing.planes(backbone.dim, config.bits, config.seed))

    @torch.no_grad()
    def index(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Packed signatures; (R, L, words) int32."""
        return {"long_key": hashing.pack(hashing.sign_bits(events, self.planes))}

    def search(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Minus the number of differing bits."""
        signatures = hashing.pack(hashing.sign_bits(candidates.vectors, self.planes))
        return -hashing.hamming(signatures, state["long_key"]).float(), state["long_mask"][:, None, :]

    def cost(self, history: History) -> Cost:
        """Hashing is a product, comparing is not."""
        length = history.items.shape[1]
        dim, bits = self.planes.shape
        words = -(-bits // hashing.WORD)
        state = length * (4 * dim + 1 + 4 * words)
        return Cost(state, length * dim * bits, 0, dim * bits + self.attention.cost(self.top))
