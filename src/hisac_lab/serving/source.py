"""Where versions come from: an alias of the registry, or a folder with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hisac_lab.registry.aliased import Aliased
from hisac_lab.serving.engine import Engine


class Source(Protocol):
    """Where versions come from."""

    def newer(self, engine: Engine | None) -> Engine | None:
        """The version of the moment; None: it is this one.

        Raises:
            UserError: There is none, or it is damaged.
        """


class Folder:
    """A bundle as the stage `register` writes it, or a link to one, which may be pointed at another.

    Args:
        bundle: The folder or link.
    """

    def __init__(self, bundle: Path) -> None:
        self.bundle, self.known = bundle, Path()

    def newer(self, engine: Engine | None) -> Engine | None:
        """See `Source`."""
        there = self.bundle.resolve()
        if engine is not None and there == self.known:
            return None
        made = Engine(there, there.name)
        self.known = there
        return made


class Alias:
    """The version that an alias of the product points at.

    Args:
        aliased: The alias.
    """

    def __init__(self, aliased: Aliased) -> None:
        self.aliased = aliased

    def newer(self, engine: Engine | None) -> Engine | None:
        """See `Source`."""
        number = self.aliased.number()
        if engine is not None and engine.version == number:
            return None
        return Engine(self.aliased.bundle(number), number)
