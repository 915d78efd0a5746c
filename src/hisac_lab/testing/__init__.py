"""The laws that every model, quantizer and source of data obeys, for a package that brings its own.

    from hisac_lab.testing import ModelContract

    class TestMine(ModelContract):
        models = MyBranch.examples

Only this part of the package needs pytest.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{room}" for room in ("models", "quantizers", "sources")))

# isort: split
from hisac_lab.testing.models import ModelContract  # noqa: E402
from hisac_lab.testing.quantizers import QuantizerContract  # noqa: E402
from hisac_lab.testing.sources import SourceContract  # noqa: E402

__all__ = ["ModelContract", "QuantizerContract", "SourceContract"]
