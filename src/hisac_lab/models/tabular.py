"""Rankers over columns of numbers: counts of the history at what the candidate is, and context features.

What a practitioner tries first (docs/papers/baselines.md#columns): no representation of items, no short branch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.base import HalfLife
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History, ItemSpace, UserState
from hisac_lab.models.fitted import Labeled
from hisac_lab.models.path_votes import RESIDUAL, VoteCounts

USER = ("length", "recency", "pace", "rate", "day", "week", "user", "request")
"""Context features that know nothing of the candidate."""
ITEM = ("item_recency", "popularity", "item_rate")
"""Those that know nothing of the user."""
BOTH = ("pair",)
FIELDS, OWN = "fields", "item"

Read = Annotated[
    str,
    Field(pattern=rf"^({RESIDUAL}|flat_\d+(_\d+)?|{FIELDS}|{OWN}|{'|'.join((*USER, *ITEM, *BOTH))})$"),
]


class TabularConfig(ModelConfig):
    """What rankers over columns read."""

    reads: tuple[Read, ...] = Field(
        (
            *(RESIDUAL, FIELDS, OWN),
            *("length", "recency", "pace", "rate", "user", "request"),
            *("item_recency", "popularity", "item_rate"),
        ),
        min_length=1,
        description="columns: what the history holds at each level of the candidate's semantic ID (residual), at its "
        "node of a flat codebook (flat_256 and the like), at each categorical field (fields), of itself (item); "
        "context features, as of backbone.features; what the data cannot give is left out",
    )
    half_lives: tuple[HalfLife, ...] = Field(
        (1.0, 7.0, 30.0, 90.0), description="days; a history is counted once more for each, fading by half in that time"
    )
    exposures: bool = Field(
        True, description="events that are known to be negative are counted too, apart, where the log has feedback"
    )

    @property
    def control(self) -> Literal["item", "user"] | None:
        """The only side that its columns read."""
        sides = {"user" if name in USER else "item" if name in ITEM else "both" for name in self.reads}
        return None if len(sides) > 1 or "both" in sides else "user" if "user" in sides else "item"


class TabularRanker(Ranker):
    """A ranker that sees a candidate as a row of numbers.

    Args:
        config: What it reads.
        backbone: Whether it is told feedback.
        items: Codebooks and fields.

    Attributes:
        width: Numbers in a row.

    Raises:
        UserError: A codebook that it reads is not there.
    """

    def __init__(self, config: TabularConfig, backbone: BackboneConfig, items: ItemSpace) -> None:
        super().__init__(backbone, items, tuple(name for name in config.reads if name in USER + ITEM + BOTH))
        partitions = _partitions(config.reads, items)
        first_voting, apart = (0, False) if self.levels is None else (self.levels.positive, config.exposures)
        self.counts: VoteCounts | None = None
        if partitions.shape[1]:
            self.counts = VoteCounts(partitions, config.half_lives, (), first_voting, apart)
        counted = 0 if self.counts is None else self.counts.width
        self.width = self.user_features.width + len(self.context_columns.names) + counted
        if not self.width:
            hint = "name others, or tell histories with feedback (prepare.history)"
            raise UserError(SETTINGS, f"the log gives none of {', '.join(config.reads)}", hint, "models.*.reads")

    @abstractmethod
    def logits(self, rows: Tensor) -> Tensor:
        """Rows of numbers to logits; (..., F) to (...) float32."""

    def table_macs(self, slate: int) -> int:
        """No table of items."""
        return 0

    def encode(self, history: History) -> UserState:
        """Context features of the user, and counts of the history; of known negatives apart, where asked for."""
        counted = {} if self.counts is None else self.counts.encode(history)
        return UserState({"context": self.user_features.of(history)} | counted)

    def rows(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """What is read of each candidate: of the user, of the candidate's context, counts.

        Args:
            state: Of R users.
            candidates: (R, C) items.
            context: Of the candidates, where it is read; (R, C, F) float32.

        Returns:
            (R, C, `width`) float32.
        """
        columns = [state["context"][:, None, :].expand(-1, candidates.shape[1], -1)]
        if self.context_columns.names:
            assert context is not None, "the model reads the context of candidates"
            columns.append(context)
        if self.counts is not None:
            columns.append(self.counts.features(state.tensors, candidates))
        return torch.cat(columns, dim=-1)

    def labeled(self, batches: Iterable[Labeled]) -> tuple[Tensor, Tensor, Tensor]:
        """All rows to learn from, (n, F) float32, their labels and their weights, (n,) float32 each."""
        rows, labels, weights = list[Tensor](), list[Tensor](), list[Tensor]()
        for batch in batches:
            read = self.rows(self.encode(batch.history), batch.candidates, batch.context)
            rows.append(read[batch.mask].cpu())
            labels.append(batch.labels[batch.mask].cpu())
            weights.append(torch.ones_like(labels[-1]) if batch.weights is None else batch.weights[batch.mask].cpu())
        return torch.cat(rows), torch.cat(labels), torch.cat(weights)

    def score(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """Per candidate: (R, C) items, and their context where it is read, to (R, C) logits."""
        return self.logits(self.rows(state, candidates, context))


def _partitions(reads: tuple[str, ...], items: ItemSpace) -> Tensor:
    """Node of each item in each partition that is counted in, -1 without one; (items, P) int64."""
    count, flat = len(items.semantic), items.codebook.flat
    columns = [np.zeros((count, 0), np.int64)]
    for name in reads:
        if name == RESIDUAL:
            columns.append(items.codebook.item_nodes)
        elif name == FIELDS:
            columns.append(items.fields.numpy())
        elif name == OWN:
            columns.append(np.arange(count)[:, None])
        elif name in flat:
            columns.append(flat[name].item_nodes[:, None])
        elif name.startswith("flat_"):
            there = ", ".join([RESIDUAL, *flat])
            raise UserError(SETTINGS, f"there is no codebook {name!r}", f"name one of {there}, or add to tokenize.flat",
                            "models.*.reads")  # fmt: skip
    return torch.from_numpy(np.concatenate(columns, axis=1).astype(np.int64))
