"""The backbone every model stands in: item encoder, short branch, the long branch under test, one tower."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hisac_lab.codebook.votes import Agents
from hisac_lab.config.model import USUAL, Attention, BackboneConfig
from hisac_lab.events.context import ContextColumns
from hisac_lab.events.instances import InstanceQuery
from hisac_lab.models.contract import Candidates, CardLine, History, ItemSpace, LongBranch, UserState
from hisac_lab.models.din import TargetAttention
from hisac_lab.models.features import PERIODS, UserFeatures, moments
from hisac_lab.models.packing import pack, unpack
from hisac_lab.models.tables import Embedding, ShardedTable, draw, every, item_table
from hisac_lab.ops.buckets import AGE_BUCKETS, age_bucket
from hisac_lab.ops.select import take_rows

BACKBONE_CARD = (
    CardLine(
        "a short branch over the newest events beside the long one; products of candidate and answers in the tower; a "
        "gate before the long branch's answer, 0.1 at first",
        "inferred",
        "docs/papers/baselines.md#the-base-model",
        "test_the_tower_sees_answers_and_their_products",
    ),
    CardLine(
        "every event holds an embedding of its age, and one of its feedback where the log has some",
        "inferred",
        "docs/papers/baselines.md#the-base-model",
        "test_an_event_is_the_sum_of_item_age_and_feedback",
    ),
    CardLine(
        "dense parameters train with AdamW, tables with Adagrad, whatever a paper has",
        "inferred",
        "docs/papers/baselines.md#the-base-model",
        "test_tables_go_to_adagrad_and_all_else_to_adam_each_once",
    ),
)
"""Of every long branch: what the paper's model does not have around it."""


class ItemEncoder(nn.Module):
    """Item id, fields, numbers and the frozen semantic vector, projected and summed to one vector of width D."""

    semantic: Tensor
    fields: Tensor
    numbers: Tensor

    def __init__(self, items: ItemSpace, dim: int, table_mb: float | None = None) -> None:
        super().__init__()
        self.ids = item_table(len(items.semantic), dim, table_mb, items.held, items.blanked)
        self.tables = nn.ModuleList(Embedding(size, dim) for size in items.field_sizes)
        self.project = nn.Linear(items.semantic.shape[1], dim)
        for table in (*(() if items.blanked else (self.ids,)), *self.tables):
            draw(table)
        self.register_buffer("semantic", items.semantic)
        self.register_buffer("fields", items.fields)
        self.measure: nn.Linear | None = None
        if items.numbers is not None:
            with torch.random.fork_rng([]):  # all other weights start as in a model that is told no numbers
                self.measure = nn.Linear(items.numbers.shape[1], dim, bias=False)
                nn.init.normal_(self.measure.weight, std=0.02)
            self.register_buffer("numbers", items.numbers)

    def forward(self, items: Tensor) -> Tensor:
        """Item numbers of any shape to (..., D); each distinct item is computed once.

        A catalog's worth of numbers is looked up in the whole catalog, unless its gradient had to be sparse, or not all
        of it is here.
        """
        partial = isinstance(self.ids, ShardedTable) or (self.ids.sparse and torch.is_grad_enabled())
        if items.numel() >= len(self.semantic) and not partial:
            return take_rows(self._encode(slice(None)), items)
        distinct, place = torch.unique(items, return_inverse=True)
        return take_rows(self._encode(distinct), place)

    def id_vectors(self, items: Tensor) -> Tensor:
        """Vectors of the item table alone: (...) int64 to (..., D)."""
        vectors: Tensor = self.ids(items)
        return vectors

    def cost(self, items: Tensor) -> int:
        """Multiply-adds of encoding these items."""
        catalog = len(self.semantic)
        rows = catalog if items.numel() >= catalog else len(torch.unique(items))
        return rows * self.width * self.ids.embedding_dim

    @property
    def width(self) -> int:
        """Frozen numbers of an item that are projected."""
        return self.semantic.shape[1] + (0 if self.measure is None else self.measure.in_features)

    def _encode(self, items: Tensor | slice) -> Tensor:
        embedding = every(self.ids) if isinstance(items, slice) else self.ids(items)
        frozen = self.semantic if isinstance(items, slice) else take_rows(self.semantic, items)
        vector: Tensor = embedding + self.project(frozen)
        for column, table in enumerate(self.tables):
            vector = vector + table(self.fields[items, column])
        if self.measure is not None:
            vector = vector + self.measure(self.numbers if isinstance(items, slice) else take_rows(self.numbers, items))
        return vector


