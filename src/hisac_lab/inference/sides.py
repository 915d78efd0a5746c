"""Side inputs: what a model reads beside the events of a history, each with how it is fetched for a batch.

A model names those it reads (`Ranker.sides`), by the attribute of `History` that holds them. Adding one is an attribute
there and a class here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.votes import LOW, MEND, Agents
from hisac_lab.events.batches import Requests, in_order
from hisac_lab.events.context import ContextColumns
from hisac_lab.events.instances import InstanceStore, InstanceView
from hisac_lab.events.series import ItemSeries
from hisac_lab.events.side_columns import SideTable
from hisac_lab.events.store import EventStore
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History
from hisac_lab.models.instances import Instances

COLUMNS: tuple[Literal["user", "request"], ...] = ("user", "request")
"""Side inputs that are the data set's own columns."""
MOST_KEPT = 1 << 30
"""Bytes of context that are kept in memory; what takes more is counted batch by batch."""


class Side(ABC):
    """One side input.

    Attributes:
        name: The attribute of `History` that holds it.
        digest: Of the data behind it, which a trained model remembers; None where requests themselves hold them.
    """

    name: str
    digest: str | None = None

    @property
    def warning(self) -> str | None:
        """What to tell of it before a training, one line; None: nothing."""
        return None

    @abstractmethod
    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Any:
        """That of the requests at `index`, on `device`."""


class RequestTime(Side):
    """When each request is made, seconds since 1970; (R,) int64."""

    name = "time"

    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Tensor:
        """Times of the requests at `index`."""
        return torch.from_numpy(requests.time[index].astype(np.int64)).to(device)


class KnownColumns(Side):
    """What the data set says of the users, or of the requests; see `SideColumns`.

    Args:
        name: "user" or "request".
        table: Its columns.
    """

    def __init__(self, name: Literal["user", "request"], table: SideTable) -> None:
        self.name, self.table = name, table

    @classmethod
    def open(cls, model: Ranker, store: EventStore, name: Literal["user", "request"]) -> KnownColumns:
        """Opens those that a model reads; where it learned on an earlier day, as they were told then.

        Raises:
            UserError: The log lacks one.
        """
        there, learned = getattr(store.manifest.context, name), model.user_features.own[name]
        if there == learned:
            return cls(name, store.side(name))
        for kind in ("fields", "numbers"):
            found, wanted = ({column.name for column in getattr(columns, kind)} for columns in (there, learned))
            if lacks := sorted(wanted - found):
                names = ", ".join(there.names) or "none"
                what = f"has {name} columns {names}, the model learned {', '.join(lacks)} as {kind}"
                raise UserError(store.path, what, "name it in prepare.columns, or train again", f"context.{name}")
        return cls(name, store.side(name).as_learned(learned))

    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Tensor:
        """Columns of the requests at `index`; (R, W) float32."""
        rows = requests.user if self.name == "user" else requests.request
        return torch.from_numpy(self.table.rows(np.full(len(index), -1) if rows is None else rows[index])).to(device)


class OneRequest(Side):
    """The same columns for every request.

    Args:
        row: (1, W) float32.
    """

    name = "request"

    def __init__(self, row: Array) -> None:
        self.row = row

    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Tensor:
        """The row, once for each of the requests at `index`; (R, W) float32."""
        return torch.from_numpy(np.repeat(self.row, len(index), axis=0)).to(device)


@dataclass(frozen=True)
class CountedAgents(Side):
    """Agents of every request, counted once: what a serving system does offline.

    Attributes:
        nodes: (N, K) int32, -1 in the padding.
        votes: (N, K) int32.
        coverage: Share of a request's votes that the kept leaves have, mean over the requests that have any.
        facts: As of `Agents`; (N, K, F) float32.
    """

    name = "agents"
    nodes: Array
    votes: Array
    coverage: float = 1.0
    facts: Array | None = None

    @classmethod
    def count(cls, model: Ranker, requests: Requests, runtime: Runtime) -> CountedAgents:
        """Counts the votes of all requests for a model that reads agents."""
        blocks: list[tuple[Array, Agents]] = []
        for index in in_order(requests):
            agents = model.agents(History.of(requests.take(index).histories(), runtime.device))
            assert agents is not None, f"{type(model.long).__name__} names agents and counts none"
            blocks.append((index, agents))
        width = max(agents.nodes.shape[1] for _, agents in blocks)
        nodes = np.full((len(requests), width), -1, np.int32)
        votes = np.zeros((len(requests), width), np.int32)
        told, held = blocks[0][1].facts, np.ones(len(requests))
        facts = None if told is None else np.zeros((len(requests), width, told.shape[2]), np.float32)
        for index, agents in blocks:
            columns = slice(agents.nodes.shape[1])
            nodes[index, columns] = agents.nodes.cpu().numpy()
            votes[index, columns] = agents.votes.cpu().numpy()
            if facts is not None and agents.facts is not None:
                facts[index, columns] = agents.facts.cpu().numpy()
            if agents.coverage is not None:
                held[index] = agents.coverage.cpu().numpy()
        voted = nodes[:, 0] >= 0
        return cls(nodes, votes, float(held[voted].mean()) if voted.any() else 1.0, facts)

    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Agents:
        """Agents of the requests at `index`, no wider than they need."""
        nodes = self.nodes[index]
        width = max(1, int((nodes >= 0).sum(axis=1).max()))
        arrays = (nodes[:, :width], self.votes[index][:, :width])
        leaves, votes = (torch.from_numpy(part.astype(np.int64)).to(device) for part in arrays)
        facts = None if self.facts is None else torch.from_numpy(self.facts[index][:, :width]).to(device)
        return Agents(leaves, votes, facts=facts)

    @property
    def warning(self) -> str | None:
        """That the agents hold few votes, and what mends it."""
        if self.coverage >= LOW:
            return None
        return f"the agents hold {self.coverage:.0%} of a history's votes, below {LOW:.0%}: {MEND}"


