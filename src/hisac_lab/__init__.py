"""A reproducible laboratory for models of ultra-long user histories in recommender systems."""

import os as _os
from importlib import metadata as _metadata

from hisac_lab.base import arithmetic as _arithmetic

# Before NumPy and torch are loaded: they choose their code once.
_arithmetic.choose("native" if _os.environ.get(_arithmetic.MODE) == "native" else "portable")

try:
    __version__ = _metadata.version("hisac-lab")
except _metadata.PackageNotFoundError:  # a checkout on the path that nobody has installed
    __version__ = "0+unknown"
