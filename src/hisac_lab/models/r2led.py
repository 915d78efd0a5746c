"""R2LED: retrieval and refinement with semantic IDs (Liu et al., 2026, arXiv 2602.06622).

The abstract and the opening of the introduction were at hand: this is a reading of them, every part with a switch.
Sources and differences are in docs/papers/r2led.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.model import BackboneConfig, SequenceConfig
from hisac_lab.models.contract import Candidates, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.heads import TargetHeads
from hisac_lab.models.mirrn import means
from hisac_lab.models.r2led_card import CARD
from hisac_lab.models.retrieval import chosen_events, event_state
from hisac_lab.models.tables import Embedding, rows_by_items
from hisac_lab.ops import hashing
from hisac_lab.ops.jagged import distinct, segment_sum
from hisac_lab.ops.select import best_events, gather_events

CASCADE = 4
"""Events the semantic view keeps for each one that the collaborative view picks."""


class R2LEDConfig(SequenceConfig):
    """R2LED: retrieval over routes and views, refinement by gates and cross-attention."""

    kind: Literal["r2led"] = Field("r2led", description="R2LED, a reconstruction from its abstract")
    routes: tuple[Literal["target", "recent", "global"], ...] = Field(
        ("target", "recent", "global"), min_length=1, description="what each search starts from"
    )
    mix: Literal["score", "union", "cascade", "collaborative", "semantic", "random", "newest"] = Field(
        "score",
        description="how views choose events: weighted score, half from each, semantic then collaborative, one alone; "
        "random and newest are controls",
    )
    collaborative: Literal["ids", "events"] = Field(
        "ids",
        description="what the collaborative view hashes: the item table alone, or events with content, fields and age",
    )
    weight: float = Field(0.5, ge=0, le=1, description="mix score only: share of the collaborative view")
    top: int = Field(16, ge=1, description="events kept per route")
    recent: int = Field(16, ge=1, description="newest events the recent route starts from")
    bits: int = Field(32, ge=1, description="bits of a signature in the collaborative view")
    depth: int | None = Field(None, ge=1, description="levels of the semantic IDs in use; null: all")
    tables: Literal["prefix", "code"] = Field(
        "prefix", description="rows of a level's table: one per prefix, or one per code, whatever stands above it"
    )
    level_gate: bool = Field(True, description="a gate weighs the levels; false: their mean")
    target_id: bool = Field(True, description="the tower sees the vector of the candidate's own ID")
    fuse: Literal["views", "items"] = Field(
        "views", description="views: each view is attended to by itself; items: a gate mixes them in each event first"
    )
    fusion: Literal["attention", "concat", "mean"] = Field("attention", description="how the routes' answers meet")
    heads: int = Field(4, ge=1, description="heads of all attentions")
    ids: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: semantic IDs change places among items (control)"
    )
    seed: int = Field(0, ge=0, description="seed of planes, shuffles and the random control")


GOLDEN = R2LEDConfig(
    length=None,
    routes=("target", "recent", "global"),
    mix="score",
    collaborative="events",
    weight=0.5,
    recent=16,
    bits=32,
    depth=3,
    tables="prefix",
    level_gate=True,
    target_id=False,
    fuse="views",
    fusion="attention",
    ids="own",
    seed=0,
    top=8,
    heads=4,
)


class R2LEDBranch(LongBranch):
    """Routes search in two views; gates and attentions refine what they found."""

    lazy = True
    ordered = True
    Config = R2LEDConfig
    examples: ClassVar = {
        "r2led": R2LEDConfig(top=4, recent=3),
        "r2led-events-codes": R2LEDConfig(top=4, recent=3, collaborative="events", tables="code", target_id=False),
        "r2led-union-items": R2LEDConfig(top=4, mix="union", fuse="items", fusion="concat", ids="shuffled"),
        "r2led-cascade": R2LEDConfig(top=2, mix="cascade", fusion="mean", level_gate=False, depth=2),
        "r2led-one-route": R2LEDConfig(routes=("target",), top=4, mix="semantic", heads=1),
    }
    golden: ClassVar = {
        "r2led": GOLDEN,
        "r2led_two_views": GOLDEN.model_copy(update={"collaborative": "ids", "tables": "code", "target_id": True}),
    }
    card = CARD
    planes: Tensor
    item_nodes: Tensor
    level_weights: Tensor

    def __init__(self, config: R2LEDConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.config = config
        depth = config.depth or items.codebook.depth
        if depth > items.codebook.depth:
            raise UserError(
                SETTINGS,
                f"{depth} levels are more than the {items.codebook.depth} of the codebook",
                "lower it or add to tokenize.widths",
                "models.*.depth",
            )
        space = items.shuffled(config.seed) if config.ids == "shuffled" else items
        book = space.codebook.cut(depth)
        dim, heads = backbone.dim, config.heads
        self.depth = depth
        self.extra_width = dim if config.target_id else 0
        self.register_buffer("planes", hashing.planes(dim, config.bits, config.seed))
        self.register_buffer("item_nodes", torch.from_numpy(book.item_nodes.copy()).int())
        doubling = 2.0 ** torch.arange(depth)
        self.register_buffer("level_weights", doubling / doubling.sum())
        # Row 0 of a table stands for items without an ID.
        self.by_code = config.tables == "code"
        by_code = [int(codes.max(initial=0)) + 1 for codes in book.codes]
        sizes = by_code if self.by_code else [len(parents) for parents in book.parents]
        self.tables = nn.ModuleList(Embedding(size + 1, dim) for size in sizes)
        for level, codes in enumerate(book.codes if self.by_code else ()):
            self.register_buffer(f"rows_{level}", torch.from_numpy(np.r_[0, codes + 1].astype(np.int64)))
        for table in self.tables.parameters():
            nn.init.normal_(table, std=0.02)
        self.gate_event = nn.Linear(dim, depth, bias=False) if config.level_gate else None
        self.gate_query = nn.Linear(dim, depth) if config.level_gate else None
        # Where a query of both views is needed, this brings the semantic one into the space of the other.
        bridged = config.fuse == "items" or config.fusion == "attention"
        self.bridge = nn.Linear(dim, dim, bias=False) if bridged else None
        per_route = 1 if config.fuse == "items" else 2
        self.attentions = nn.ModuleList(TargetHeads(dim, heads) for _ in range(per_route * len(config.routes)))
        self.view_gate = nn.Linear(2 * dim, dim) if config.fuse == "items" else None
        answers = len(self.attentions)
        if config.fusion == "attention":
            self.origin = nn.Parameter(torch.randn(answers, dim) * 0.02)  # tells routes and views apart
            self.fusion = TargetHeads(dim, heads)
        elif config.fusion == "concat":
            self.concat = nn.Linear(answers * dim, dim)

    def rows(self, name: str, before: LongBranch, place: Tensor) -> Tensor | None:
        """Of the tables of codes and nodes: a code keeps its row, a node is found by its items."""
        table, _, rest = name.partition(".")
        if table != "tables" or not isinstance(before, R2LEDBranch):
            return None
        level = int(rest.partition(".")[0])
        count, now = (len(branch.get_parameter(name)) for branch in (before, self))
        if self.by_code:
            rows = torch.arange(count)
            return rows.where(rows < now, -1)
        there = place >= 0
        rows = rows_by_items(before.item_nodes[there, level] + 1, self.item_nodes[place[there], level] + 1, count)
        rows[0] = 0
        return rows

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """History, signatures, IDs, and what the routes that know no candidate find; places are (R, routes, K)."""
        state = event_state(history, events)
        state["long_nodes"] = self.item_nodes[history.items]
        with torch.no_grad():
            seen = events if self.config.collaborative == "events" else self.id_vectors(history.items)
            state["long_key"] = self._sign(seen)
            queries, shares = [], []
            newest = torch.zeros_like(history.mask)
            newest[:, -self.config.recent :] = True
            for route in self.config.routes:
                if route != "target":
                    events_of_route = history.mask & newest if route == "recent" else history.mask
                    queries.append(means(seen, events_of_route))
                    shares.append(self._shares(state["long_nodes"], history.mask, events_of_route))
            if queries:
                near = self._near(torch.stack(queries, dim=1), state["long_key"])
                routed = self._mix(near, torch.stack(shares, dim=1), history.mask)
                state["route_places"], state["route_valid"] = routed
        return state

    def _sign(self, vectors: Tensor) -> Tensor:
        return hashing.pack(hashing.sign_bits(vectors, self.planes))

    def _near(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Collaborative view: share of equal bits; (R, Q, L)."""
        return 1 - hashing.hamming(self._sign(queries), keys).float() / self.config.bits

    def _shares(self, nodes: Tensor, mask: Tensor, subset: Tensor) -> Tensor:
        """Semantic view of a set of events: how much of it shares an event's prefix, levels weighed; (R, L)."""
        total = torch.zeros(mask.shape, device=mask.device)
        size = subset.sum(dim=1, keepdim=True).clamp(min=1)
        for level, weight in enumerate(self.level_weights):
            prefixes = distinct(nodes[..., level].long(), mask & (nodes[..., level] >= 0))
            mass = segment_sum(subset[..., None].float(), prefixes.slots, prefixes.values.shape[1])[..., 0]
            share = mass.gather(1, prefixes.slots.clamp(min=0)) / size
            total = total + weight * share * (prefixes.slots >= 0)
        return total

    def _same(self, wanted: Tensor, nodes: Tensor) -> Tensor:
        """Semantic view of a candidate: its longest shared prefix, levels weighed; (R, C, L)."""
        total = torch.zeros(*wanted.shape[:2], nodes.shape[1], device=nodes.device)
        for level, weight in enumerate(self.level_weights):
            prefix, theirs = wanted[:, :, None, level], nodes[:, None, :, level]
            total = total + weight * ((prefix == theirs) & (prefix >= 0))
        return total

    def _mix(self, near: Tensor, same: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Chooses events from both views' scores, (R, Q, L); places and which are real, (R, Q, K)."""
        how, top = self.config.mix, self.config.top
        if how == "score":
            return best_events(self.config.weight * near + (1 - self.config.weight) * same, mask, top)
        if how == "union":
            first = self._chosen(*best_events(near, mask, top // 2), near.shape[2])
            second = best_events(same, mask[:, None] & ~first, top - top // 2)
            both = first | self._chosen(*second, near.shape[2])
            return best_events(torch.zeros_like(near), both, top)
        if how == "cascade":
            kept = self._chosen(*best_events(same, mask, CASCADE * top), near.shape[2])
            return best_events(near, kept, top)
        if how == "random":
            from_newest = near.shape[2] - torch.arange(near.shape[2], device=near.device).double()
            drawn = torch.frac(torch.sin(from_newest * 12.9898 + self.config.seed) * 43758.5453).abs()
            return best_events(drawn.float().expand_as(near), mask, top)
        scores = {"collaborative": near, "semantic": same, "newest": torch.zeros_like(near)}[how]
        return best_events(scores, mask, top)

    @staticmethod
    def _chosen(places: Tensor, valid: Tensor, length: int) -> Tensor:
        """(R, Q, K) places to (R, Q, L) bool."""
        chosen = torch.zeros(*places.shape[:2], length + 1, dtype=torch.bool, device=places.device)
        return chosen.scatter_(2, torch.where(valid, places, length), True)[..., :-1]

    @torch.no_grad()
    def find(self, state: UserState, candidates: Candidates) -> list[tuple[Tensor, Tensor]]:
        """Places of every route and which are real; (R, C or 1, K) each."""
        places, other = [], 0
        for route in self.config.routes:
            if route == "target":
                by_events = self.config.collaborative == "events"
                asked = candidates.vectors if by_events else self.id_vectors(candidates.items)
                near = self._near(asked, state["long_key"])
                same = self._same(self.item_nodes[candidates.items], state["long_nodes"])
                places.append(self._mix(near, same, state["long_mask"]))
            else:
                column = slice(other, other + 1)
                places.append((state["route_places"][:, column], state["route_valid"][:, column]))
                other += 1
        return places

    def retrieve(self, state: UserState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Places of all routes and which are real, two (R, Q, K): C queries or one for each route."""
        places, valid = zip(*self.find(state, candidates), strict=True)
        return torch.cat(places, dim=1), torch.cat(valid, dim=1)

    def semantic(self, vectors: Tensor, nodes: Tensor, queries: Tensor) -> Tensor:
        """Vector of an ID, its levels weighed: (..., D), (..., depth) and queries (..., D) to (..., D)."""
        rows = [self._rows(nodes[..., level].long() + 1, level) for level in range(self.depth)]
        levels = torch.stack([table(row) for table, row in zip(self.tables, rows, strict=True)], dim=-2)
        if self.gate_event is None or self.gate_query is None:
            return levels.mean(dim=-2)
        gates = torch.softmax(self.gate_event(vectors) + self.gate_query(queries), dim=-1)
        return (gates[..., None] * levels).sum(dim=-2)

    def _rows(self, rows: Tensor, level: int) -> Tensor:
        """Rows of a level's table, from those of a table by prefix."""
        return self.get_buffer(f"rows_{level}")[rows] if self.by_code else rows

    def extra(self, state: UserState, candidates: Candidates) -> Tensor:
        """Vector of each candidate's own ID, with `target_id`; (R, C, `extra_width`)."""
        return self._asked(candidates)[..., : self.extra_width]

    def _asked(self, candidates: Candidates) -> Tensor:
        """Vector of each candidate's own ID; (R, C, D)."""
        e_v = candidates.vectors
        return self.semantic(e_v, self.item_nodes[candidates.items], e_v)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """(R, C, D)."""
        e_v = candidates.vectors
        s_v = self._asked(candidates)
        f_v = e_v if self.bridge is None else e_v + self.bridge(s_v)
        answers, non_empty = [], []
        attentions = iter(self.attentions)
        for places, valid in self.find(state, candidates):
            shape = (-1, e_v.shape[1], -1)
            x = chosen_events(state, candidates, places).expand(*shape, -1)
            nodes = gather_events(state["long_nodes"], places).expand(*shape, -1)
            there = valid.expand(*shape)
            s = self.semantic(x, nodes, e_v[:, :, None])
            if self.view_gate is None or self.bridge is None:
                answers += [next(attentions)(e_v, x, there), next(attentions)(s_v, s, there)]
            else:
                z = torch.sigmoid(self.view_gate(torch.cat([x, s], dim=-1)))
                answers.append(next(attentions)(f_v, z * x + (1 - z) * self.bridge(s), there))
            non_empty += [there.any(dim=2)] * (2 if self.view_gate is None else 1)
        stacked, is_real = torch.stack(answers, dim=2), torch.stack(non_empty, dim=2)  # (R, C, A, D), (R, C, A)
        if self.config.fusion == "attention":
            out: Tensor = self.fusion(f_v, stacked + self.origin, is_real)
            return out
        stacked = stacked * is_real[..., None]
        return stacked.mean(dim=2) if self.config.fusion == "mean" else self.concat(stacked.flatten(2))

    def cost(self, history: History) -> Cost:
        """Searching compares bits and codes; refining costs K events per route."""
        length, (dim, bits) = history.items.shape[1], self.planes.shape
        routes, top, answers = len(self.config.routes), self.config.top, len(self.attentions)
        others = sum(route != "target" for route in self.config.routes)
        words = -(-bits // hashing.WORD)
        state = length * (4 * dim + 1 + 4 * words + 4 * self.depth) + others * top * (8 + 1)
        gate = dim * self.depth if self.config.level_gate else 0
        candidate = dim * bits * (routes - others) + 2 * gate + routes * (top * gate + gate)
        candidate += 2 * gate if self.config.target_id else 0
        candidate += 0 if self.bridge is None else dim * dim
        refine = self.attentions[0]
        assert isinstance(refine, TargetHeads)
        candidate += answers * refine.cost(top)
        if self.view_gate is not None:
            candidate += routes * top * 3 * dim * dim
        if self.config.fusion != "mean":
            concat = answers * dim * dim
            candidate += concat if self.config.fusion == "concat" else self.fusion.cost(answers)
        return Cost(state, (length + others) * dim * bits, 0, candidate)
