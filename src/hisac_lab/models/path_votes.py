"""The votes at a candidate's nodes: how often, how lately and how recently on average a history was there.

Hierarchical voting (docs/papers/hisac.md#hierarchical-voting) counts a user's behaviors at every node of the codebook
to choose the agents. The counts themselves say much about a candidate: this hands them to the tower. Not of
the paper: a setting of HiSAC, none by default, and a model by itself, the control that asks what else is needed. The
model also counts in time, and at the nodes of flat codebooks (docs/papers/baselines.md#votes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.base import HalfLife
from hisac_lab.config.model import BackboneConfig, StateConfig
from hisac_lab.events.feedback import VotesFrom
from hisac_lab.models.contract import Candidates, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.features import moments
from hisac_lab.models.votes_card import CARD
from hisac_lab.ops.tally import Tally, count_votes, fold, later, read_votes

RESIDUAL = "residual"
SHUFFLE = 0
"""Seed of the control that gives semantic IDs to other items."""

Soft = tuple[Tensor, Tensor]
"""Nodes of each item, -1 without one, and the item's share in each; (items, n) int64 and float32."""


class VoteCounts(nn.Module):
    """Votes at the nodes of one or several partitions of the items; nothing is learned.

    Args:
        item_nodes: Node of each item in each of P partitions, -1 without one; (items, P) int64.
        half_lives: H half-lives, in days.
        soft: Partitions whose items are shared out, after those.
        first_voting: Lowest level of feedback whose events vote, as of `ItemSpace.first_voting`.
        exposures: Also count the events below it, apart.
    """

    item_nodes: Tensor

    def __init__(
        self,
        item_nodes: Tensor,
        half_lives: Sequence[float] = (),
        soft: Sequence[Soft] = (),
        first_voting: int = 0,
        exposures: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("item_nodes", item_nodes)
        for place, (nodes, shares) in enumerate(soft):
            self.register_buffer(f"soft_nodes_{place}", nodes)
            self.register_buffer(f"soft_shares_{place}", shares)
        self.half_lives, self.first_voting, self.exposures = tuple(half_lives), first_voting, exposures
        self.partitions = item_nodes.shape[1] + len(soft)
        self.counts = (1 + exposures) * self.partitions
        self.width = (3 + len(half_lives)) * self.counts

    def encode(self, history: History) -> dict[str, Tensor]:
        """Per partition: the history's nodes in rising order, (R, U) int64, and their facts, (R, U, 2 + H).

        Of the votes, then of the exposures.
        """
        return self._state(self._count(history))

    def later(self, state: dict[str, Tensor], days: Tensor) -> dict[str, Tensor]:
        """The state of R users seen so many days later; days (R,) float32."""
        return self._state(later(tally, days, self.half_lives) for tally in self._tallies(state))

    def extend(self, state: dict[str, Tensor], new: History, days: Tensor) -> dict[str, Tensor]:
        """The state of R users after more events: what `encode` gives of the longer history.

        Args:
            state: As of an earlier time.
            new: The events since, as they are seen from a later one.
            days: Between the two; (R,) float32.
        """
        pairs = zip(self._tallies(state), self._count(new), strict=True)
        return self._state(fold(tally, event, days, self.half_lives) for tally, event in pairs)

    def features(self, state: dict[str, Tensor], items: Tensor) -> Tensor:
        """What each partition says of each candidate; (R, C) items to (R, C, `width`) float32."""
        columns = []
        books = [*self._books()] * (1 + self.exposures)
        for (nodes, shares), tally in zip(books, self._tallies(state), strict=True):
            columns.append(read_votes(tally, nodes[items], None if shares is None else shares[items]))
        return torch.cat(columns, dim=-1)

    def state_bytes(self, history: History) -> int:
        """Bytes kept of one request: never more than those of all nodes, however long the history."""
        counted = [part.items[part.mask] for part in self._parts(history)]
        kept = (torch.unique(nodes[items]) for items in counted for nodes, _ in self._books())
        entry = 8 + 4 * (2 + len(self.half_lives))
        return sum(entry * max(1, int((nodes >= 0).sum())) for nodes in kept)

    def _count(self, history: History) -> Iterator[Tally]:
        for part, (item_nodes, item_shares) in product(self._parts(history), self._books()):
            nodes = item_nodes[part.items]
            shares = None if item_shares is None else item_shares[part.items].flatten(1)
            there = (part.mask[..., None] & (nodes >= 0)).flatten(1)
            each_ages = part.ages[..., None].expand_as(nodes).flatten(1)
            yield count_votes(nodes.flatten(1), each_ages, there, self.half_lives, shares)

    def _parts(self, history: History) -> Iterator[History]:
        """The events that vote and, where they count, those that do not."""
        yield history.voters(self.first_voting)
        if self.exposures:
            yield history.negatives(self.first_voting)

    def _books(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Nodes of each item in each partition, (items, n), and its shares in them."""
        for column in self.item_nodes.unbind(dim=1):
            yield column[:, None], None
        for place in range(self.partitions - self.item_nodes.shape[1]):
            yield getattr(self, f"soft_nodes_{place}"), getattr(self, f"soft_shares_{place}")

    def _state(self, tallies: Iterable[Tally]) -> dict[str, Tensor]:
        state = {}
        for place, tally in enumerate(tallies):
            state[f"path_nodes_{place}"], state[f"path_votes_{place}"] = tally
        return state

    def _tallies(self, state: dict[str, Tensor]) -> Iterator[Tally]:
        for place in range(self.counts):
            yield Tally(state[f"path_nodes_{place}"], state[f"path_votes_{place}"])


class PathVotes(VoteCounts):
    """Votes of the nodes on a candidate's path, projected to an answer for the gate.

    Args:
        item_nodes: Node of each item at each level, -1 without a semantic ID; (items, depth) int64.
        dim: D.
        half_lives: As of `VoteCounts`.
        soft: As of `VoteCounts`.
        first_voting: As of `VoteCounts`.
        exposures: As of `VoteCounts`.
    """

    def __init__(
        self,
        item_nodes: Tensor,
        dim: int,
        half_lives: Sequence[float] = (),
        soft: Sequence[Soft] = (),
        first_voting: int = 0,
        exposures: bool = False,
    ) -> None:
        super().__init__(item_nodes, half_lives, soft, first_voting, exposures)
        self.out = nn.Linear(self.width, dim)

    def attend(self, state: dict[str, Tensor], items: Tensor) -> Tensor:
        """What the path of each candidate got: (R, C) items to (R, C, D)."""
        out: Tensor = self.out(self.features(state, items))
        return out


class VotesConfig(StateConfig):
    """The votes at the candidate's own nodes, alone: a control for HiSAC."""

    kind: Literal["votes"] = Field("votes", description="votes of the candidate's path, no agents, no attention")
    books: tuple[str, ...] = Field(
        (RESIDUAL,),
        min_length=1,
        description="codebooks that votes are counted in: residual, each level of it; flat_256 and the like, of "
        "tokenize.flat",
    )
    half_lives: tuple[HalfLife, ...] = Field(
        (), description="days; votes are counted once more for each, fading by half in that time"
    )
    votes_from: VotesFrom = Field(
        "positives", description="positives: events whose feedback is known to be negative do not vote; all: they do"
    )
    exposures: bool = Field(
        False, description="also count, apart, the events known to be negative: exposures without click, dislikes"
    )
    own_item: bool = Field(False, description="also the votes for the candidate itself: state grows with items")
    nearest: int = Field(1, ge=1, description="flat codebooks: nodes that an item's vote is shared out to; 1: its own")
    tau: float = Field(0.05, gt=0, description="softness of those shares: softmax over -|e - z|^2 / tau")
    into: Literal["gate", "tower"] = Field(
        "gate", description="gate: projected, through the gate; tower: standardized, straight into the tower"
    )
    ids: Literal["own", "shuffled"] = Field(
        "own", description="shuffled: nodes change places among items, own_item aside (control)"
    )

    @model_validator(mode="after")
    def _books_fit(self) -> VotesConfig:
        if len(set(self.books)) < len(self.books):
            raise ValueError(f"books is {list(self.books)}, a codebook twice: name each once")
        if self.nearest > 1 and set(self.books) == {RESIDUAL}:
            raise ValueError(f"nearest is {self.nearest}, but books has no flat codebook: name one, or set nearest: 1")
        if self.exposures and self.votes_from == "all":
            raise ValueError("exposures are counted apart from the votes: set votes_from: positives")
        return self


GOLDEN = VotesConfig(
    length=None,
    books=(RESIDUAL,),
    half_lives=(),
    votes_from="all",
    exposures=False,
    own_item=False,
    nearest=1,
    tau=0.05,
    into="gate",
    ids="own",
    state_bits=32,
)
TIMED = {"half_lives": (1.0, 7.0, 30.0, 90.0), "into": "tower"}


class VotesBranch(LongBranch):
    """The votes at the candidate's own nodes and nothing else: no agents, no attention.

    Args:
        config: The control.
        backbone: Widths shared by all models.
        items: The codebooks.

    Raises:
        UserError: A codebook is not there, or has fewer nodes than a vote is shared out to.
    """

    Config = VotesConfig
    examples: ClassVar = {
        "votes": VotesConfig(),
        "votes-with-half-lives-through-the-gate": VotesConfig(half_lives=(7.0,), own_item=True),
        "votes-straight-into-the-tower": VotesConfig(half_lives=(2.0, 60.0), own_item=True, into="tower"),
        "votes-of-flat-books": VotesConfig(books=(RESIDUAL, "flat_6"), half_lives=(30.0,), into="tower"),
        "votes-beside-exposures": VotesConfig(half_lives=(30.0,), exposures=True, into="tower"),
        "votes-shared-out": VotesConfig(books=("flat_6",), nearest=3, tau=0.3, into="gate"),
        "votes-shuffled": VotesConfig(books=(RESIDUAL, "flat_6"), ids="shuffled"),
    }
    golden: ClassVar = {
        "votes": GOLDEN,
        "votes_half_lives": GOLDEN.model_copy(update=TIMED | {"own_item": True}),
        "votes_flat": GOLDEN.model_copy(update=TIMED | {"books": (RESIDUAL, "flat_6")}),
        "votes_exposures": GOLDEN.model_copy(update=TIMED | {"votes_from": "positives", "exposures": True}),
        "votes_shared_out": GOLDEN.model_copy(update=TIMED | {"books": ("flat_6",), "nearest": 3, "tau": 0.3}),
    }
    card = CARD
    extends = True

    shift: Tensor
    scale: Tensor

    def __init__(self, config: VotesConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        nodes, soft = _partitions(config, items.shuffled(SHUFFLE) if config.ids == "shuffled" else items)
        first_voting = items.first_voting(config.votes_from)
        self.names = _names(config, items.codebook.depth)
        self.path: VoteCounts
        if config.into == "gate":
            self.path = PathVotes(nodes, backbone.dim, config.half_lives, soft, first_voting, config.exposures)
            return
        self.path = VoteCounts(nodes, config.half_lives, soft, first_voting, config.exposures)
        self.answers, self.embeds, self.standardizes = False, False, True
        self.extra_width = self.path.width
        self.register_buffer("shift", torch.zeros(self.extra_width))
        self.register_buffer("scale", torch.ones(self.extra_width))

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """The history's nodes with their votes and ages."""
        return self.path.encode(history)

    def extend(self, state: dict[str, Tensor], new: History, days: Tensor) -> dict[str, Tensor]:
        """Votes are sums, to which new ones are added."""
        return self.path.extend(state, new, days)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """What the nodes of each candidate got; (R, C, D), or `extra` where that is all it gives."""
        if isinstance(self.path, PathVotes):
            return self.path.attend(state.tensors, candidates.items)
        return self.extra(state, candidates)

    def extra(self, state: UserState, candidates: Candidates) -> Tensor:
        """What the nodes of each candidate got, standardized; (R, C, `extra_width`)."""
        if self.answers:
            return super().extra(state, candidates)
        return (self.path.features(state.tensors, candidates.items) - self.shift) * self.scale

    def node_votes(self, state: UserState, items: Tensor) -> dict[str, Tensor]:
        """Votes at each candidate's own nodes and days since the newest; (R, C, 2) by partition."""
        columns = self.path.features(state.tensors, items).view(*items.shape, len(self.names), -1)
        return dict(zip(self.names, columns[..., 1:3].expm1().unbind(dim=2), strict=True))

    def standardize(self, batches: Iterable[tuple[History, Tensor, Tensor]]) -> None:
        """Takes mean and spread of each feature from training requests; a constant one is silent."""
        encode, features = self.path.encode, self.path.features
        shift, scale = moments(features(encode(history), items)[mask] for history, items, mask in batches)
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def cost(self, history: History) -> Cost:
        """Grows with the distinct nodes of the history up to those there are, a candidate with the partitions alone."""
        projected = self.path.out.weight.numel() if isinstance(self.path, PathVotes) else 0
        return Cost(self.path.state_bytes(history), 0, 0, projected)


def _names(config: VotesConfig, depth: int) -> list[str]:
    """What the partitions of `_partitions` are called, in their order."""
    levels = [f"{RESIDUAL} level {level}" for level in range(1, depth + 1)]
    hard = [name for book in config.books for name in (levels if book == RESIDUAL else [book])]
    soft = [] if config.nearest == 1 else [book for book in config.books if book != RESIDUAL]
    names = [name for name in hard if name not in soft] + ["the item itself"] * config.own_item + soft
    return names + [f"{name}, negatives" for name in names] * config.exposures


def _partitions(config: VotesConfig, items: ItemSpace) -> tuple[Tensor, list[Soft]]:
    """The hard partitions that votes are counted in, (items, P) int64, and the soft ones."""
    tree, flat = items.codebook, items.codebook.flat
    columns, soft = [], list[Soft]()
    for name in config.books:
        if name == RESIDUAL:
            columns.append(tree.item_nodes)
            continue
        if name not in flat:
            there = ", ".join([RESIDUAL, *flat])
            what = f"there is no codebook {name!r}"
            raise UserError(SETTINGS, what, f"name one of {there}, or add to tokenize.flat", "models.*.books")
        if config.nearest > len(flat[name].vectors):
            what = f"{config.nearest} nodes are more than the {len(flat[name].vectors)} of {name}"
            raise UserError(SETTINGS, what, "lower it", "models.*.nearest")
        if config.nearest == 1:
            columns.append(flat[name].item_nodes[:, None])
        else:
            nodes, shares = flat[name].spread(items.semantic.numpy(), config.nearest, config.tau)
            soft.append((torch.from_numpy(nodes), torch.from_numpy(shares)))
    count = len(items.semantic)
    if config.own_item:
        columns.append(np.arange(count)[:, None])
    hard = np.concatenate([np.zeros((count, 0), np.int64), *columns], axis=1)
    return torch.from_numpy(hard.astype(np.int64)), soft
