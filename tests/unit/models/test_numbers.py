"""Numeric columns of the item table: from the file to the scores, standardized, with a flag where one is not known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kit import BACKBONE, HEADER, MODELS, as_backbone, make_history, make_items, prepare_log, raw_log, says

from hisac_lab.base.errors import UserError
from hisac_lab.config.base import parse
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.items import standardized
from hisac_lab.models.catalog import build

TABLE = 'item_id,title,price,length\n0,a,"1,5",10\n1,b,,20\n2,c,"-3",\n'


def _log() -> str:
    number = np.arange(60)
    rows = zip(number % 3, number % 4, np.where(number % 7 < 3, 5, 2), 1000 + number, strict=True)
    return HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)


def _settings(**columns: object) -> PrepareConfig:
    return PrepareConfig(columns=ColumnsConfig.model_validate(columns), positive_from=4.0)


def test_numbers_of_the_table_stand_beside_the_items(tmp_path: Path) -> None:
    table = TABLE + "3,d,2,5\n"
    raw = raw_log(tmp_path / "raw", _log(), table)
    prepare_log(_settings(numbers=("price", "length"), decimal=","), raw, tmp_path / "out")
    store = EventStore.open(tmp_path / "out")
    assert store.manifest.numbers == ["price", "length"]
    assert store.item_numbers is not None
    np.testing.assert_array_equal(store.item_numbers, [[1.5, 10], [np.nan, 20], [-3, np.nan], [2, 5]])
    assert pd.isna(store.item_table["price"]).tolist() == [False, True, False, False]
    prepare_log(_settings(decimal=","), raw, tmp_path / "plain")
    plain = EventStore.open(tmp_path / "plain")
    assert plain.item_numbers is None
    assert plain.manifest.protocol != store.manifest.protocol


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    raw = raw_log(tmp_path / "raw", _log(), "item_id,title,price\n0,a,1\n1,b,cheap\n2,c,3\n3,d,4\n")
    with says("items.csv", "line 3", "price", "cheap"):
        prepare_log(_settings(numbers=("price",)), raw, tmp_path / "out")
    with pytest.raises(UserError, match="name a column twice"):
        parse(ColumnsConfig, {"fields": ["price"], "numbers": ["price"]}, "settings")


def test_numbers_are_standardized_on_a_logarithmic_scale() -> None:
    found = standardized(np.array([[1.0, 7.0], [np.nan, 7.0], [-3.0, 7.0], [0.0, 7.0]]))
    logs = np.array([math.log(2), -math.log(4), 0.0])
    wanted = (logs - logs.mean()) / logs.std()
    assert found[[0, 2, 3], 0].tolist() == pytest.approx(wanted)
    assert found[1].tolist() == [0, 0, 1, 0]
    assert found[:, 1].tolist() == [0] * 4
    assert found[:, 2].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("name", ["din-whole", "hisac", "mean"])
def test_models_read_the_numbers_of_items_and_are_else_what_they_were(name: str, tmp_path: Path) -> None:
    plain = make_items()
    numbers = torch.randn(len(plain.semantic), 4, generator=torch.Generator().manual_seed(0))
    space = dataclasses.replace(plain, numbers=numbers)
    model, before = as_backbone(build(MODELS[name], BACKBONE, space, 0)).eval(), build(MODELS[name], BACKBONE, plain, 0)
    state, other = model.state_dict(), before.state_dict()
    assert set(state) - set(other) == {"encoder.measure.weight", "encoder.numbers"}
    assert all(torch.equal(state[key], part) for key, part in other.items())
    history, candidates = make_history([7, 2]), torch.arange(6).view(2, 3)
    scores = model(history, candidates)
    changed = dataclasses.replace(space, numbers=numbers + 1)
    assert not torch.equal(build(MODELS[name], BACKBONE, changed, 0).eval()(history, candidates), scores)
    every = torch.arange(len(numbers))
    torch.testing.assert_close(model.encoder(every)[:5], model.encoder(every[:5]))
    assert model.encoder.cost(every[:5]) == 5 * (plain.semantic.shape[1] + 4) * BACKBONE.dim
    save_model(tmp_path, model, MODELS[name], space)
    assert torch.equal(load_model(tmp_path)[0](history, candidates), scores)
