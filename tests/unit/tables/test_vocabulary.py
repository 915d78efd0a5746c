"""Ids and their numbers: the same whether they are few or have moved to the array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.base.artifacts import Array
from hisac_lab.tables import vocabulary
from hisac_lab.tables.vocabulary import Vocabulary


def test_a_vocabulary_numbers_ids_as_they_come() -> None:
    words = Vocabulary(["a", "b"])
    assert words.encode(pa.array(["b", "c", "b", "a"]).dictionary_encode()).tolist() == [1, 2, 1, 0]
    assert words.encode(pa.array(["d", "c"]).dictionary_encode()).tolist() == [3, 2]
    assert words.ids == ["a", "b", "c", "d"]
    assert words.since(2) == ["c", "d"]


def _alike(words: Sequence[str]) -> Array:
    """Hashes of which many are equal."""
    return np.array([len(word) for word in words], np.uint64)


BLOCKS = st.lists(st.lists(st.text("abé", max_size=4), min_size=1, max_size=12), min_size=1, max_size=8)


@given(blocks=BLOCKS, recent=st.integers(0, 5), first=st.integers(0, 3), collide=st.booleans())
def test_many_ids_have_the_numbers_of_a_dictionary(
    blocks: list[list[str]], recent: int, first: int, collide: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "RECENT", recent)
        if collide:
            patch.setattr(vocabulary, "_hashes", _alike)
        numbers = {word: number for number, word in enumerate(dict.fromkeys(blocks[0]))}
        words = Vocabulary(blocks[0])
        for block in blocks[1:]:
            new = [word not in numbers and word not in block[:at] for at, word in enumerate(block)]
            values = pa.array(block).dictionary_encode()
            assert words.first_met(values).tolist() == new
            for word in block:
                numbers.setdefault(word, len(numbers))
            assert words.encode(values).tolist() == [numbers[word] for word in block]
        assert len(words) == len(numbers)
        assert words.ids == words.texts.to_pylist() == list(numbers)
        assert words.since(first) == list(numbers)[first:]
        asked = [*blocks[0], "never met"]
        assert words.find(asked).tolist() == [numbers.get(word, -1) for word in asked]
