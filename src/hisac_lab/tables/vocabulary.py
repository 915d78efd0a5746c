"""Ids and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array

RECENT = 1 << 19  # ids that are Python objects, about
BLOCK = 1 << 18


class _Numbers(dict[str, int]):
    """Gives an id that is new the next number."""

    after = 0

    def __missing__(self, name: str) -> int:
        self[name] = number = self.after
        self.after += 1
        return number


class Vocabulary:
    """Numbers ids in the order in which they are first met.

    A dictionary has the recent ids. When they are many, they move to one Arrow array, where a sorted array of hashes
    finds them: 12 bytes and the text for each. Ids whose hash another one has stay in the dictionary.
    """

    def __init__(self, ids: Sequence[str] | pd.Series[str] = ()) -> None:
        self._recent = _Numbers()
        self._texts = pa.array([], pa.large_string())
        self._hashes, self._codes = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        given = pa.array(ids, pa.large_string())
        for start in range(0, len(given), BLOCK):
            self._number(given.slice(start, BLOCK).to_pylist())

    def __len__(self) -> int:
        return self._recent.after

    def encode(self, values: pa.DictionaryArray) -> Array:
        """Numbers of a block's ids; (n,) int32. Words of the dictionary that no row has stay without one."""
        words, codes = values.dictionary.to_pylist(), values.indices.to_numpy()
        used = np.bincount(codes, minlength=len(words)) > 0
        numbers = np.zeros(len(words), np.int32)
        numbers[used] = self._number(words if used.all() else [words[at] for at in np.flatnonzero(used).tolist()])
        encoded: Array = numbers[codes]
        return encoded

    def first_met(self, values: pa.DictionaryArray) -> Array:
        """Numbers a block's ids and tells which of them stand there for the first time; (n,) bool."""
        before = len(self)
        codes = self.encode(values)
        first = np.zeros(len(codes), bool)
        first[np.unique(codes, return_index=True)[1]] = True
        return first & (codes >= before)

    def find(self, ids: Sequence[str]) -> Array:
        """Numbers of a block of ids, -1 for one that was never met; (n,) int64."""
        moved = self._moved(ids)
        left = np.flatnonzero(moved < 0)
        moved[left] = [self._recent.get(ids[at], -1) for at in left.tolist()]
        return moved.astype(np.int64)

    @property
    def texts(self) -> pa.LargeStringArray:
        """The ids in the order of their numbers."""
        return pa.concat_arrays([self._texts, pa.array(self._newest(), pa.large_string())])

    @property
    def ids(self) -> list[str]:
        """The ids in the order of their numbers, as Python objects."""
        return self.since(0)

    def since(self, number: int) -> list[str]:
        """The ids from `number` on."""
        moved = len(self._texts)
        older: list[str] = self._texts.slice(number).to_pylist() if number < moved else []
        return older + self._newest()[max(number - moved, 0) :]

    def _newest(self) -> list[str]:
        """The recent ids, without those that stay for their hash."""
        return list(islice(self._recent, len(self._recent) - (len(self) - len(self._texts)), None))

    def _number(self, words: Sequence[str]) -> Array:
        codes = self._moved(words)
        left = np.flatnonzero(codes < 0)
        chosen = words if len(left) == len(words) else [words[at] for at in left.tolist()]
        codes[left] = np.fromiter(map(self._recent.__getitem__, chosen), np.int32, len(left))
        if len(self) - len(self._texts) > RECENT:
            self._move()
        return codes

    def _moved(self, words: Sequence[str]) -> Array:
        """Numbers of the ids that have moved, -1 for others; (n,) int32."""
        codes = np.full(len(words), -1, np.int32)
        if not len(self._texts) or not len(words):
            return codes
        hashes = _hashes(words)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        alike = np.flatnonzero(self._hashes[at] == hashes)
        near = self._codes[at[alike]]
        same = pc.equal(self._texts.take(pa.array(near)), pa.array(words, pa.large_string()).take(pa.array(alike)))
        equal = same.to_numpy(zero_copy_only=False)
        codes[alike[equal]] = near[equal]
        return codes

    def _move(self) -> None:
        """Moves the recent ids to the array."""
        words, first = self._newest(), len(self._texts)
        self._texts = self.texts
        hashes, place = np.unique(_hashes(words), return_index=True)
        at = np.searchsorted(self._hashes, hashes)
        taken = self._hashes[np.minimum(at, len(self._hashes) - 1)] == hashes if first else np.zeros(len(at), bool)
        hashes, place, at = hashes[~taken], place[~taken], at[~taken]
        self._hashes = np.insert(self._hashes, at, hashes)
        self._codes = np.insert(self._codes, at, (first + place).astype(np.int32))
        stay = np.ones(len(words), bool)
        stay[place] = False
        kept = _Numbers({word: number for word, number in self._recent.items() if number < first})
        kept |= {words[index]: first + index for index in np.flatnonzero(stay).tolist()}
        kept.after = len(self)
        self._recent = kept


def _hashes(words: Sequence[str]) -> Array:
    """64 bits of each; (n,) uint64."""
    hashes: Array = pd.util.hash_array(np.asarray(words, object), categorize=False)
    return hashes