@dataclass(frozen=True)
class CandidateContext(Side):
    """What is known of the candidates strictly before each request: it comes with them, not with the history.

    Attributes:
        columns: What the model reads.
        series: Events of items, by name.
        kept: Columns of every candidate of all requests, counted once; (N, C, F) float32. None: count when asked.
    """

    name = "context"
    columns: ContextColumns
    series: Mapping[str, ItemSeries]
    kept: Array | None = None

    @classmethod
    def open(cls, model: Ranker, store: EventStore) -> CandidateContext:
        """Opens the item series that a model reads.

        Raises:
            UserError: They are not there, or prepared with other settings than those it learned with.
        """
        columns, facts = model.context_columns, store.manifest.context
        if not columns.series:
            return cls(columns, {})
        wanted = columns.facts
        if (facts.series, facts.half_lives, facts.unit) != (wanted.series, wanted.half_lives, wanted.unit):
            what = f"has item series of half-lives {list(facts.half_lives)}, the model reads {list(wanted.half_lives)}"
            hint = "train it again, or set prepare.half_lives and time_unit as then"
            raise UserError(store.path, what, hint, "context")
        return cls(columns, {name: ItemSeries.open(store.path, name, facts.half_lives) for name in columns.series})

    def counted(self, requests: Requests) -> CandidateContext:
        """The same, counted once for all requests, unless that takes more than `MOST_KEPT` bytes."""
        shape = (*requests.candidates.shape, len(self.columns.names))
        if 4 * math.prod(shape) > MOST_KEPT:
            return self
        kept = np.zeros(shape, np.float32)
        for index in in_order(requests):
            kept[index] = self._count(requests, index)
        return replace(self, kept=kept)

    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Tensor:
        """Context of the candidates of the requests at `index`; (R, C, F) float32."""
        columns = self._count(requests, index) if self.kept is None else self.kept[index]
        return torch.from_numpy(columns).to(device)

    def _count(self, requests: Requests, index: Array) -> Array:
        asked = requests.take(index)
        return self.columns.of_request(self.series, asked.histories(), asked.candidates, asked.time)


class StoredInstances(Side):
    """Instances of the requests' users, strictly before each request.

    Args:
        view: The store and what the model reads of it.
    """

    name = "instances"

    def __init__(self, view: InstanceView) -> None:
        self.view, self.digest = view, view.store.digest

    @classmethod
    def open(cls, model: Ranker, path: Path | None) -> StoredInstances:
        """Opens the output of the stage `instances` for a model.

        Raises:
            UserError: There is none, or not of the kind or width that the model reads.
        """
        reads = model.reads
        assert reads is not None, f"{type(model.long).__name__} names instances and asks for none"
        if path is None:
            raise UserError("model iat", "there are no stored instances", "run the stage instances")
        store = InstanceStore.open(path, reads.order)
        if reads.row not in store.vectors:
            raise UserError(path, f"holds no rows {reads.row!r}", "set it to user", "instances.order")
        if reads.dim != store.dim:
            hint = "set instances.dim and the model's dim to the same"
            raise UserError(path, f"holds vectors of {store.dim} numbers, the model reads {reads.dim}", hint)
        return cls(InstanceView(store, reads))

    def fetch(self, requests: Requests, index: Array, device: torch.device) -> Instances:
        """The newest instances before the requests at `index`."""
        return Instances.of(self.view.fetch(requests.user[index], requests.time[index]), device)
