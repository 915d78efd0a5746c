"""SAM: sparse attentive memory network (Lin et al., CIKM 2022, arXiv 2208.04022).

Equations are those of the authors' code; where code and text disagree, a switch holds both readings. Sources and
differences are in docs/papers/sam.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig, SequenceConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState

REFINEMENTS = 3


class DualQueryAttention(nn.Module):
    """Sigmoid gates of one pass: a network on [v - e; v * e; q - e; q * e], for candidate v, query q and event e.

    With one query it is the network of the authors' DIN, on [v - e; v * e].

    Its first layer is linear in e once v and q are known, so a matrix of D x H per candidate is made and multiplied
    with the history; the (R, C, L, 4D) tensor is never built.

    Args:
        dim: D.
        hidden: H.
        queries: One or two.
    """

    def __init__(self, dim: int, hidden: int, queries: int = 2) -> None:
        super().__init__()
        parts = 2 * queries
        self.weight = nn.Parameter(torch.randn(parts, hidden, dim) * (parts * dim) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.out = nn.Parameter(torch.randn(hidden) * hidden**-0.5)
        self.out_bias = nn.Parameter(torch.tensor(-3.0))  # a sum over L gates starts small

    def forward(self, v: Tensor, q: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Gate of each event, zero in the padding: v and q (R, C, D), events (R, L, D), mask (R, L) to (R, C, L)."""
        r, c, d = v.shape
        a, b, *second = self.weight  # (H, D) each, for v - e, v * e, q - e, q * e
        if second:
            e, f = second
            matrix = v[:, :, None] * b + q[:, :, None] * f - (a + e)  # (R, C, H, D)
            constant = v @ a.T + q @ e.T + self.bias  # (R, C, H)
        else:
            matrix, constant = v[:, :, None] * b - a, v @ a.T + self.bias
        crossed = torch.bmm(matrix.view(r, -1, d), events.transpose(1, 2)).view(r, c, len(b), -1)
        hidden = torch.sigmoid(crossed + constant[..., None])  # (R, C, H, L)
        gates = torch.sigmoid(torch.einsum("rchl,h->rcl", hidden, self.out) + self.out_bias)
        return gates * mask[:, None, :]


class SAMConfig(SequenceConfig):
    """SAM: a memory that reads the whole history several times for each candidate."""

    kind: Literal["sam"] = Field("sam", description="SAM; 2P: passes 2, 3P: passes 3, 3P+: passes 3 and enhance")
    passes: int = Field(3, ge=1, description="readings of the history")
    enhance: bool = Field(False, description="a second GRU refines the last memory with the candidate (3P+)")
    memory: Literal["iterating", "fixed", "none"] = Field(
        "iterating",
        description="what a pass asks with: the memory of the pass before, or always the candidate; none: no memory, "
        "one pass whose sum goes on, the authors' DIN",
    )
    hidden: int = Field(8, ge=1, description="width of the attention network")
    weight_features: int = Field(16, ge=0, description="features made of the attention weights by place; 0: none")
    positions: int = Field(1000, ge=1, description="newest places those features look at")
    norm: Literal["batch", "layer", "none"] = Field("batch", description="normalization of the output without enhance")
    scale_from: int | None = Field(
        1000, ge=1, description="sums over L events beyond so many are divided by sqrt(L / scale_from); null: none is"
    )
    gate_bias: float | None = Field(
        1.0, ge=-10, le=10, description="first bias of the GRUs' gates, 1 in the authors' framework; null: drawn near 0"
    )
    into: Literal["gate", "tower"] = Field(
        "gate", description="gate: projected, through the gate; tower: straight into the tower"
    )

    @model_validator(mode="after")
    def _one_pass(self) -> SAMConfig:
        if self.memory == "none" and (self.passes > 1 or self.enhance):
            raise ValueError("memory: none reads the history once: set passes: 1, and leave enhance out")
        return self


GOLDEN = SAMConfig(
    length=None,
    passes=3,
    enhance=False,
    memory="iterating",
    hidden=8,
    weight_features=16,
    positions=100,
    norm="batch",
    scale_from=None,
    gate_bias=None,
    into="gate",
)
AS_STATED = {"scale_from": 1000, "gate_bias": 1.0, "into": "tower"}


