"""Ids and their numbers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pyarrow as pa

from hisac_lab.base.artifacts import Array


class Vocabulary:
    """Numbers ids in the order in which they are first met."""

    def __init__(self, ids: list[str] | None = None) -> None:
        self._codes: dict[str, int] = {}
        for name in ids or []:
            self._codes.setdefault(name, len(self._codes))

    def __len__(self) -> int:
        return len(self._codes)

    def encode(self, values: pa.DictionaryArray) -> Array:
        """Numbers of a block's ids; (n,) int32."""
        known = self._codes
        codes = np.fromiter(
            (known.setdefault(word, len(known)) for word in values.dictionary.to_pylist()),
            np.int32,
            len(values.dictionary),
        )
        encoded: Array = codes[values.indices.to_numpy()]
        return encoded

    @property
    def ids(self) -> list[str]:
        """The ids in the order of their numbers."""
        return list(self._codes)

    def since(self, number: int) -> list[str]:
        """The ids from `number` on."""
        return list(islice(self._codes, number, None))
