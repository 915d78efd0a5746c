"""One version in memory: requests to scores, histories to states that can be kept, states to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from hisac_lab.base.artifacts import Array, sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.inference.request import MODEL_INPUT, Asked, RequestReader, Scores, scores_of
from hisac_lab.models.contract import UserState
from hisac_lab.registry.context import snapshots

STATE, EVENTS = "state.", "events."


@dataclass(frozen=True)
class KeptState:
    """What is kept of a user: all that `score` needs, so that no event is looked at again.

    Attributes:
        time: Of what the ages in it count to, seconds.
        state: With one row.
        items: Items of the history, oldest first, where the model asks for the pair's own counts; (L,) int64.
        times: Their times; (L,) int64.
        feedback: Levels of the feedback on them; (L,) int64.
        told: The data set's own columns of user and request that are in it; (W,) float32.
    """

    time: int
    state: UserState
    items: Array
    times: Array
    feedback: Array
    told: Array

    def pack(self) -> bytes:
        """As bytes."""
        tensors = {STATE + name: part.contiguous() for name, part in self.state.tensors.items()}
        tensors |= {
            f"{EVENTS}items": torch.from_numpy(self.items.astype(np.int32)),
            f"{EVENTS}times": torch.from_numpy(self.times),
            f"{EVENTS}feedback": torch.from_numpy(self.feedback.astype(np.uint8)),
            "time": torch.tensor([self.time]),
            "told": torch.from_numpy(self.told),
        }
        return save(tensors)

    @classmethod
    def unpack(cls, packed: bytes) -> KeptState:
        """What `pack` wrote."""
        tensors = load(packed)
        state = {name.removeprefix(STATE): part for name, part in tensors.items() if name.startswith(STATE)}
        items, times, feedback = (tensors[EVENTS + name].numpy() for name in ("items", "times", "feedback"))
        whole = (items.astype(np.int64), times, feedback.astype(np.int64))
        return cls(int(tensors["time"]), UserState(state), *whole, tensors["told"].numpy())

    def answers(self, asked: Asked, refresh: int) -> bool:
        """Whether it may answer a request: it is of no later and no much earlier moment, and of the same columns.

        Args:
            asked: The request.
            refresh: How long a state answers after it was made, seconds.
        """
        return 0 <= asked.time - self.time <= refresh and np.array_equal(self.told, _told(asked))


class Engine:
    """A model in memory with what reads its requests.

    Args:
        bundle: Its bundle.
        version: What it is called in answers.

    Attributes:
        digest: Of the bundle: states of one digest are of no use to another.
        stores: Whether its states can be kept; a model that reads stored instances is told them with each request.
    """

    def __init__(self, bundle: Path, version: str) -> None:
        self.version, self.digest = version, sha256_tree(bundle)
        self.model, self.config = load_model(bundle)
        vocabulary = VocabularyFile.open(bundle)
        counters = snapshots(bundle, self.model)
        self.reader = RequestReader(self.model, vocabulary.items, vocabulary.history_limit, counters)
        self.stores = self.model.reads is None

    def read(self, row: int, request: Mapping[str, Any]) -> Asked:
        """Checks a request that brings its history.

        Raises:
            UserError: A column is missing or wrong.
        """
        for column in self.reader.columns:
            if column.required and request.get(column.name) is None:
                raise UserError(MODEL_INPUT, "is missing", "give it", f"row {row}: {column.name}")
        return self.reader.read(row, request)

    @torch.inference_mode()
    def answer(self, asked: Sequence[Asked]) -> list[Scores]:
        """Scores of requests that bring their histories, in one pass."""
        logits = self.model(*self.reader.batch(asked))
        return [scores_of(one, row) for one, row in zip(asked, torch.sigmoid(logits).tolist(), strict=True)]

    @torch.inference_mode()
    def encode(self, asked: Sequence[Asked]) -> list[KeptState]:
        """What to keep of users, from requests that bring their histories, in one pass."""
        history, _, _ = self.reader.batch(asked)
        tensors = self.model.encode(history).tensors
        pairs = slice(None) if self.model.context_columns.pair_names else slice(0)
        return [
            KeptState(
                one.time,
                UserState({name: part[row : row + 1].clone() for name, part in tensors.items()}),
                one.items[pairs],
                one.time - one.ages[pairs],
                one.feedback[pairs],
                _told(one),
            )
            for row, one in enumerate(asked)
        ]

    @torch.inference_mode()
    def score(self, kept: KeptState, asked: Asked) -> Scores:
        """Scores candidates from a kept state; `asked` brings no history."""
        candidates, context = self.reader.slate(asked, kept.items, kept.times, kept.feedback)
        logits: Tensor = self.model.score(kept.state, candidates, context)
        return scores_of(asked, torch.sigmoid(logits)[0].tolist())


def _told(asked: Asked) -> Array:
    """Own columns of user and request, one behind the other; (W,) float32."""
    return np.concatenate([np.zeros(0, np.float32), *(part[0] for _, part in sorted(asked.told.items()))])