class SAMBranch(LongBranch):
    """The history is the state; each candidate reads it `passes` times through a memory."""

    Config = SAMConfig
    examples: ClassVar = {
        "sam-2p": SAMConfig(passes=2, positions=30),
        "sam-3p": SAMConfig(positions=10, norm="layer"),
        "sam-3p-plus": SAMConfig(enhance=True, positions=30),
        "sam-released": SAMConfig(memory="fixed", into="tower", positions=30),
        "sam-din": SAMConfig(memory="none", passes=1, norm="none", into="tower", positions=30),
        "sam-scaled": SAMConfig(weight_features=0, norm="none", scale_from=4, gate_bias=None),
    }
    golden: ClassVar = {
        "sam_2p": GOLDEN.model_copy(update={"passes": 2}),
        "sam_3p": GOLDEN,
        "sam_3p_plus": GOLDEN.model_copy(update={"enhance": True}),
        "sam_straight": GOLDEN.model_copy(update={**AS_STATED, "memory": "fixed"}),
        "sam_din": GOLDEN.model_copy(update={**AS_STATED, "memory": "none", "passes": 1, "norm": "none"}),
    }
    card = (
        CardLine(
            "gates come from a network on differences and products of candidate, memory and event",
            "stated",
            "docs/papers/sam.md#dual-query-attention",
            "test_gates_are_factorized",
        ),
        CardLine(
            "gates are sigmoids; their sum over raw events is not normalized",
            "stated",
            "docs/papers/sam.md#dual-query-attention",
            "test_the_read_vector_is_a_plain_sum",
        ),
        CardLine(
            "the memory starts as the candidate; one GRU cell shared by all passes updates it",
            "stated",
            "docs/papers/sam.md#iterative-memory-update",
            "test_the_memory_is_updated_by_one_gru",
        ),
        CardLine(
            "a pass asks with the memory of the pass before (switch `memory`: released code takes the candidate)",
            "inferred",
            "docs/papers/sam.md#iterative-memory-update",
            "test_memories_agree_in_the_first_pass_only",
        ),
        CardLine(
            "3P+: three steps of a second GRU with the candidate refine the last memory",
            "stated",
            "docs/papers/sam.md#memory-enhancement",
            "test_enhancement_refines_the_last_memory",
        ),
        CardLine(
            "16 features of a pass's gates by place",
            "stated",
            "docs/papers/sam.md#output-of-the-module",
            "test_weight_features_look_at_places_from_the_newest",
        ),
        CardLine(
            "places are counted from the newest event; a history longer than `positions` is cut there",
            "inferred",
            "docs/papers/sam.md#output-of-the-module",
            "test_weight_features_look_at_places_from_the_newest",
        ),
        CardLine(
            "2P, 3P: batch normalization of the output (switch `norm`)",
            "stated",
            "docs/papers/sam.md#output-of-the-module",
            "test_two_and_three_passes_are_normalized",
        ),
        CardLine(
            "its statistics are those of every row of a batch, empty candidates with them",
            "inferred",
            "docs/papers/sam.md#output-of-the-module",
            "test_two_and_three_passes_are_normalized",
        ),
        CardLine(
            "the gates' last bias starts at -3, since the sum grows with the length",
            "inferred",
            "docs/papers/sam.md#start-of-the-gates",
            "test_gates_start_small",
        ),
        CardLine(
            "sums over more than `scale_from` events are divided by sqrt(L / scale_from)",
            "inferred",
            "docs/papers/sam.md#start-of-the-gates",
            "test_the_read_vector_is_a_plain_sum",
        ),
        CardLine(
            "gates of the GRUs start with a bias of 1 (switch `gate_bias`)",
            "stated",
            "docs/papers/sam.md#start-of-the-gates",
            "test_gates_of_the_memory_start_with_their_bias",
        ),
        CardLine(
            "the output goes straight into the final network with `into: tower`",
            "stated",
            "docs/papers/sam.md#prediction-and-training",
            "test_the_output_goes_straight_into_the_tower",
        ),
        CardLine(
            "by default a linear layer brings it to the width of the base model, through the gate",
            "inferred",
            "docs/papers/sam.md#where-our-reconstruction-differs",
            "test_sam_stands_in_the_frame",
        ),
        CardLine(
            "2P and 3P have two and three passes, 3P+ three with the enhancement (settings `passes`, `enhance`)",
            "stated",
            "docs/papers/sam.md#passes",
            "test_two_and_three_passes_are_normalized",
        ),
        CardLine(
            "the authors' DIN as a rival with `memory: none`: 8 sigmoid units on difference and product, sigmoid "
            "weights, their features",
            "stated",
            "docs/papers/sam.md#compared-models",
            "test_without_a_memory_it_is_the_authors_din",
        ),
        CardLine(
            "the GRU's reset gate acts before the product with its weights; here behind it",
            "left out",
            "docs/papers/sam.md#where-our-reconstruction-differs",
        ),
        CardLine(
            "widths of the authors' final network; position embeddings",
            "left out",
            "docs/papers/sam.md#prediction-and-training",
        ),
    )

    def __init__(self, config: SAMConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        dim, extra = backbone.dim, config.weight_features
        self.dim, self.ordered = dim, extra > 0
        remembers = config.memory != "none"
        queries = 2 if remembers else 1
        self.passes = nn.ModuleList(DualQueryAttention(dim, config.hidden, queries) for _ in range(config.passes))
        self.memory = nn.GRUCell(dim, dim) if remembers else None
        # With enhancement only the last pass's weight features leave the module.
        looking = 0 if not extra else 1 if config.enhance else config.passes
        self.places = nn.ModuleList(nn.Linear(config.positions, extra) for _ in range(looking))
        if config.enhance:
            self.steps = nn.ModuleList(nn.Linear(dim, dim) for _ in range(REFINEMENTS))
            self.refine = nn.GRUCell(2 * dim, dim)
        width = extra + dim if config.enhance else config.passes * (extra + dim)
        kinds: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norm = None if config.enhance or config.norm == "none" else kinds[config.norm](width)
        self.answers = config.into == "gate"
        self.extra_width = 0 if self.answers else width
        self.merge = nn.Linear(width, dim) if self.answers else nn.Identity()
        if config.gate_bias is not None:
            for cell in (self.memory, self.refine if config.enhance else None):
                if cell is not None:
                    start_gates(cell, config.gate_bias)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Keeps everything: (R, L, D) and its mask."""
        return {"long_events": events, "long_mask": history.mask}

    def read(self, state: UserState, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gates (R, C, L) and memories (R, C, D) of every pass; without a memory, what the one pass has summed."""
        events, mask = state["long_events"], state["long_mask"]
        memory = query = v
        gates, memories = [], []
        for read in self.passes:
            gate = read(v, query, events, mask)
            total = torch.bmm(gate.to(events.dtype), events)
            if self.config.scale_from is not None:
                beyond = mask.sum(dim=1).clamp(min=self.config.scale_from) / self.config.scale_from
                total = total * beyond.rsqrt()[:, None, None]
            memory = total if self.memory is None else self.memory(total.flatten(0, 1), memory.flatten(0, 1)).view_as(v)
            if self.config.memory == "iterating":
                query = memory
            gates.append(gate)
            memories.append(memory)
        return gates, memories

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """(R, C, D), or `extra` where that is all it gives."""
        v = candidates.vectors
        gates, memories = self.read(state, v)
        if self.config.enhance:
            refined = memories[-1]
            for step in self.steps:
                both = torch.cat([step(refined), v], dim=-1)
                refined = self.refine(both.flatten(0, 1), refined.flatten(0, 1)).view_as(v)
            gates, memories = gates[-1:], [refined]
        by_place = [self._by_place(*pair) for pair in zip(self.places, gates, strict=True)] if self.places else []
        answers = torch.cat([*by_place, *memories], dim=-1)
        if isinstance(self.norm, nn.BatchNorm1d):
            answers = self._standardize(self.norm, answers.flatten(0, 1)).view_as(answers)
        elif self.norm is not None:
            answers = self.norm(answers)
        out: Tensor = self.merge(answers)
        return out

    def extra(self, state: UserState, candidates: Candidates) -> Tensor:
        """The module's output as it is, with `into: tower`; (R, C, `extra_width`)."""
        return super().extra(state, candidates) if self.answers else self.attend(state, candidates)

    @staticmethod
    def _standardize(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
        """A batch of one row has no spread of its own: it is normalized with what was learned so far."""
        if norm.training and len(rows) == 1:
            return nn.functional.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        out: Tensor = norm(rows)
        return out

    @staticmethod
    def _by_place(layer: nn.Module, gates: Tensor) -> Tensor:
        """ReLU of a linear layer on the gates, the newest event last whatever the padding."""
        assert isinstance(layer, nn.Linear)
        size = min(layer.in_features, gates.shape[2])
        return torch.relu(gates[:, :, -size:] @ layer.weight[:, -size:].T + layer.bias)

    def cost(self, history: History) -> Cost:
        """Everything is per candidate: the memory starts as the candidate."""
        length, dim, hidden = history.items.shape[1], self.dim, self.config.hidden
        extra = self.config.weight_features
        gate = hidden * dim * length + (2 if self.memory is not None else 1) * dim * hidden + hidden * length
        gru = 6 * dim * dim if self.memory is not None else 0
        candidate = self.config.passes * (gate + length * dim + gru)
        candidate += len(self.places) * min(length, self.config.positions) * extra
        if self.config.enhance:
            candidate += REFINEMENTS * (dim * dim + 9 * dim * dim)
        candidate += self.merge.weight.numel() if isinstance(self.merge, nn.Linear) else 0
        return Cost(length * (4 * dim + 1), 0, 0, candidate)


@torch.no_grad()
def start_gates(cell: nn.GRUCell, bias: float) -> None:
    """Lets reset and update gate start from one bias; PyTorch adds two, of input and state."""
    gates = slice(2 * cell.hidden_size)
    cell.bias_ih[gates], cell.bias_hh[gates] = bias, 0.0
