"""Bundles of untrained models whose scores differ, for the server to answer with."""

from __future__ import annotations

from pathlib import Path

from kit import EVERY, ITEMS, lively, make_items

from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.contract import ItemSpace

SPACE = make_items()


def bundle(home: Path, name: str, space: ItemSpace = SPACE, seed: int = 0) -> Path:
    """A bundle; its items are i0, i1, and so on, and it reads the last 50 events of a history."""
    home.mkdir()
    digest = "0123456789abcdef" if EVERY[name].needs_instances else None
    save_model(home, lively(name, space, seed), EVERY[name], space, digest)
    VocabularyFile(items=[f"i{item}" for item in range(ITEMS)], history_limit=50).save(home)
    return home
