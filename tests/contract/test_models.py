"""Every kind of model obeys the laws in `hisac_lab.testing`, here with a log that has gone through the stages."""

from __future__ import annotations

import pytest
from kit import EVERY

from hisac_lab.events.batches import Requests
from hisac_lab.models.catalog import BUILT_IN
from hisac_lab.models.contract import ItemSpace
from hisac_lab.testing import ModelContract


class TestModels(ModelContract):
    """All small settings of all kinds."""

    models = EVERY

    @pytest.fixture
    def space(self, items: ItemSpace) -> ItemSpace:
        """The items of the prepared log."""
        return items

    @pytest.fixture
    def requests(self, rows: dict[str, Requests]) -> Requests:
        """Requests of its test period."""
        return rows["test"]


def test_every_kind_of_model_that_learns_stands_in_this_suite() -> None:
    assert {config.kind for config in EVERY.values()} == {name for name, kind in BUILT_IN.items() if kind.Config.learns}