class Ranker(nn.Module, ABC):
    """What every model is to those who train, evaluate and serve it: histories in, logits of candidates out.

    Args:
        backbone: The section `backbone`.
        items: Frozen knowledge of the items.
        asked: Names of the features that it is to be told.

    Attributes:
        levels: Of the feedback that it reads; None where it reads none.
        catalog: How many items there are.
        asked: Names of the features that it is to be told; it is told those that the data give.
        user_features: What it is told of user and request.
        context_columns: What it is told of a candidate beside the item itself, F columns.
        long: Its long branch; None: it has none.
        state_bits: Of a number in a state that no gradient passes.
        tasks: Names of the answers that it gives beside the label's, T of them.
    """

    state_bits = 32
    tasks: tuple[str, ...] = ()

    def __init__(self, backbone: BackboneConfig, items: ItemSpace, asked: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone, self.asked = backbone, asked
        self.catalog = len(items.semantic)
        self.levels = items.feedback if backbone.feedback else None
        self.user_features = UserFeatures(asked, items.context, self.levels)
        self.context_columns = ContextColumns.of(asked, items.context, self.levels)
        self.long: LongBranch | None = None

    @abstractmethod
    def encode(self, history: History) -> UserState:
        """Once per request: histories to user states; knows no candidate."""

    @abstractmethod
    def score(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """Per candidate: (R, C) items, and their context (R, C, F) where the model reads it, to (R, C) logits."""

    def answer(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """As `score`, with the logits of the further answers behind those of the label; (R, C, 1 + T)."""
        return self.score(state, candidates, context)[..., None]

    @abstractmethod
    def table_macs(self, slate: int) -> int:
        """Multiply-adds of a table of items, kept by a server, for a slate of one item, so many times."""

    def forward(self, history: History, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """`encode`, then `score`."""
        return self.score(self.encode(history), candidates, context)

    @property
    def sides(self) -> frozenset[str]:
        """Side inputs that the model reads, by the attribute of `History` that holds them."""
        told = set(self.user_features.own)
        if any(name in PERIODS for name in self.user_features.names):
            told.add("time")
        return frozenset(told) if self.long is None else self.long.sides | told

    @property
    def reads(self) -> InstanceQuery | None:
        """Which stored instances the model reads, where `sides` names them."""
        return None if self.long is None else self.long.reads

    def agents(self, history: History) -> Agents | None:
        """What can be counted offline for these histories (see `LongBranch.agents`)."""
        return None if self.long is None else self.long.agents(self.long.shown(history))

    @property
    def extends(self) -> bool:
        """Whether `extend` gives what `encode` gives; where not, longer histories are encoded anew."""
        return False

    def extend(self, state: UserState, history: History, new: int, days: Tensor) -> UserState:
        """The state of longer histories from an earlier one, of a model that `extends`.

        Args:
            state: Of R histories without their newest events.
            history: With them, seen from a later time.
            new: How many they are, of each.
            days: Between the two times; (R,) float32.
        """
        raise TypeError(f"{type(self).__name__} does not extend states")

    def explain(self, state: UserState, candidates: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """What its long branch read of users for candidates: see `LongBranch.agent_weights` and `node_votes`."""
        return None, {}

    def no_context(self, candidates: Tensor) -> Tensor | None:
        """Zeros in place of the context of (R, C) candidates, for who counts or measures; None where it reads none."""
        more = len(self.context_columns.names)
        return torch.zeros(*candidates.shape, more, device=candidates.device) if more else None

    def standardize(self, contexts: Iterable[Tensor]) -> None:
        """Looks at contexts of training requests before the first step, where the model is stepped.

        Args:
            contexts: Of real candidates; (n, F) each.
        """


class Backbone(Ranker):
    """A click model: short branch (target attention on the last events), optional long branch, tower.

    Args:
        backbone: Widths shared by all models.
        items: Frozen knowledge of the items.
        long: The long branch under test; None leaves the short branch alone.
        attention: Of the short branch.

    Attributes:
        shift: What is subtracted from the columns of a candidate's context; (F,).
        scale: What the rest is multiplied by; (F,).
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, backbone: BackboneConfig, items: ItemSpace, long: LongBranch | None, attention: Attention = USUAL
    ) -> None:
        super().__init__(backbone, items, backbone.features)
        self.encoder = ItemEncoder(items, backbone.dim, backbone.table_mb)
        if backbone.semantic_std is not None:
            nn.init.normal_(self.encoder.project.weight, std=backbone.semantic_std)
        self.age = Embedding(AGE_BUCKETS, backbone.dim)
        nn.init.normal_(self.age.weight, std=0.02)
        self.short = TargetAttention(backbone.dim, backbone.attention_hidden, attention)
        self.long = long
        if long is not None:
            long.id_vectors, long.item_vectors = self.encoder.id_vectors, self.encoder.forward
            long.item_cost = self.encoder.cost
        # The long branch starts nearly silent and earns its weight: short histories lose nothing by it.
        gated = long is not None and long.answers
        self.gate = nn.Parameter(torch.full((backbone.dim,), 0.1)) if gated else None
        extra = self.short.soft_counts + (0 if long is None else long.soft_counts + long.extra_width)
        width = backbone.dim * (5 if gated else 3) + extra + self.user_features.width
        widths = [width, *backbone.tower]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(backbone.dropout)]
        self.tower = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        if more := len(self.context_columns.names):
            self.tower[0] = _widened(layers[0], more)
            self.register_buffer("shift", torch.zeros(more))
            self.register_buffer("scale", torch.ones(more))
        self.tasks = tuple(backbone.tasks)
        self.further: nn.Linear | None = None
        if self.tasks:
            with torch.random.fork_rng([]):
                self.further = nn.Linear(widths[-1], len(self.tasks))
        self.feedback: Embedding | None = None
        if self.levels is not None:
            with torch.random.fork_rng([]):  # all other weights start as in a model that is told no feedback
                self.feedback = Embedding(len(self.levels), backbone.dim)
                nn.init.normal_(self.feedback.weight, std=0.02)

    def table_macs(self, slate: int) -> int:
        """Multiply-adds of the encoder's table of items for a slate of one item, so many times.

        It has one row, or all of them in a catalog no larger than the slate (see `ItemEncoder`); a server keeps it.
        """
        rows = len(self.encoder.semantic)
        return self.encoder.width * self.backbone.dim * (rows if slate >= rows else 1)

    def embed(self, items: Tensor, ages: Tensor, feedback: Tensor) -> Tensor:
        """Representation of events, to which unknown feedback adds nothing; three (...) int64 to (..., D)."""
        vectors: Tensor = self.encoder(items) + self.age(age_bucket(ages))
        if self.feedback is not None:
            unknown_first = nn.functional.pad(self.feedback.weight, (0, 0, 1, 0))
            vectors = vectors + take_rows(unknown_first, feedback)
        return vectors

    def encode(self, history: History) -> UserState:
        """Once per request: histories to user states; knows no candidate."""
        width = self.backbone.short_window
        shown = history if self.long is None else self.long.shown(history)
        read = shown.items.shape[1] if self.long is not None and self.long.embeds else width
        visible = history.last(max(width, read))
        if self.long is not None and self.long.lazy and torch.is_grad_enabled():
            with torch.no_grad():
                events = self.embed(visible.items, visible.ages, visible.feedback)
            newest = self.embed(*(part[:, -width:] for part in (visible.items, visible.ages, visible.feedback)))
        else:
            events = self.embed(visible.items, visible.ages, visible.feedback)
            newest = events[:, -width:]
        tensors = self._near(history, newest)
        if self.long is not None:
            tensors |= self.long.encode(shown, events[:, -read:])
        return UserState(tensors if self.state_bits == 32 or torch.is_grad_enabled() else pack(tensors))

    @property
    def extends(self) -> bool:
        """See `Ranker.extends`; not of a subclass that keeps more."""
        whole = self.long is None or (self.long.extends and self.long.length is None)
        return whole and self.state_bits == 32 and type(self).encode is Backbone.encode

    def extend(self, state: UserState, history: History, new: int, days: Tensor) -> UserState:
        """See `Ranker.extend`: the short branch's part is of few events and made anew."""
        grown = {} if self.long is None else self.long.extend(state.tensors, history.last(new), days)
        near = history.last(self.backbone.short_window)
        return UserState(self._near(history, self.embed(near.items, near.ages, near.feedback)) | grown)

    def _near(self, history: History, newest: Tensor) -> dict[str, Tensor]:
        """The state but for the long branch's part, from representations of the newest events, (R, W, D)."""
        mask = history.mask[:, -newest.shape[1] :]
        return {"short_events": newest, "short_mask": mask, "context": self.user_features.of(history)}

    def features(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """What the tower sees of each candidate; (R, C) items to (R, C, width of the tower).

        Raises:
            ValueError: It reads the context of candidates, and there is none.
        """
        queries, dim = self.encoder(candidates), self.backbone.dim
        answer = self.short(queries, state["short_events"], state["short_mask"])
        answers, straight = [answer[..., :dim]], [state["context"][:, None, :].expand(-1, queries.shape[1], -1)]
        straight.append(answer[..., dim:])
        if self.long is not None:
            asked = Candidates(candidates, queries, answers[0], self.embed)
            if self.gate is not None:
                answer = self.long.attend(state, asked)
                answers.append(self.gate * answer[..., :dim])
                straight.append(answer[..., dim:])
            straight.append(self.long.extra(state, asked))
        if self.context_columns.names:
            if context is None:
                raise ValueError(f"the model reads the context of candidates: {', '.join(self.context_columns.names)}")
            straight.append((context - self.shift) * self.scale)
        return torch.cat([queries, *answers, *(queries * one for one in answers), *straight], dim=-1)

    def explain(self, state: UserState, candidates: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """See `Ranker.explain`."""
        if self.long is None:
            return super().explain(state, candidates)
        state = state if self.state_bits == 32 else UserState(unpack(state.tensors))
        queries = self.encoder(candidates)
        answer = self.short(queries, state["short_events"], state["short_mask"])[..., : self.backbone.dim]
        asked = Candidates(candidates, queries, answer, self.embed)
        return self.long.agent_weights(state, asked), self.long.node_votes(state, candidates)

    def score(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """Per candidate: (R, C) items, and their context (R, C, F) where the model reads it, to (R, C) logits."""
        hidden = self._hidden(state, candidates, context)
        with torch.autocast(hidden.device.type, enabled=False):
            logits: Tensor = self.tower[-1](hidden).squeeze(-1)
        return logits

    def answer(self, state: UserState, candidates: Tensor, context: Tensor | None = None) -> Tensor:
        """As `score`, with the logits of the further answers behind those of the label; (R, C, 1 + T)."""
        if self.further is None:
            return super().answer(state, candidates, context)
        hidden = self._hidden(state, candidates, context)
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.cat([self.tower[-1](hidden), self.further(hidden)], dim=-1)

    def _hidden(self, state: UserState, candidates: Tensor, context: Tensor | None) -> Tensor:
        """The tower's last hidden layer; (R, C, W)."""
        if self.state_bits < 32:
            state = UserState(unpack(state.tensors))
        features = self.features(state, candidates, context)
        # In bf16 thousands of scores would become some twenty values: ties that flatter weak models.
        with torch.autocast(features.device.type, enabled=False):
            hidden: Tensor = self.tower[:-1](features.float())
        return hidden

    def standardize(self, contexts: Iterable[Tensor]) -> None:
        """Takes mean and spread of each column from contexts of training requests; a constant one is silent.

        Args:
            contexts: Of real candidates; (n, F) each.
        """
        shift, scale = moments(contexts)
        self.shift.copy_(shift)
        self.scale.copy_(scale)


def _widened(layer: nn.Module, more: int) -> nn.Linear:
    """The layer with more columns of input; all other weights, of this layer and of later ones, are as without them."""
    assert isinstance(layer, nn.Linear)
    with torch.random.fork_rng([]):
        wide = nn.Linear(layer.in_features + more, layer.out_features)
    with torch.no_grad():
        wide.weight[:, : layer.in_features] = layer.weight
        wide.bias.copy_(layer.bias)
    return wide
