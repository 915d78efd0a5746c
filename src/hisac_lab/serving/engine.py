"""One version in memory: requests to scores, histories to states that can be kept, states to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.explain import Explanation
from hisac_lab.inference.explained import answer_explained
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.inference.request import MODEL_INPUT, Answer, Asked, RequestReader, answer_of
from hisac_lab.models.contract import UserState
from hisac_lab.registry.context import snapshots
from hisac_lab.serving.kept import KeptState, told_of

DAY = 86_400.0


class Engine:
    """A model in memory with what reads its requests.

    Args:
        bundle: Its bundle.
        version: What it is called in answers.

    Attributes:
        digest: Of the bundle: states of one digest are of no use to another.
        items: Ids of the items it knows, by number.
        stores: Whether its states can be kept; a model that reads stored instances is told them with each request.
    """

    def __init__(self, bundle: Path, version: str) -> None:
        self.version, self.digest = version, sha256_tree(bundle)
        self.model, self.config = load_model(bundle)
        vocabulary = VocabularyFile.open(bundle)
        counters = snapshots(bundle, self.model)
        self.reader = RequestReader(self.model, vocabulary.items, vocabulary.history_limit, counters)
        self.items = vocabulary.items
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
    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Scores of requests that bring their histories, in one pass."""
        history, candidates, context = self.reader.batch(asked)
        logits = self.model.answer(self.model.encode(history), candidates, context)
        return [self._answer(one, row) for one, row in zip(asked, logits, strict=True)]

    def explain(self, asked: Asked, count: int) -> tuple[Answer, Explanation]:
        """Scores of a request that brings its history, and what was read of it: see `inference.explain`."""
        return answer_explained(self.model, self.reader, asked, self.items, count)

    @torch.inference_mode()
    def encode(self, asked: Sequence[Asked], columns: Sequence[Mapping[str, Any]] = ()) -> list[KeptState]:
        """What to keep of users, in one pass.

        Args:
            asked: Requests that bring their histories.
            columns: What the store knows of each user beside the history; empty: nothing of any.
        """
        history, _, _ = self.reader.batch(asked)
        tensors = self.model.encode(history).tensors
        rows = ({name: part[row : row + 1].clone() for name, part in tensors.items()} for row in range(len(asked)))
        known = columns or [{}] * len(asked)
        return [self._keep(*parts) for parts in zip(asked, map(UserState, rows), known, strict=True)]

    @torch.inference_mode()
    def extend(self, kept: KeptState, asked: Asked, new: int) -> KeptState:
        """What `encode` makes of a longer history, from the state without its newest events.

        Args:
            kept: Of a model that `extends`.
            asked: A later request that brings the longer history, of the same columns.
            new: How many events of it are new, at least 1.
        """
        history, _, _ = self.reader.batch([asked])
        days = torch.tensor([asked.time - kept.time]) / DAY
        return self._keep(asked, self.model.extend(kept.state, history, new, days), kept.columns)

    def _keep(self, asked: Asked, state: UserState, columns: Mapping[str, Any]) -> KeptState:
        pairs = slice(None) if self.model.context_columns.pair_names else slice(0)
        items, times, feedback = (part[pairs] for part in (asked.items, asked.time - asked.ages, asked.feedback))
        return KeptState(asked.time, state, items, times, feedback, told_of(asked), columns)

    @torch.inference_mode()
    def score(self, kept: KeptState, asked: Asked) -> Answer:
        """Scores candidates from a kept state; `asked` brings no history."""
        candidates, context = self.reader.slate(asked, kept.items, kept.times, kept.feedback)
        return self._answer(asked, self.model.answer(kept.state, candidates, context)[0])

    def _answer(self, asked: Asked, logits: Tensor) -> Answer:
        """Of one request, from the logits of its candidates; (C, 1 + T)."""
        return answer_of(asked, torch.sigmoid(logits), self.model.tasks)
