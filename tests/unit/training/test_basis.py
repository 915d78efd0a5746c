"""The rotation between two bases, and what it explains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.training.basis import explained, rotation


def _turn(random: np.random.Generator, dim: int) -> np.ndarray:
    turn: np.ndarray = np.linalg.qr(random.normal(size=(dim, dim)))[0]
    return turn


@given(seed=st.integers(0, 1_000), dim=st.integers(1, 9))
def test_turned_vectors_are_turned_back(seed: int, dim: int) -> None:
    random = np.random.default_rng(seed)
    own, turn = random.normal(size=(40, dim)), _turn(random, dim)
    found = rotation(own, own @ turn)
    np.testing.assert_allclose(found, turn, atol=1e-9)
    assert explained(own, own @ turn, found) == 1


@given(seed=st.integers(0, 1_000), dim=st.integers(2, 6))
def test_no_other_rotation_is_nearer(seed: int, dim: int) -> None:
    random = np.random.default_rng(seed)
    own, last = random.normal(size=(2, 30, dim))
    found = rotation(own, last)
    np.testing.assert_allclose(found.T @ found, np.eye(dim), atol=1e-9)
    best = explained(own, last, found)
    assert best is not None
    for _ in range(20):
        other = explained(own, last, _turn(random, dim))
        assert other is not None
        assert other <= best + 1e-4


def test_what_is_explained_is_a_share_of_the_variance() -> None:
    last = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert explained(last * [[0.0], [0.0], [1.0], [1.0]], last, np.eye(2)) == pytest.approx(0.8)
    assert explained(np.zeros((4, 2)), last, np.eye(2)) == 0
    assert explained(-last, last, np.eye(2)) == pytest.approx(-3)
    assert explained(last, np.ones((4, 2)), np.eye(2)) is None
