"""What every model is: `encode` once per request, `score` per candidate.

Shapes: R requests, C candidates, L history length, K agents, D width of representations, S width of the frozen
semantic space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hisac_lab.codebook.tree import Codebook
from hisac_lab.codebook.votes import Agents
from hisac_lab.events.batches import HistoryArrays


@dataclass(frozen=True)
class History:
    """Histories of R requests, newest event last, padded on the left.

    Attributes:
        items: (R, L) int64, 0 in the padding.
        ages: Seconds from event to request; (R, L) int64.
        mask: True at real events; (R, L) bool.
        agents: Votes counted beforehand, or None to count them in `encode`.
    """

    items: Tensor
    ages: Tensor
    mask: Tensor
    agents: Agents | None = None

    @classmethod
    def of(cls, arrays: HistoryArrays, device: torch.device | str = "cpu") -> History:
        """Moves gathered arrays to `device`."""
        items, ages, mask = (torch.from_numpy(part).to(device) for part in (arrays.items, arrays.ages, arrays.mask))
        return cls(items, ages, mask)

    def last(self, count: int) -> History:
        """The most recent `count` events of each history."""
        return replace(
            self,
            items=self.items[:, -count:],
            ages=self.ages[:, -count:],
            mask=self.mask[:, -count:],
            agents=None,
        )


@dataclass(frozen=True)
class UserState:
    """What `encode` leaves of a request: everything `score` needs to know of the user.

    Attributes:
        parts: Tensors with R rows, by name.
    """

    parts: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.parts[name]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors; divide by R for one user."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())


@dataclass(frozen=True)
class ItemSpace:
    """What is known of the items before training: all of it frozen.

    Attributes:
        semantic: L2-normalised embeddings, zero rows for items without one; (items, S) float32.
        fields: Codes of categorical fields; (items, F) int64.
        field_sizes: Cardinality of each field.
        codebook: The global hierarchical codebook.
    """

    semantic: Tensor
    fields: Tensor
    field_sizes: tuple[int, ...]
    codebook: Codebook

    def shape(self) -> dict[str, Any]:
        """What is needed to build an empty space of the same shape: `ItemSpace.blank(**shape)`."""
        return {
            "items": self.semantic.shape[0],
            "width": self.semantic.shape[1],
            "field_sizes": list(self.field_sizes),
            "nodes": [len(parent) for parent in self.codebook.parents],
        }

    @classmethod
    def blank(cls, items: int, width: int, field_sizes: list[int], nodes: list[int]) -> ItemSpace:
        """A space of zeros, to be filled by a state dict."""
        book = Codebook(
            parents=tuple(torch.zeros(count, dtype=torch.int64).numpy() for count in nodes),
            vectors=tuple(torch.zeros(count, width).numpy() for count in nodes),
            counts=tuple(torch.zeros(count, dtype=torch.int64).numpy() for count in nodes),
            item_nodes=torch.zeros(items, len(nodes), dtype=torch.int64).numpy(),
        )
        fields = torch.zeros(items, len(field_sizes), dtype=torch.int64)
        return cls(torch.zeros(items, width), fields, tuple(field_sizes), book)


@dataclass(frozen=True)
class CardLine:
    """One line of a fidelity card.

    Attributes:
        claim: What the model does.
        status: stated (by the paper), inferred (by us), or left out.
        source: Where the paper, or our note on it, says so.
        test: Name of the test that pins it; empty for what is left out.
    """

    claim: str
    status: str
    source: str
    test: str = ""


class LongBranch(nn.Module, ABC):
    """The long-sequence part of a model: the one thing that a new model has to bring."""

    card: tuple[CardLine, ...] = ()

    def agents(self, history: History) -> Agents | None:
        """What depends on frozen artefacts alone and can be counted offline; None when there is nothing."""
        return None

    @abstractmethod
    def encode(self, history: History, events: Tensor) -> dict[str, Tensor]:
        """Condenses a history.

        Args:
            history: R histories.
            events: Representation of each event; (R, L, D).

        Returns:
            Tensors with R rows: the branch's part of the user state.
        """

    @abstractmethod
    def attend(self, state: UserState, queries: Tensor) -> Tensor:
        """Answers candidates from the state: (R, C, D) to (R, C, D)."""
