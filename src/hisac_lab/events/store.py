"""The event store, read side: histories are stored once, samples point into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.events.feedback import UNKNOWN, VotesFrom, first_voting
from hisac_lab.events.records import Prepared
from hisac_lab.events.side_columns import SideColumns, SideTable
from hisac_lab.tables.roles import TASK, WEIGHT

if TYPE_CHECKING:  # slow to import, and most stages read no table
    import pandas as pd

SPLITS = ("train", "valid", "test")
HISTORY_FEEDBACK = "history_feedback"
LOGGED = "logged"  # columns of the exposures of a part, as samples lie: `logged_SPLIT`, `logged_rest_SPLIT`
REST = "rest"  # exposures that are no samples: `rest_SPLIT`, in the form and order of samples
RANDOM = "random"  # the split of exposures by a random policy: never trained on
SAMPLE = np.dtype(
    [("time", "<i8"), ("end", "<i8"), ("user", "<i4"), ("item", "<i4"), ("request", "<i4"), ("label", "i1")]
)
"""A sample, 29 bytes: who, what, when, where in the store the history ends, which request, clicked or not."""


def sample_array(part: str) -> str:
    """Name of the array of a part's samples, a split or `rest_SPLIT`."""
    return part if part.startswith(REST) else f"samples_{part}"


@dataclass(frozen=True)
class EventStore:
    """Histories and samples, memory-mapped.

    Attributes:
        path: Output of the stage `prepare`.
        manifest: Its manifest.
        items: Item of each history event, sorted by (user, time, order); (E,) int32.
        times: Its time in seconds; (E,) int64.
        offsets: Where each user's events begin; (U + 1,) int64.
        feedback: Level of each event's feedback; (E,) uint8. None: the log has no feedback.
    """

    path: Path
    manifest: Prepared
    items: Array
    times: Array
    offsets: Array
    feedback: Array | None = None

    @classmethod
    def open(cls, path: Path) -> EventStore:
        """Opens the output of the stage `prepare`.

        Raises:
            UserError: The stage has not run.
        """
        items, times, offsets = (load_array(path, name) for name in ("history_items", "history_times", "offsets"))
        manifest = Prepared.open(path)
        feedback = None if manifest.feedback is None else load_array(path, HISTORY_FEEDBACK)
        return cls(path, manifest, items, times, offsets, feedback)

    def samples(self, split: str) -> Array:
        """Samples of one split, user by user in time order, those of a request together; (N,) of `SAMPLE`."""
        return load_array(self.path, f"samples_{split}")

    def extra(self, name: str, split: str) -> Array:
        """A column kept beside the samples of one split and apart from what models see; (N,) float32.

        Raises:
            KeyError: The data set has no such column.
        """
        if name not in self.manifest.extras:
            raise KeyError(name)
        return load_array(self.path, f"{name}_{split}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the answers that exposures have beside their label."""
        return tuple(name.removeprefix(TASK) for name in self.manifest.extras if name.startswith(TASK))

    def answers(self, split: str, tasks: Sequence[str]) -> Array:
        """Further answers of one split's samples, NaN where one is not known; (N, T) float32, T of `tasks`.

        Raises:
            UserError: The log was prepared without one of them.
        """
        for name in tasks:
            if name not in self.tasks:
                there = ", ".join(self.tasks) or "none"
                what = f"the log was prepared without these answers (there are: {there})"
                raise UserError(SETTINGS, what, "name their column in prepare.tasks", f"backbone.tasks.{name}")
        columns = [self.extra(f"{TASK}{name}", split) for name in tasks]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.samples(split)), 0), np.float32)

    def weights(self, split: str) -> Array | None:
        """Weight of each of one split's samples in training; (N,) float32. None: all weigh the same."""
        return self.extra(WEIGHT, split) if WEIGHT in self.manifest.extras else None

    def side(self, name: Literal["user", "request"]) -> SideTable:
        """Columns of the users, by number, or of the requests, by the field `request` of their samples."""
        known: SideColumns = getattr(self.manifest.context, name)
        return SideTable(known, load_array(self.path, "user_columns") if name == "user" else self._asked(known))

    def logged(self, part: str) -> Array:
        """What the log says of the exposures of a part, beside user, item and time.

        Args:
            part: A split, or `rest_SPLIT`.

        Returns:
            A column for each of the manifest's `logged`, in the order of the part's samples; (N, G) float32.
        """
        if not self.manifest.logged:
            return np.zeros((len(load_array(self.path, sample_array(part))), 0), np.float32)
        return load_array(self.path, f"{LOGGED}_{part}")

    def _asked(self, known: SideColumns) -> Array:
        """These logged columns of every request, those of its first exposure; (requests, F) float32."""
        parts = [*SPLITS, RANDOM, *(f"{REST}_{name}" for name in self.manifest.exposures)]
        columns = [list(self.manifest.logged).index(name) for name in known.names]
        heads, rows = list[Array](), list[Array]()
        for part in parts:
            samples = load_array(self.path, sample_array(part))
            request = np.ascontiguousarray(samples["request"])
            first = np.flatnonzero(np.diff(request, prepend=-1))
            heads.append(samples[first])
            rows.append(self.logged(part)[first][:, columns])
        head = np.concatenate(heads)
        order = np.lexsort((head["time"], head["request"]))  # a request may lie in several parts
        number, first = np.unique(head["request"][order], return_index=True)
        table = np.tile(known.unknown, (int(number.max(initial=-1)) + 1, 1))
        table[number] = np.concatenate(rows)[order][first]
        return table

    @property
    def limit(self) -> int:
        """Events a history keeps."""
        return self.manifest.history_limit

    def bounds(self, samples: Array) -> tuple[Array, Array]:
        """Where the histories of `samples` begin and end in the store; two (N,) int64."""
        end = samples["end"]
        return np.maximum(self.offsets[samples["user"]], end - self.limit), end

    def voters(self, user: int, votes_from: VotesFrom, until: int | None = None) -> tuple[Array, int]:
        """Where in the store the events of a user's history are that vote, and how many known negatives do not.

        Args:
            user: Number of the user.
            votes_from: Which events vote.
            until: Place in the store at which the history ends; None: after the user's last event.

        Returns:
            Places, oldest first; (n,) int64; the newest events up to the limit are looked at.
        """
        begin, end = int(self.offsets[user]), int(self.offsets[user + 1]) if until is None else until
        places = np.arange(max(begin, end - self.limit), end)
        if self.feedback is None:
            return places, 0
        levels = np.asarray(self.feedback[places])
        voting = (levels == UNKNOWN) | (levels >= first_voting(self.manifest.feedback, votes_from))
        return places[voting], int((~voting).sum())

    @cached_property
    def item_table(self) -> pd.DataFrame:
        """One row per item: item, text and the categorical fields."""
        import pandas as pd

        return pd.read_parquet(self.path / "items.parquet")

    @cached_property
    def user_ids(self) -> Array:
        """The users' own ids; (U,)."""
        import pandas as pd

        ids: Array = pd.read_parquet(self.path / "users.parquet")["user"].to_numpy()
        return ids

    @cached_property
    def item_fields(self) -> Array:
        """Codes of the categorical fields; (items, fields) int32."""
        return np.asarray(load_array(self.path, "item_fields"))

    @cached_property
    def item_numbers(self) -> Array | None:
        """Numeric columns of the item table, NaN where one is not known; (items, N) float64. None: it has none."""
        return np.asarray(load_array(self.path, "item_numbers")) if self.manifest.numbers else None
