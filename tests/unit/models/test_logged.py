"""What the compressor reads of the log beside user, item and time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from kit import BACKBONE, ITEMS, make_history, make_items

from hisac_lab.models.catalog import build
from hisac_lab.models.instance_source import IATSourceConfig, InstanceSource
from hisac_lab.models.logged import LEAST, LoggedColumns
from hisac_lab.models.tables import Embedding

SIZES = {"device": 5, "position": 0, "placement": 3, "propensity": 0}
ROWS = torch.tensor([[0, 0, 2, 1.0], [4, 9, 0, 0.001], [9, 3, 1, 0.0], [2, 3, 1, 0.5]])
SPACE = make_items()


def test_a_column_adds_a_row_for_its_code_and_weights_for_its_number() -> None:
    torch.manual_seed(0)
    columns = LoggedColumns(SIZES, 6)
    columns.standardize([ROWS[:2], ROWS[2:]])
    assert columns.weigh is not None
    tables = []
    for table in columns.tables:
        assert isinstance(table, Embedding)
        tables.append(table.weight.detach().numpy().astype(float))
    weights = columns.weigh.weight.detach().numpy().astype(float)
    numbers = ROWS.numpy().astype(float)[:, [1, 3]]
    scales = np.concatenate([np.log1p(numbers), np.log(np.maximum(numbers, LEAST))], axis=1)
    scales = (scales - scales.mean(axis=0)) / scales.std(axis=0)
    expected = np.zeros((4, 6))
    for row, (device, _, placement, _) in enumerate(ROWS.tolist()):
        expected[row] = tables[0][min(int(device), 4)] + tables[1][int(placement)] + weights @ scales[row]
    np.testing.assert_allclose(columns(ROWS).detach().numpy(), expected, atol=1e-5)


def test_codes_alone_and_numbers_alone_are_read() -> None:
    assert LoggedColumns({"device": 5}, 4)(ROWS[:, :1]).shape == (4, 4)
    assert LoggedColumns({"position": 0}, 4)(ROWS[None, :, 1:2]).shape == (1, 4, 4)


def test_a_number_that_is_not_known_or_below_zero_counts_as_zero() -> None:
    columns = LoggedColumns({"position": 0}, 4)
    odd, zero = torch.tensor([[math.nan], [-3.0]]), torch.zeros(2, 1)
    columns.standardize([torch.cat([ROWS[:, 1:2], odd])])
    assert columns.shift.isfinite().all()
    assert torch.equal(columns(odd), columns(zero))


def _source(order: str, logged: dict[str, int]) -> InstanceSource:
    settings = {"order": order, "dim": 8, "decoder": (8,), "window": 5, "heads": 2, "logged": logged}
    model = build(IATSourceConfig.model_validate(settings), BACKBONE, SPACE, 0)
    assert isinstance(model, InstanceSource)
    return model.eval()


def test_an_instance_knows_what_the_log_says_of_its_own_exposure_alone() -> None:
    history = dataclasses.replace(make_history([4, 7]), instances=None)
    candidates = torch.randint(0, ITEMS, (2, 3), generator=torch.Generator().manual_seed(0))
    logged = ROWS[torch.tensor([[0, 1, 2], [3, 0, 1]])]
    for order in ("temporal", "user"):
        plain, told = _source(order, {}), _source(order, SIZES)
        state = told.encode(history)
        rows = told.instance(state, candidates, None, logged)
        torch.testing.assert_close(told.instance(state, candidates), plain.instance(plain.encode(history), candidates))
        assert not torch.allclose(rows, told.instance(state, candidates))
        other = logged.clone()
        other[1, 2] = ROWS[2]
        changed = (told.instance(state, candidates, None, other) != rows).any(dim=-1)
        assert changed.tolist() == [[False] * 3, [False, False, True]]
        rows.square().sum().backward()
        assert told.logged is not None
        assert all(part.grad is not None and part.grad.any() for part in told.logged.parameters())
