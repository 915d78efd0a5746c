"""A fitted model: ranking for users, and a look at their interest-agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hisac_lab.api.data import Data
from hisac_lab.api.look import votes_of
from hisac_lab.api.settings import settings
from hisac_lab.api.tables import Printed
from hisac_lab.base.artifacts import load_array
from hisac_lab.base.errors import UserError
from hisac_lab.codebook.portrait import typical, words_of
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.context import REQUEST
from hisac_lab.events.side_columns import SideColumns
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.records import CURVE, Point, Trained
from hisac_lab.inference.runtime import Runtime
from hisac_lab.inference.sides import OneRequest
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import KINDS
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.training.train import train_model

WORDS, TITLES = 4, 2
CHUNK = 1024  # candidates scored in one row


@dataclass(frozen=True, repr=False)
class Ranking(Printed):
    """The best items for users, best first."""

    rows: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Columns user, rank, item, title and probability."""
        return self.rows


@dataclass(frozen=True, repr=False)
class AgentTable(Printed):
    """A user's interest-agents, most votes first.

    Attributes:
        covered: Share of the votes that the agents hold.
    """

    rows: pd.DataFrame
    covered: float
    caption: str = ""

    def table(self) -> pd.DataFrame:
        """Columns agent (its semantic prefix), votes, share, words, nearest."""
        return self.rows


