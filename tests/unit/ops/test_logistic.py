"""Logistic regression: scikit-learn's weights, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from hisac_lab.ops import logistic as module
from hisac_lab.ops.logistic import log_loss, logistic, solve


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), columns=st.integers(1, 6), ridge=st.sampled_from([0.1, 1.0, 30.0]))
def test_weights_are_those_of_logistic_regression(seed: int, columns: int, ridge: float) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(200, columns)) * draw.uniform(0.2, 3, columns)
    labels = (draw.random(200) < 1 / (1 + np.exp(-rows @ draw.normal(size=columns) - 1))).astype(float)
    labels[:2] = 0, 1
    weights, bias = logistic(torch.from_numpy(rows), torch.from_numpy(labels), ridge)
    known = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(rows, labels)
    np.testing.assert_allclose(weights.numpy(), known.coef_[0], atol=1e-4)
    assert float(bias) == pytest.approx(known.intercept_[0], abs=1e-4)


def test_what_is_told_apart_at_once_and_what_never_changes_have_finite_weights() -> None:
    rows = torch.tensor([[1.0, 5.0], [1.0, 6.0], [1.0, -5.0], [1.0, -7.0]], dtype=torch.float64)
    weights, bias = logistic(rows, torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64), 0.01)
    logits = rows @ weights + bias
    assert torch.isfinite(logits).all()
    assert log_loss(logits, torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)) < 0.1
    only = torch.ones(4, dtype=torch.float64)
    assert torch.isfinite(torch.cat([logistic(rows, only, 1.0)[0], logistic(rows, only, 1.0)[1][None]])).all()


def test_rows_are_added_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rows, labels = (
        torch.from_numpy(draw.normal(size=(100, 3))),
        torch.from_numpy((draw.random(100) < 0.4).astype(float)),
    )
    whole = logistic(rows, labels, 1.0)
    monkeypatch.setattr(module, "BLOCK", 7)
    for one, other in zip(logistic(rows, labels, 1.0), whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 8))
def test_elimination_solves(seed: int, size: int) -> None:
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(size, size))
    matrix, x = root @ root.T + np.eye(size), draw.normal(size=size)
    np.testing.assert_allclose(solve(matrix, matrix @ x), x, atol=1e-8)


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    random = np.random.default_rng(3)
    rows = torch.from_numpy(random.normal(size=(40, 3)))
    labels = torch.from_numpy((random.random(40) < 0.4).astype(np.float64))
    share = torch.ones(40, dtype=torch.float64)
    share[:7] = 2
    heavy = logistic(rows, labels, 1.0, share)
    twice = logistic(torch.cat([rows, rows[:7]]), torch.cat([labels, labels[:7]]), 1.0)
    for one, other in zip(heavy, twice, strict=True):
        torch.testing.assert_close(one, other)
