"""The votes of a candidate's own path: how often, and how lately, a history was at each node above it.

Hierarchical voting (docs/papers/hisac.md#hierarchical-voting) counts a user's behaviors at every node of the codebook
to choose the agents. The counts themselves say much about a candidate: this hands them to the tower. Not of
the paper: a switch of HiSAC, off by default, and a model by itself, the control that asks what else is needed.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.models.contract import Candidates, CardLine, Cost, History, ItemSpace, LongBranch, UserState
from hisac_lab.ops.jagged import distinct

DAY = 86_400.0
FEATURES = 3  # per level: there at all, log votes, log days since the newest
BYTES = 16  # of a node in the state: its number, and two features
NOWHERE = torch.iinfo(torch.int64).max


class PathVotes(nn.Module):
    """Votes of the nodes on a candidate's path.

    Args:
        item_nodes: Node of each item at each level, -1 without a semantic ID; (items, depth) int64.
        dim: D.
    """

    item_nodes: Tensor

    def __init__(self, item_nodes: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("item_nodes", item_nodes)
        self.out = nn.Linear(FEATURES * item_nodes.shape[1], dim)

    @property
    def depth(self) -> int:
        """Levels."""
        return self.item_nodes.shape[1]

    def encode(self, history: History) -> dict[str, Tensor]:
        """Per level: the history's nodes in rising order, (R, U) int64, and their log votes and ages, (R, U, 2)."""
        state = {}
        for level in range(self.depth):
            nodes = self.item_nodes[:, level][history.items]
            distinct_nodes = distinct(nodes, history.mask & (nodes >= 0))
            place = torch.where(distinct_nodes.slots < 0, distinct_nodes.values.shape[1], distinct_nodes.slots)
            newest = torch.full((len(nodes), distinct_nodes.values.shape[1] + 1), NOWHERE, device=nodes.device)
            newest = newest.scatter_reduce(1, place, history.ages, "amin")[:, :-1]
            days = torch.where(distinct_nodes.values < 0, 0, newest).float() / DAY
            facts = torch.stack([distinct_nodes.counts.float(), days], dim=-1).log1p()
            state[f"path_nodes_{level}"] = torch.where(distinct_nodes.values < 0, NOWHERE, distinct_nodes.values)
            state[f"path_votes_{level}"] = facts
        return state

    def attend(self, state: dict[str, Tensor], items: Tensor) -> Tensor:
        """What the path of each candidate got: (R, C) items to (R, C, D)."""
        columns = []
        for level in range(self.depth):
            nodes, facts = state[f"path_nodes_{level}"], state[f"path_votes_{level}"]
            wanted = self.item_nodes[:, level][items]
            place = torch.searchsorted(nodes, wanted).clamp(max=nodes.shape[1] - 1)
            there = (nodes.gather(1, place) == wanted)[..., None].to(facts.dtype)
            votes = facts.gather(1, place[..., None].expand(-1, -1, facts.shape[-1]))
            columns += [there, votes * there]
        out: Tensor = self.out(torch.cat(columns, dim=-1))
        return out

    def state_bytes(self, history: History) -> int:
        """Bytes kept of one request."""
        nodes = self.item_nodes[history.items[history.mask]]
        return sum(BYTES * max(1, len(torch.unique(column[column >= 0]))) for column in nodes.unbind(dim=1))


class VotesConfig(ModelConfig):
    """The votes of the candidate's own path in the codebook, alone: a control for HiSAC."""

    kind: Literal["votes"] = Field("votes", description="votes of the candidate's path, no agents, no attention")


class VotesBranch(LongBranch):
    """The votes of the candidate's own path and nothing else: no agents, no attention.

    Args:
        config: The control.
        backbone: Widths shared by all models.
        items: The codebook.
    """

    Config = VotesConfig
    examples: ClassVar = {
        "votes": VotesConfig(),
    }
    golden: ClassVar = {
        "votes": VotesConfig(),
    }
    card = (
        CardLine(
            "votes are plain counts at the nodes of the codebook",
            "stated",
            "docs/papers/hisac.md#hierarchical-voting",
            "test_a_candidate_is_told_the_votes_of_its_own_path",
        ),
        CardLine(
            "a candidate sees those of its own path and the age of the newest: a control of ours",
            "inferred",
            "docs/papers/baselines.md#votes",
            "test_votes_alone_answer_from_the_path_alone",
        ),
        CardLine(
            "agents, routing, attention",
            "left out",
            "docs/papers/hisac.md#soft-routing-attention",
        ),
    )

    def __init__(self, config: VotesConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__()
        self.path = PathVotes(torch.from_numpy(items.codebook.item_nodes.astype("int64")), backbone.dim)

    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """The history's nodes with their votes and ages."""
        return self.path.encode(history)

    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """What the path of each candidate got; (R, C, D)."""
        return self.path.attend(state.tensors, candidates.items)

    def cost(self, history: History) -> Cost:
        """Grows with the distinct nodes of the history, a candidate with the levels alone."""
        return Cost(self.path.state_bytes(history), 0, 0, self.path.out.weight.numel())
