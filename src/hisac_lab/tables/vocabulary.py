"""Ids and their numbers."""

from __future__ import annotations

from itertools import count, islice

import numpy as np
import pyarrow as pa

from hisac_lab.base.artifacts import Array


class _Numbers(dict[str, int]):
    """Gives an id that is new the next number."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


class Vocabulary:
    """Numbers ids in the order in which they are first met."""

    def __init__(self, ids: list[str] | None = None) -> None:
        self._codes = _Numbers(zip(dict.fromkeys(ids or []), count()))

    def __len__(self) -> int:
        return len(self._codes)

    def encode(self, values: pa.DictionaryArray) -> Array:
        """Numbers of a block's ids; (n,) int32."""
        words = values.dictionary.to_pylist()
        codes = np.fromiter(map(self._codes.__getitem__, words), np.int32, len(words))
        encoded: Array = codes[values.indices.to_numpy()]
        return encoded

    @property
    def ids(self) -> list[str]:
        """The ids in the order of their numbers."""
        return list(self._codes)

    def since(self, number: int) -> list[str]:
        """The ids from `number` on."""
        return list(islice(self._codes, number, None))
