"""What each catalog refuses of a package from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hisac_lab.models import catalog
from hisac_lab.models.pooling import MeanBranch, MeanConfig
from hisac_lab.tables import layouts
from hisac_lab.tables.layouts.contract import Source
from hisac_lab.tables.layouts.own import own
from hisac_lab.tokens import methods
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.tokens.random_codes import RandomCodes


class Fitted(RandomCodes):
    """A quantizer that can be fitted."""

    @classmethod
    def fit(cls) -> None:
        """Fits."""


@pytest.mark.parametrize(
    ("fault", "name", "value", "words"),
    [
        (catalog._fault, "mean", MeanBranch, None),
        (catalog._fault, "mine", MeanBranch, "has a Config of kind 'mean'"),
        (catalog._fault, "mine", MeanConfig, "is no class of a model with a Config"),
        (catalog._fault, "mine", "a text", "is no class of a model with a Config"),
        (methods._fault, "random", Fitted, None),
        (methods._fault, "mine", Fitted, "is of kind 'random'"),
        (methods._fault, "mine", ResidualQuantizer, "is no ResidualQuantizer with a class method fit"),
        (layouts._fault, "mine", Source(own, files=("log.csv",)), None),
        (layouts._fault, "mine", Source(own), "has neither files nor fetch"),
        (layouts._fault, "mine", own, "is no Source"),
    ],
)
def test_a_catalog_says_what_is_wrong_with_a_plug_in(
    fault: Callable[[str, object], str | None], name: str, value: object, words: str | None
) -> None:
    said = fault(name, value)
    assert said is None if words is None else said is not None and words in said
