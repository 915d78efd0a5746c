"""Section `prepare`: how a log becomes samples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hisac_lab.config.base import HalfLife, Name, Section, Seed

EARLIEST = -30_610_224_000  # the year 1000, in seconds since 1970: no time is before it


def _time_format(text: str) -> str:
    moment = datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
    try:
        datetime.strptime(moment.strftime(text), text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no format of a time ({error}): write one like '%d.%m.%Y %H:%M'") from error
    return text


TimeForm = Annotated[str, Field(pattern="%"), AfterValidator(_time_format)]
"""A format of times as `strptime` takes it."""


class ColumnsConfig(Section):
    """What the columns of an own log are called."""

    user: str = Field("user_id", description="column of the user")
    item: str = Field("item_id", description="column of the item, in the log and in the item table")
    time: str = Field("timestamp", description="column of the time")
    label: str | None = Field("rating", description="column of the feedback; null: every event is a positive")
    label_range: tuple[float, float] | None = Field(None, description="smallest and largest feedback; null: any number")
    text: tuple[str, ...] = Field(("title",), description="columns of the item table that describe it in words")
    fields: tuple[str, ...] = Field((), description="categorical columns of the item table")
    numbers: tuple[str, ...] = Field(
        (), description="numeric columns of the item table, like price or length; empty where it is not known"
    )
    user_fields: tuple[str, ...] = Field((), description="categorical columns of the user table")
    user_numbers: tuple[str, ...] = Field((), description="numeric columns of the user table, empty where not known")
    request_fields: tuple[str, ...] = Field(
        (),
        description="categorical columns of the log that are known before the answer, like device or placement; a "
        "request has those of its first event",
    )
    request_numbers: tuple[str, ...] = Field((), description="numeric ones, like the hour; empty where not known")
    separator: str | None = Field(None, description="between values; null: tab for .tsv, else comma")
    time_format: Literal["seconds", "milliseconds", "microseconds", "nanoseconds", "iso"] | TimeForm = Field(
        "seconds",
        description="numbers count from 1970; iso is text like 2026-11-21T08:00:00; other text by its format, like "
        "'%d.%m.%Y %H:%M'",
    )
    decimal: Literal[".", ","] = Field(".", description="sign before the fraction of a number")
    label_values: dict[str, float] | None = Field(
        None, description="numbers that the words of the feedback stand for, like {'yes': 1, 'no': 0}; null: numbers"
    )

    @model_validator(mode="after")
    def _each_once(self) -> ColumnsConfig:
        for side in ("", "user_", "request_"):
            named = (*getattr(self, f"{side}fields"), *getattr(self, f"{side}numbers"))
            if len(set(named)) < len(named):
                raise ValueError(f"{side}fields and {side}numbers name a column twice: {', '.join(named)}")
        taken = {self.user, self.item, self.time, self.label}
        if late := next((name for name in (*self.request_fields, *self.request_numbers) if name in taken), None):
            raise ValueError(f"{late!r} is no column of the request: name what is known before the answer")
        return self


class KeepConfig(Section):
    """Share of each period's requests that become samples, drawn by hash; histories are always whole."""

    train: float = Field(1.0, gt=0, le=1, description="of the training requests")
    valid: float = Field(1.0, gt=0, le=1, description="of the validation requests")
    test: float = Field(1.0, gt=0, le=1, description="of the test requests")


LEFT_OUT = ("bad_rows", "unknown_items")
"""Keys of `prepare` that may leave out what else stops a run."""


