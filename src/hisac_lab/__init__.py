"""A reproducible laboratory for models of ultra-long user histories in recommender systems."""

import os as _os
from importlib import import_module as _import_module
from importlib import metadata as _metadata
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from hisac_lab.base import arithmetic as _arithmetic

# Before NumPy and torch are loaded: they choose their code once.
_arithmetic.choose("native" if _os.environ.get(_arithmetic.MODE) == "native" else "portable")

try:
    __version__ = _metadata.version("hisac-lab")
except _metadata.PackageNotFoundError:  # a checkout on the path that nobody has installed
    __version__ = "0+unknown"

if _TYPE_CHECKING:
    from hisac_lab.api import Comparison as Comparison
    from hisac_lab.api import Data as Data
    from hisac_lab.api import Log as Log
    from hisac_lab.api import Model as Model
    from hisac_lab.api import UserError as UserError
    from hisac_lab.api import evaluate as evaluate
    from hisac_lab.api import load as load

_FRONT = ("Comparison", "Data", "Log", "Model", "UserError", "evaluate", "load")


def __getattr__(name: str) -> _Any:
    """The front door (see `hisac_lab.api`), loaded when it is first asked for: it brings torch."""
    if name in _FRONT:
        return getattr(_import_module("hisac_lab.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRONT})