@dataclass(frozen=True)
class Model:
    """A trained model and the data it was trained on.

    Attributes:
        data: With semantic IDs.
        path: Output of one training run.
        instances: Output of the stage `instances`, for a model that reads it.
    """

    data: Data
    path: Path
    instances: Path | None = None

    @property
    def config(self) -> ModelConfig:
        """Its settings."""
        return self._loaded[1]

    @property
    def record(self) -> Trained:
        """What is known of the training run."""
        return Trained.open(self.path)

    def curve(self) -> pd.DataFrame:
        """Training loss and validation AUC, one row per validation."""
        return pd.DataFrame([point.facts() for point in Point.read_lines(self.path / CURVE)])

    def rank(
        self,
        users: str | int | Sequence[str | int],
        k: int = 10,
        *,
        seen: bool = False,
        at: int | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Ranking:
        """Ranks the catalog for users by their histories.

        Args:
            users: A user's id, or several.
            k: Items per user.
            seen: Whether items of the history are candidates too.
            at: Time of the request, seconds; None: right after the log's end. The history is what lies before it.
            request: The request's own columns, as {"device": "phone"}; what is not named is unknown.

        Raises:
            UserError: There is no such user, a history is empty, or a column of the request is not there or no number.
        """
        store, table = self.data.store, self.data.items
        titles = table["title" if "title" in table else "text"].astype(str).to_numpy()
        when = int(np.asarray(store.times).max()) + 1 if at is None else at
        wanted = [users] if isinstance(users, str | int) else list(users)
        numbers = {user: number for number, user in enumerate(self.data.users)}
        ranked = []
        for user in wanted:
            if str(user) not in numbers:
                raise UserError("rank()", f"there is no user {str(user)!r}", "see `data.users`", "users")
            number = numbers[str(user)]
            begin, end = int(store.offsets[number]), int(store.offsets[number + 1])
            end = begin + int(np.searchsorted(store.times[begin:end], when))
            if end == begin:
                what = f"user {str(user)!r} has no events before {when}"
                raise UserError("rank()", what, "rank users without a history by popularity", "at")
            logits = self._logits(number, max(begin, end - store.limit), end, when, request or {})
            if not seen:
                logits[np.unique(store.items[begin:end])] = -np.inf
            best = np.argsort(-logits, kind="stable")[: min(k, int(np.isfinite(logits).sum()))]
            shown = pd.DataFrame({"user": str(user), "rank": np.arange(1, len(best) + 1)})
            shown["item"], shown["title"] = table["item"].to_numpy()[best], titles[best]
            shown["probability"] = 1 / (1 + np.exp(-logits[best].astype(float)))
            ranked.append(shown)
        return Ranking(pd.concat(ranked, ignore_index=True))

    def agents(self, user: str | int) -> AgentTable:
        """A user's interest-agents: what the whole history votes for.

        Raises:
            UserError: There is no such user, or the model has no agents.
        """
        config = self.config
        if not isinstance(config, HiSACConfig):
            raise UserError("agents()", f"a model of kind {config.kind} has no agents", "fit one of kind hisac")
        numbers = {name: number for number, name in enumerate(self.data.users)}
        if str(user) not in numbers:
            raise UserError("agents()", f"there is no user {str(user)!r}", "see `data.users`", "user")
        store, number = self.data.store, numbers[str(user)]
        assert self.data.codebook is not None
        assert self.data.embedded is not None
        book = Codebook.open(self.data.codebook)
        vectors = load_array(self.data.embedded, "embeddings") if book.item_vectors is None else book.item_vectors
        votes = votes_of(config, self._loaded[0].backbone, book, store, number)
        book, portrait = votes.book, votes.portrait
        table = self.data.items
        titles = table["title" if "title" in table else "text"].astype(str).tolist()
        texts, with_id = table["text"].astype(str).tolist(), np.flatnonzero(book.item_nodes[:, 0] >= 0)
        rows = [
            {
                "agent": "-".join(map(str, book.path(agent.node, agent.level))),
                "votes": agent.votes / votes.unit,
                "share": round(agent.votes / portrait.votes, 3),
                "words": ", ".join(words_of(texts, book.items_at(agent.node, agent.level), with_id, WORDS)),
                "nearest": "; ".join(titles[at] for at in typical(book, vectors, agent.node, agent.level, TITLES)),
            }
            for agent in portrait.agents
        ]
        held = f"{len(rows)} agents hold {portrait.covered:.0%} of the votes"
        return AgentTable(
            pd.DataFrame(rows),
            portrait.covered,
            f"user {user}: {portrait.behaviors + votes.silent:,} behaviors, {held}",
        )

    @cached_property
    def _loaded(self) -> tuple[Ranker, ModelConfig]:
        return load_model(self.path, codebook=self.data.codebook, instances=self.instances)

    def _logits(self, user: int, start: int, end: int, when: int, told: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Of every item for one history."""
        model, count = self._loaded[0], len(self.data.items)
        rows = -(-count // CHUNK)
        candidates = np.zeros(rows * CHUNK, np.int64)
        candidates[:count] = np.arange(count)
        shape = (rows, CHUNK)

        def same(value: int) -> Any:
            return np.full(rows, value, np.int64)

        request = Requests(
            self.data.store, same(start), same(end), same(when), candidates.reshape(shape),
            np.zeros(shape, np.float32), (np.arange(rows * CHUNK) < count).reshape(shape),
            np.full(shape, -1, np.int64), same(user),
        )  # fmt: skip
        runtime = Runtime.start(ComputeConfig())
        model.to(runtime.device)
        loader = _telling(Loader.of(model, request, runtime, self.instances), model, told)
        logits: np.ndarray[Any, Any] = score(model, loader)
        return logits.ravel()[:count]

    def __repr__(self) -> str:
        facts = self.record
        size = f"{facts.parameters:,} parameters"
        return f"Model({facts.name}, seed {facts.seed}: {size}, validation AUC {facts.valid_auc:.4f})"


def _telling(loader: Loader, model: Ranker, told: Mapping[str, Any]) -> Loader:
    """The same requests with these columns of the request."""
    known = model.user_features.own.get(REQUEST, SideColumns())
    if unknown := next((name for name in told if name not in known.names), None):
        there = ", ".join(known.names) or "none"
        raise UserError("rank()", f"there is no column {unknown!r} (there are: {there})", "leave it out", "request")
    if not told:
        return loader
    try:
        row = known.row(told)
    except ValueError as error:
        what = f"value {told[str(error)]!r} of {str(error)!r} is no number"
        raise UserError("rank()", what, "give one, or leave it out", "request") from error
    sides = tuple(side for side in loader.sides if side.name != REQUEST)
    return replace(loader, sides=(*sides, OneRequest(row)))


def _refuse_stray(changes: Mapping[str, Any], kind: type[ModelConfig]) -> None:
    """Refuses settings of another section among those of the model, and says where they belong."""
    for section, config in (("train", TrainConfig), ("backbone", BackboneConfig)):
        for name in changes:
            if name in config.model_fields and name not in kind.model_fields:
                hint = f"write {section}={{{name!r}: {changes[name]!r}}}"
                raise UserError("fit()", f"is a setting of the section {section}, not of the model", hint, name)


def fit(
    data: Data,
    model: str | ModelConfig,
    changes: dict[str, Any],
    seed: int,
    backbone: BackboneConfig,
    train: TrainConfig,
    compute: ComputeConfig,
    on_step: Callable[[int, float], None] | None = None,
) -> Model:
    """Trains one model with one seed; see `Data.fit`.

    Raises:
        UserError: There is no such kind, a setting is wrong or does not fit the data, or training diverges.
    """
    if isinstance(model, str):
        kinds = {name: kind.Config for name, kind in KINDS.items() if kind.Config.configurable}
        if model not in kinds:
            raise UserError("fit()", f"there is no kind {model!r}", f"name one of {', '.join(sorted(kinds))}", "model")
        _refuse_stray(changes, kinds[model])
        config = settings(kinds[model], {"kind": model, **changes}, "fit")
    else:
        _refuse_stray(changes, type(model))
        config = settings(type(model), {**model.model_dump(mode="json"), **changes}, "fit")
    assert data.embedded is not None
    assert data.codebook is not None
    embedded, codebook = data.embedded, data.codebook
    instances = data.instances(backbone, train, compute) if config.needs_instances else None
    sections = [part.model_dump(mode="json") for part in (config, backbone, train, compute)]
    key = [sections, seed, data.key(), None if instances is None else instances.name]

    def watch(step: int, loss: float) -> None:
        if on_step is not None:
            on_step(step, loss)

    def build(out: Path) -> None:
        items = load_items(prepared=data.prepared, embedded=embedded, codebook=codebook)
        work = data.workspace.path / "work" / out.name
        train_model(config.kind, config, backbone, train, compute, seed, items, prepared=data.prepared, out=out,
                    work=work, instances=instances, on_step=watch)  # fmt: skip

    return Model(data, data.workspace.make("train", key, build), instances)