class PrepareConfig(Section):
    """How the log becomes histories, requests and samples."""

    columns: ColumnsConfig = Field(ColumnsConfig(), description="own only: what each column is called")
    feedback: str | None = Field(
        None, description="official layouts with several kinds of feedback: which one; null: the usual one"
    )
    positive_from: float | None = Field(
        None, description="feedback at or above it is a positive, below a real negative; null: what is usual"
    )
    tasks: dict[Name, str] = Field(
        {},
        description="further answers of an exposure by name, like {bought: is_buy}: a column of an own log, or a kind "
        "of feedback of an official layout; from 0 to 1, empty where none is known; see backbone.tasks",
    )
    weight: str | None = Field(
        None, description="own only: column of the weight of an event in training, 0 or more; null: all weigh the same"
    )
    order: Literal["sort", "refuse"] = Field("sort", description="what to do with events out of time order")
    duplicates: Literal["drop", "refuse"] = Field(
        "refuse", description="what to do with a second event of the same user, item and time"
    )
    bad_rows: Literal["refuse", "drop"] = Field(
        "refuse",
        description="own only: what to do with rows that have a value that cannot be used, like an empty id, or "
        "another number of values than the header; drop leaves them out and counts them by reason",
    )
    unknown_items: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with events on items that have no row in the item table"
    )
    since: int | None = Field(None, ge=EARLIEST, description="first second of the log; null: no bound")
    until: int | None = Field(None, ge=EARLIEST, description="end of the log in seconds; null: no bound")
    outside: Literal["refuse", "drop"] = Field("refuse", description="what to do with events outside these bounds")
    items_without_text: Literal["keep", "drop"] = Field(
        "keep", description="drop leaves out events on items whose text is empty; keep: see embed.without_text"
    )
    time_unit: Literal["second", "day"] = Field("second", description="events of the same unit never see each other")
    history: Literal["auto", "positives", "all"] = Field(
        "auto", description="which events make up a history, each with its feedback; auto: all where there is feedback"
    )
    label_delay: int = Field(
        0, ge=0, description="seconds after which the feedback of an event is known; a history tells none before that"
    )
    half_lives: tuple[HalfLife, ...] = Field(
        (1.0, 7.0, 30.0), description="days after which an event counts half, in what models are told of item and pair"
    )
    history_limit: int = Field(1000, ge=1, description="a history keeps its most recent events")
    min_history: int = Field(1, ge=0, description="samples with a shorter history are counted and left out")
    train_share: float = Field(0.7, gt=0, lt=1, description="share of the events, the earliest, for training")
    valid_share: float = Field(0.1, gt=0, lt=1, description="share after that for validation; the rest is the test")
    cuts: tuple[int, int] | None = Field(
        None, description="begin of validation and of test in seconds; null: the publisher's, else by the shares above"
    )
    keep: KeepConfig = Field(KeepConfig(), description="share of the requests that become samples")
    exposures: Literal["kept", "all"] = Field(
        "kept",
        description="what a store of instances holds (IAT); kept: the samples; all: also exposures that keep or "
        "min_history leave out, 29 bytes each here",
    )
    negatives: int = Field(
        4, ge=1, description="logs without feedback only: negatives drawn per positive, from items alive at its time"
    )
    negatives_by: Literal["uniform", "popularity", "recent", "matched"] = Field(
        "uniform",
        description="uniform: any item alive; popularity: the item of any event up to then; recent: any item that "
        "anybody touched in the days of negatives_window (positives touched longer ago stand out); matched: any item "
        "whose last touch by anybody lies as many days before the time unit as the positive's, in powers of two",
    )
    negatives_window: int = Field(30, ge=1, description="negatives_by recent only: days before the time unit")
    new_items: Literal["keep", "drop"] = Field(
        "keep",
        description="logs without feedback only: positives on an item that nobody had touched before the time unit; "
        "drop leaves them to histories. No negative matches them, and recency alone tells them from all others",
    )
    positives_per_request: int | None = Field(
        None,
        ge=1,
        description="logs without feedback only: a request keeps so many of its positives, drawn; null: all. One bulk "
        "action (a commit of a thousand files) else outweighs a thousand others",
    )
    seed: int = Field(0, ge=0, description="seed of those draws")
    shards: tuple[Seed, ...] = Field(
        (0, 1), min_length=1, description="parts the users are spread over, 0 to n-1: one job each, the same result"
    )

    def history_of(self, labeled: bool) -> Literal["positives", "all"]:
        """Which events make up a history of a log with feedback, or of one without."""
        if self.history != "auto":
            return self.history
        return "all" if labeled else "positives"

    @model_validator(mode="after")
    def _consistent(self) -> PrepareConfig:
        if self.train_share + self.valid_share >= 1:
            raise ValueError("train_share and valid_share leave nothing for the test: their sum must be below 1")
        if self.shards != tuple(range(len(self.shards))):
            raise ValueError(f"shards is {list(self.shards)}, but must count 0, 1, ... without a gap")
        if self.cuts is not None and self.cuts[0] >= self.cuts[1]:
            raise ValueError("cuts must rise: the begin of validation, then the begin of test")
        if None not in (self.since, self.until) and self.since >= self.until:  # type: ignore[operator]
            raise ValueError("since must be before until")
        return self
