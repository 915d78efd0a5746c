"""Golden losses: twenty steps of each model on the processor, compared with `NAME.json` beside this file.

In portable arithmetic they are equal to the last bit, on every x86-64 processor with AVX2; in native arithmetic
(HISAC_LAB_ARITHMETIC=native, or another processor) near them.

They guard against numbers that move without anyone meaning it. The golden settings of a model write out every field, so
that a change of defaults moves nothing, and requests and items are drawn here, so that a change in the preparation of
data or in quantizers does not either. When a change is meant to move them, say so in reports/LOG.md and run

    HISAC_LAB_REGENERATE=1 pytest tests/golden

which writes the files anew; the difference then stands in the commit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from golden import MODELS, STEPS, train_briefly

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import write_json

NATIVE_TOLERANCE = 1e-3  # relative; batch normalization in SAM magnifies the last digits up to 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_of_a_golden_model_is_written_out(name: str) -> None:
    assert MODELS[name].model_fields_set | {"kind"} == set(type(MODELS[name]).model_fields)


def test_settings_and_losses_go_together() -> None:
    assert {path.stem for path in Path(__file__).parent.glob("*.json")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_losses_of_twenty_steps_are_the_golden_ones(name: str) -> None:
    steps = min(STEPS, int(os.environ.get("HISAC_LAB_GOLDEN_STEPS", STEPS)))  # fewer where steps are slow
    losses, _ = train_briefly(name, steps)
    assert len(losses) == steps
    path = Path(__file__).with_name(f"{name}.json")
    if os.environ.get("HISAC_LAB_REGENERATE"):
        write_json(path, losses)
        pytest.skip(f"{path.name} is written anew")
    golden = json.loads(path.read_text())[:steps]
    if arithmetic.in_effect() == "portable":
        assert losses == golden, "see this file's docstring if the change is meant"
    else:
        assert losses == pytest.approx(golden, rel=NATIVE_TOLERANCE)
