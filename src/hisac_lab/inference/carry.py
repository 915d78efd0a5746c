"""What a model has learned, carried over into the same model made for other items."""

from __future__ import annotations

import torch
from torch import Tensor

from hisac_lab.models.backbone import ItemEncoder, Ranker
from hisac_lab.models.tables import rows_by_items

MOMENTS = ("shift", "scale")
"""Buffers that are not frozen facts of the items: what features are standardized by."""


@torch.no_grad()
def carry_over(before: Ranker, now: Ranker, place: Tensor) -> None:
    """Copies every learned number; rows of items and nodes that were not there stay as they were drawn.

    Args:
        before: A trained model.
        now: One of the same settings, just built; changed in place.
        place: Number in `now` of each item of `before`, -1 where it is gone; (items,) int64.

    Raises:
        ValueError: They are not of the same settings, or a learned table has no rule for other items.
    """
    learned, drawn = learned_of(before), learned_of(now)
    if learned.keys() != drawn.keys():
        names = sorted(learned.keys() ^ drawn.keys())
        raise ValueError(f"{names[0]} is in one of the two models alone")
    for name, values in learned.items():
        rows = _rows(name, before, now, place)
        if rows is None:
            if values.shape != drawn[name].shape:
                shapes = " and ".join(str(tuple(part.shape)) for part in (values, drawn[name]))
                raise ValueError(f"{name} has the shapes {shapes}")
            drawn[name].copy_(values)
        else:
            kept = rows >= 0
            drawn[name][rows[kept]] = values[kept]


def learned_of(model: Ranker) -> dict[str, Tensor]:
    """Parameters, and what features are standardized by; all else of a model that is stepped is frozen facts."""
    moments = {name: part for name, part in model.named_buffers() if name.rpartition(".")[2] in MOMENTS}
    return {name: part.data for name, part in model.named_parameters()} | moments


def _rows(name: str, before: Ranker, now: Ranker, place: Tensor) -> Tensor | None:
    """Where the rows of a table that grows with the items stand; None: it is no such table."""
    for path, encoder in now.named_modules():
        if isinstance(encoder, ItemEncoder) and name.startswith(f"{path}."):
            earlier = before.get_submodule(path)
            assert isinstance(earlier, ItemEncoder)
            return _rows_of_items(name.removeprefix(f"{path}."), earlier, encoder, place)
    if now.long is None or before.long is None or not name.startswith("long."):
        return None
    return now.long.rows(name.removeprefix("long."), before.long, place)


def _rows_of_items(name: str, before: ItemEncoder, now: ItemEncoder, place: Tensor) -> Tensor | None:
    """The same for the tables of an item encoder: a field's values are found by their items."""
    if name == "ids.weight":
        return place
    if name.startswith("ids.") and not torch.equal(place, torch.arange(len(place))):
        raise ValueError("rows that items share (backbone.table_mb) go by the items' numbers, which are others now")
    if name.startswith("tables."):
        column, there = int(name.split(".")[1]), place >= 0
        fields = before.fields[there, column], now.fields[place[there], column]
        return rows_by_items(*fields, len(before.get_parameter(name)))
    return None
