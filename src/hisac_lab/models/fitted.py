"""Rankers that learn from all training requests at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from hisac_lab.models.contract import History


class Labeled(Protocol):
    """Requests to learn from: R of them, with C candidates each."""

    @property
    def history(self) -> History:
        """What is read of the users."""

    @property
    def candidates(self) -> Tensor:
        """Items, 0 in the padding; (R, C) int64."""

    @property
    def context(self) -> Tensor | None:
        """Of the candidates, where the model reads it; (R, C, F) float32."""

    @property
    def labels(self) -> Tensor:
        """1 clicked, 0 not; (R, C) float32."""

    @property
    def mask(self) -> Tensor:
        """True at real candidates; (R, C) bool."""

    @property
    def weights(self) -> Tensor | None:
        """Of the candidates, 0 in the padding; (R, C) float32. None: all weigh the same."""


class Fitted(ABC):
    """A ranker that is fitted to all training requests at once, where others step from batch to batch."""

    @abstractmethod
    def fit(self, batches: Iterable[Labeled], seed: int) -> float:
        """Fits it.

        Args:
            batches: All training requests.
            seed: Of what is drawn.

        Returns:
            The mean log loss of the training samples.
        """
