"""What the stage `acquire` writes."""

from __future__ import annotations

from hisac_lab.base.records import Output, Record


class Source(Record):
    """Where a log comes from.

    Attributes:
        dataset: Its name among the settings.
        layout: How its files are laid out.
        files: Name of each raw file to its SHA-256.
    """

    dataset: str
    layout: str
    files: dict[str, str]


class Acquired(Source, Output):
    """Manifest of `acquire`; some data sets add facts of their own."""
