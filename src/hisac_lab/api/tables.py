"""Results as tables: text where text is printed, HTML in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class Printed(ABC):
    """A result that shows itself as its table.

    Attributes:
        caption: One line above the table.
    """

    caption: str = ""

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The result, ready to read."""

    def __str__(self) -> str:
        lines = [self.caption] if self.caption else []
        return "\n".join([*lines, self.table().to_string(index=False)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        caption = f"<p>{self.caption}</p>" if self.caption else ""
        return caption + self.table().to_html(index=False, border=0)
