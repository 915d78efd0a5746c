"""What the stages `ingest`, `shard`, `prepare` and `instances` write; the event and instance stores are of this room.

Times are seconds since 1970, UTC; histories are counted in events.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hisac_lab.base.records import Digested, Output, Record
from hisac_lab.events.feedback import Levels
from hisac_lab.events.side_columns import SideColumns
from hisac_lab.sources.records import Source

EXPOSURES, POSITIVES = "exposures", "positives"
"""Item series: every event of a log with feedback, and its positives, each at the time its label arrived."""


class RawFile(Record):
    """A file of the log, where its rows begin among all rows, and its names of the columns by role."""

    path: str
    first_row: int
    layout: dict[str, Any] | None
    names: dict[str, str]


class ItemField(Record):
    """A categorical field of the items and how many values it has."""

    name: str
    size: int


class Ingested(Output):
    """Manifest of `ingest`.

    Attributes:
        source: Of the raw log.
        raw: Its files.
        items_described: Items that its item table describes.
        events_outside: Events outside the bounds.
        labeled: Whether the log has feedback.
        positive_from: The least feedback that is positive; None without feedback.
        feedback: Its levels; None without feedback.
        extras: Columns kept beside the samples.
        logged: Columns of an exposure that were known when it was served, by name: how many codes, 0 for a number;
            words have codes from 1 on, 0 is unknown.
        numbers: Numeric columns of the item table.
        user: Columns of the users.
        request: Those of the logged columns that are of the request.
        roles: Columns of an event beside user, item and time.
        cuts: Begin of the validation and of the test period.
        shard_begins: First user of each shard, and the number of users.
        untimed: Whether times are but places in an order.
        left_out: Rows and events left out because of what they hold, by reason.
    """

    source: Source
    raw: list[RawFile]
    users: int
    items: int
    items_described: int
    events: int
    events_outside: int
    labeled: bool
    positive_from: float | None
    feedback: Levels | None = None
    extras: list[str]
    logged: dict[str, int] = Field(default_factory=dict)
    roles: list[str]
    fields: list[ItemField]
    numbers: list[str] = Field(default_factory=list)
    user: SideColumns = SideColumns()
    request: SideColumns = SideColumns()
    cuts: list[int]
    shard_begins: list[int]
    untimed: bool = False
    left_out: dict[str, int] = Field(default_factory=dict)

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the item series that the log gives; times that are places in an order give none."""
        if self.untimed:
            return ()
        return (POSITIVES, EXPOSURES) if self.labeled else (POSITIVES,)


class ContextFacts(Record):
    """What a log gives for the context of a request; a log whose times are places in an order has no series.

    Attributes:
        half_lives: Days.
        series: Names of its item series.
        share: Positive share of the training samples.
        unit: Seconds of a time unit.
        user: Columns of its users.
        request: Columns of its requests, which are logged.
    """

    half_lives: tuple[float, ...] = ()
    series: tuple[str, ...] = ()
    share: float = 0.5
    unit: int = 1
    user: SideColumns = SideColumns()
    request: SideColumns = SideColumns()


class Leaks(Record):
    """What the check of every history counted."""

    samples_checked: int
    history_of_another_user: int
    history_after_the_request: int
    history_left_out: int


class Sharded(Output):
    """Manifest of one instance of `shard`; months and splits are counts that `prepare` adds up.

    Attributes:
        positives_on_new_items: Positives on an item that nobody had touched before their time unit, which
            `prepare.new_items` may drop; None: the log has feedback.
    """

    users: int
    events: int
    events_out_of_order: int
    events_repeated: int
    requests: int
    samples_without_history: int
    samples_not_kept: int
    positives_on_new_items: int | None = None
    leaks: Leaks
    months: dict[str, dict[str, int]]
    splits: dict[str, dict[str, int]]


class Split(Record):
    """One period."""

    samples: int
    requests: int
    users: int
    positive_share: float
    first: int = Field(alias="from")
    last: int = Field(alias="to")
    history_p10: int
    history_p50: int
    history_p90: int
    history_p99: int


class Month(Record):
    """Events of one month; the share is None where the log has no feedback."""

    events: int
    positive_share: float | None = None


class Profile(Record):
    """Shape of the log."""

    months: dict[str, Month]
    history_length_deciles: list[int]
    history_length_p99: int
    item_age_days: dict[str, int]
    test_share_of_new_users: float
    test_share_of_new_items: float


class Prepared(Output):
    """Manifest of `prepare`.

    Attributes:
        positives_on_new_items: As `shard` counts them.
        feedback: Its levels; None without feedback.
        label_delay: Seconds after which an event's feedback is known.
        negatives: Where negatives come from, in words.
        numbers: Numeric columns of the item table.
        logged: As `Ingested` has them.
        left_out: As `Ingested` has them.
        exposures: Exposures beside the samples, by period; empty where `prepare.exposures` is kept.
        cuts: Begin of the periods `valid` and `test`.
        protocol: Digest of settings, raw files and cuts.
        context: What the log gives for the context of a request.
    """

    dataset: str
    users: int
    items: int
    items_described: int
    events: int
    events_outside: int
    events_out_of_order: int
    events_repeated: int
    history_events: int
    samples_without_history: int
    samples_not_kept: int
    positives_on_new_items: int | None = None
    positive_from: float | None
    feedback: Levels | None = None
    label_delay: int = 0
    negatives: str
    time_unit: str
    history_limit: int
    fields: list[ItemField]
    numbers: list[str] = Field(default_factory=list)
    extras: list[str]
    logged: dict[str, int] = Field(default_factory=dict)
    exposures: dict[str, int] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    cuts: dict[str, int]
    splits: dict[str, Split]
    leaks: Leaks
    protocol: str
    profile: Profile
    context: ContextFacts = ContextFacts()


class InstancesMade(Digested):
    """Manifest of `instances`; for order none there are order and digest alone.

    Attributes:
        order: In which the source model has learned; "none": there is no store; "both": a folder for each order.
        rows: Vectors of each instance.
        unit: Seconds of a time unit.
        instances: Number by split.
        logged: Columns of the exposures that the source reads.
        explained: Of each chunk, the share of the last weights' vectors that its own ones explain, rotated; see
            `training.basis`.
    """

    order: str
    settings: dict[str, Any] = Field(default_factory=dict)
    rows: list[str] = Field(default_factory=list)
    unit: int = 1
    instances: dict[str, int] = Field(default_factory=dict)
    vector_bytes: int = 0
    parameters: int = 0
    steps: int = 0
    source_valid_auc: float | None = None
    logged: list[str] = Field(default_factory=list)
    explained: list[float | None] = Field(default_factory=list)
