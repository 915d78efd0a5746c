"""What every model is: `encode` once per request, `score` per candidate.

Shapes: R requests, C candidates, L history length, K agents, D width of representations, S width of the frozen
semantic space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hisac_lab.codebook.flat import FlatBook
from hisac_lab.codebook.tree import Codebook
from hisac_lab.codebook.votes import Agents
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.events.batches import HistoryArrays
from hisac_lab.events.feedback import UNKNOWN, Levels, VotesFrom, first_voting
from hisac_lab.events.instances import InstanceQuery
from hisac_lab.events.records import ContextFacts
from hisac_lab.models.instances import Instances


@dataclass(frozen=True)
class History:
    """Histories of R requests, newest event last, padded on the left.

    Attributes:
        items: (R, L) int64, 0 in the padding.
        ages: Seconds from event to request; (R, L) int64.
        mask: True at real events; (R, L) bool.
        agents: Side input: votes counted beforehand, or None to count them in `encode`.
        time: Side input: when each request is made, seconds since 1970; (R,) int64.
        instances: Side input: stored instances of each user.
        user: Side input: the data set's columns of each user; (R, W) float32.
        request: Side input: its columns of each request; (R, W') float32.
        feedback: Level of each event's feedback, 0 where it is unknown, as in all when it is not given; (R, L) int64.
    """

    items: Tensor
    ages: Tensor
    mask: Tensor
    agents: Agents | None = None
    time: Tensor | None = None
    instances: Instances | None = None
    user: Tensor | None = None
    request: Tensor | None = None
    feedback: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.feedback is None:
            object.__setattr__(self, "feedback", torch.zeros_like(self.items))

    @classmethod
    def of(cls, arrays: HistoryArrays, device: torch.device | str = "cpu") -> History:
        """Moves gathered arrays to `device`."""
        items, ages, mask = (torch.from_numpy(part).to(device) for part in (arrays.items, arrays.ages, arrays.mask))
        history = cls(items, ages, mask)
        if arrays.feedback is None:
            return history
        return replace(history, feedback=torch.from_numpy(arrays.feedback).to(device))

    def voters(self, positive: int) -> History:
        """The events that vote: not those whose feedback is known and below the level `positive`; gaps stay masked."""
        return replace(self, mask=self.mask & ~self._negative(positive), agents=None)

    def negatives(self, positive: int) -> History:
        """All other events: feedback is known and below the level `positive`; gaps stay masked."""
        return replace(self, mask=self.mask & self._negative(positive), agents=None)

    def _negative(self, positive: int) -> Tensor:
        return (self.feedback != UNKNOWN) & (self.feedback < positive)

    def last(self, count: int) -> History:
        """The most recent `count` events of each history."""
        newest = {name: getattr(self, name)[:, -count:] for name in ("items", "ages", "mask", "feedback")}
        return replace(self, **newest, agents=None)


@dataclass(frozen=True)
class UserState:
    """What `encode` leaves of a request: everything `score` needs to know of the user.

    Attributes:
        tensors: Tensors with R rows, by name.
    """

    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors; divide by R for one user."""
        return sum(part.numel() * part.element_size() for part in self.tensors.values())


@dataclass(frozen=True)
class Candidates:
    """What a user is asked about.

    Attributes:
        items: (R, C) int64.
        vectors: Representation of each candidate; (R, C, D).
        short: What the short branch answers; (R, C, D).
        embed: Representation of events from their items, ages and feedback, with gradient: three (...) int64 to
            (..., D).
    """

    items: Tensor
    vectors: Tensor
    short: Tensor
    embed: Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Cost:
    """What a long branch declares it costs; a test compares it with what is measured.

    Attributes:
        state_bytes: Bytes kept of one request.
        encode: Multiply-adds of matrix products, once per request.
        slate: The same, once per slate, however many candidates are on it.
        candidate: The same, per candidate.
    """

    state_bytes: int
    encode: int
    slate: int
    candidate: int


@dataclass(frozen=True)
class ItemSpace:
    """What is known of the items, and of the feedback on them, before training: all of it frozen.

    Attributes:
        semantic: L2-normalized embeddings, zero rows for items without one; (items, S) float32.
        fields: Codes of categorical fields; (items, F) int64.
        field_sizes: Cardinality of each field.
        codebook: The global hierarchical codebook, with the flat ones beside it.
        feedback: Levels of the log's feedback; None where it has none.
        context: What the log gives for the context of a request.
        numbers: Their numeric columns, standardized; (items, N') float32. None: they have none.
        held: First item whose row of the item table this process holds, and one past its last; None: all.
        blanked: A state dict fills the model, so that no large table is drawn.
    """

    semantic: Tensor
    fields: Tensor
    field_sizes: tuple[int, ...]
    codebook: Codebook
    feedback: Levels | None = None
    context: ContextFacts = field(default_factory=ContextFacts)
    numbers: Tensor | None = None
    held: tuple[int, int] | None = None
    blanked: bool = False

    @property
    def routed(self) -> Tensor:
        """The items in the space of the codebook's vectors, zero rows without one; (items, S')."""
        routed = self.codebook.item_vectors
        return self.semantic if routed is None else torch.from_numpy(routed)

    def shape(self) -> dict[str, Any]:
        """What is needed to build an empty space of the same shape: `ItemSpace.blank(**shape)`."""
        flat = {name: len(book.vectors) for name, book in self.codebook.flat.items()}
        return {
            "items": self.semantic.shape[0],
            "width": self.semantic.shape[1],
            "field_sizes": list(self.field_sizes),
            "nodes": [len(parent) for parent in self.codebook.parents],
            "codes": [int(codes.max(initial=0)) + 1 for codes in self.codebook.codes],
            "routed_width": None if self.codebook.item_vectors is None else self.codebook.item_vectors.shape[1],
            **({"flat": flat} if flat else {}),
            **({} if self.feedback is None else {"feedback": self.feedback.facts()}),
            **({} if self.numbers is None else {"numbers": self.numbers.shape[1]}),
            **({} if self.context == ContextFacts() else {"context": self.context.facts()}),
        }

    @classmethod
    def blank(
        cls,
        items: int,
        width: int,
        field_sizes: list[int],
        nodes: list[int],
        codes: Sequence[int] = (),
        routed_width: int | None = None,
        flat: Mapping[str, int] = MappingProxyType({}),
        feedback: dict[str, Any] | None = None,
        context: Mapping[str, Any] = MappingProxyType({}),
        numbers: int = 0,
    ) -> ItemSpace:
        """A space of zeros, to be filled by a state dict."""
        book = Codebook(
            parents=tuple(torch.zeros(count, dtype=torch.int64).numpy() for count in nodes),
            vectors=tuple(torch.zeros(count, routed_width or width).numpy() for count in nodes),
            counts=tuple(torch.zeros(count, dtype=torch.int64).numpy() for count in nodes),
            item_nodes=torch.zeros(items, len(nodes), dtype=torch.int64).numpy(),
            codes=tuple(
                torch.full((count,), most - 1, dtype=torch.int64).numpy()
                for count, most in zip(nodes, codes, strict=False)
            ),
            item_vectors=None if routed_width is None else torch.zeros(items, routed_width).numpy(),
            flat={
                name: FlatBook(torch.zeros(count, width).numpy(), torch.zeros(items, dtype=torch.int64).numpy())
                for name, count in flat.items()
            },
        )
        fields = torch.zeros(items, len(field_sizes), dtype=torch.int64)
        known = None if feedback is None else Levels.model_validate(feedback)
        facts = ContextFacts.model_validate(dict(context))
        empty = torch.zeros(items, numbers) if numbers else None
        return cls(torch.zeros(items, width), fields, tuple(field_sizes), book, known, facts, empty)

    def first_voting(self, votes_from: VotesFrom) -> int:
        """The lowest level of feedback whose events vote; 0: all do."""
        return first_voting(self.feedback, votes_from)

    def shuffled(self, seed: int) -> ItemSpace:
        """Embeddings and semantic IDs change places among the items that have one; fields stay. A control."""
        with_id = torch.from_numpy(self.codebook.item_nodes[:, 0] >= 0).nonzero()[:, 0]
        other = with_id[torch.randperm(len(with_id), generator=torch.Generator().manual_seed(seed))]
        place = torch.arange(len(self.semantic))
        place[with_id] = other
        book, moved = self.codebook, place.numpy()
        vectors = None if book.item_vectors is None else book.item_vectors[moved]
        flat = {name: replace(one, item_nodes=one.item_nodes[moved]) for name, one in book.flat.items()}
        book = replace(book, item_nodes=book.item_nodes[moved], item_vectors=vectors, flat=flat)
        return replace(self, semantic=self.semantic[place], codebook=book)


@dataclass(frozen=True)
class CardLine:
    """One line of a fidelity card.

    Attributes:
        claim: What the model does.
        status: stated (by the paper), inferred (by us), or left out.
        source: Heading of the note that says so, as `docs/papers/hisac.md#agents`.
        test: Name of the test that pins it; empty for what is left out.
    """

    claim: str
    status: str
    source: str
    test: str = ""


SOFT_COUNTS = CardLine(
    "how much each head found, log(1 + sum of e^score), goes to the tower (switch `soft_counts`, off by default)",
    "inferred",
    "docs/papers/baselines.md#soft-counts",
    "test_a_soft_count_is_the_log_of_one_and_the_sum_of_exponentials",
)
"""Of every model whose candidates attend."""


class Kind:
    """A class that section `models` can name: it has a `Config`, and the catalog finds it by that.

    Attributes:
        Config: Its settings; the default of their field `kind` is the kind's name.
        card: What is stated, inferred and left out.
        examples: Small settings that between them reach every part of it, by name, for the contract suite.
        golden: Settings of its golden losses, by name, each field written out; none for a kind from outside.
    """

    Config: ClassVar[type[ModelConfig]]
    card: ClassVar[tuple[CardLine, ...]] = ()
    examples: ClassVar[Mapping[str, ModelConfig]] = {}
    golden: ClassVar[Mapping[str, ModelConfig]] = {}

    @classmethod
    def make(cls, config: Any, backbone: BackboneConfig, items: ItemSpace) -> nn.Module | None:
        """What these settings build: a long branch, None for the short branch alone, or a whole ranker."""
        return cls(config, backbone, items)  # type: ignore[call-arg, return-value]


class LongBranch(Kind, nn.Module, ABC):
    """The long-sequence part of a model: the one thing that a new model has to bring.

    Attributes:
        length: Newest events that it is shown; None: all.
        ordered: Whether the order of the events matters beyond their ages.
        lazy: Events reach `encode` without gradient; those that matter are embedded again in `attend`.
        sides: Side inputs that it reads, by the attribute of `History` that holds them.
        reads: Which stored instances it reads, where `sides` names them.
        embeds: Whether `encode` looks at all events; else it is given those of the short window.
        answers: Whether what `attend` gives passes the gate into the tower.
        soft_counts: Columns behind that answer which go to the tower past the gate: see `ops.attention.soft_count`.
        extra_width: Columns of `extra`, which the tower sees as they are.
        standardizes: Whether it looks at a sample of the training set before the first step (see `standardize`).
        extends: Whether `extend` adds new events to a state exactly, where no `length` cuts the history.
        id_vectors: Vectors of the item table alone, (...) int64 to (..., D); the ranker it stands in hands it over.
        item_vectors: Representation of items, without age and feedback, (...) int64 to (..., D); likewise.
        item_cost: Multiply-adds of that for such items; likewise.
    """

    id_vectors: Callable[[Tensor], Tensor]
    item_vectors: Callable[[Tensor], Tensor]
    item_cost: Callable[[Tensor], int]
    length: int | None = None
    ordered: bool = False
    lazy: bool = False
    embeds: bool = True
    answers: bool = True
    soft_counts: int = 0
    extra_width: int = 0
    standardizes: bool = False
    extends: bool = False
    sides: frozenset[str] = frozenset()
    reads: InstanceQuery | None = None

    def shown(self, history: History) -> History:
        """What it reads of a history: the newest `length` events; votes counted beforehand stay."""
        return history if self.length is None else replace(history.last(self.length), agents=history.agents)

    def agents(self, history: History) -> Agents | None:
        """What depends on frozen artifacts alone and can be counted offline; None where `sides` names no agents."""
        return None

    def rows(self, name: str, before: LongBranch, place: Tensor) -> Tensor | None:
        """Row of each row of a learned table that grows with the items, -1 where it is gone; None: there is none.

        Args:
            name: Of the parameter.
            before: The same branch for other items, whose rows they are.
            place: Number here of each item there, -1 where it is gone; (items,) int64.
        """
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

    def extend(self, state: dict[str, Tensor], new: History, days: Tensor) -> dict[str, Tensor]:
        """What `encode` gives of longer histories, from what it gave before; of a branch that `extends`.

        Args:
            state: Of R histories, from an earlier time; its part is among the tensors.
            new: The events since, R histories of one length, seen from the later time.
            days: Between the two; (R,) float32.
        """
        raise TypeError(f"{type(self).__name__} does not extend states")

    @abstractmethod
    def attend(self, state: UserState, candidates: Candidates) -> Tensor:
        """Answers each candidate from the state; (R, C, D + `soft_counts`)."""

    def extra(self, state: UserState, candidates: Candidates) -> Tensor:
        """Features of each candidate for the tower, past the gate; (R, C, `extra_width`) float32. None by default."""
        return candidates.vectors[..., :0]

    def agent_weights(self, state: UserState, candidates: Candidates) -> Tensor | None:
        """Share of each agent in what each head of `attend` reads, to look at; (R, H, C, K), rows sum to one.

        A branch that answers also has `agents`, in the same order, and `route`. None, by default: it has no agents.
        """
        return None

    def route(self, history: History, agents: Agents) -> Tensor | None:
        """Weight of each event in each agent, to look at; (R, K, L), rows sum to one. None, by default."""
        return None

    def node_votes(self, state: UserState, items: Tensor) -> dict[str, Tensor]:
        """Votes at (R, C) items' own nodes and days since the newest, by partition; (R, C, 2) each, to look at."""
        return {}

    def standardize(self, batches: Iterable[tuple[History, Tensor, Tensor]]) -> None:
        """Takes shift and scale of its features from training requests, once, into buffers.

        Args:
            batches: Histories, their candidates (R, C) int64, and True at real candidates (R, C) bool.
        """

    @abstractmethod
    def cost(self, history: History) -> Cost:
        """What one request with this history costs, in closed form.

        Args:
            history: One history without padding.
        """
