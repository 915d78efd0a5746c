"""What a record of a stage's file is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A part of a JSON file."""

    model_config = ConfigDict(frozen=True, extra="ignore")
