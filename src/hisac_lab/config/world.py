"""Settings of the simulated world that `acquire.dataset: world` makes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from pydantic import Field, model_validator

from hisac_lab.config.base import Section, Size

FOCUS = 4
"""Interests that a user is busy with at any time."""
MAX_TOPICS = (16, 16, 8)
"""Topics, subtopics of each and themes of each that there are words for."""
SETTLED = 16
"""Requests after the birth of an interest from which on its user counts as knowing its subtopic."""
Preset = Literal["tiny", "small", "long", "huge"]


@dataclass(frozen=True)
class World:
    """A world with every knob set; `WorldConfig` says what each means."""

    users: int
    items: int
    events_per_user: int
    days: int
    topics: tuple[int, int, int]
    interests: int
    old_after: int
    share_old: float = 0.4
    slate: int = 10
    dim: int = 32
    noise: float = 0.6
    popularity: float = 1.0
    drift: float = 0.3
    season: float = 0.2
    repeat: float = 0.5
    position_bias: float = 0.2
    scene: float = 0.0
    two_step: int = 0
    seed: int = 0

    @property
    def requests(self) -> int:
        """Requests of each user."""
        return self.events_per_user // self.slate


PRESETS: dict[Preset, World] = {
    "tiny": World(users=60, items=1_000, events_per_user=800, days=90, topics=(8, 8, 2), interests=12, old_after=150),
    "small": World(
        users=500, items=5_000, events_per_user=1_000, days=180, topics=(12, 12, 4), interests=20, old_after=200
    ),
    "long": World(
        users=200,
        items=20_000,
        events_per_user=28_000,
        days=1_000,
        topics=(16, 16, 4),
        interests=40,
        old_after=500,
        share_old=0.5,
    ),
    "huge": World(
        users=100_000, items=200_000, events_per_user=1_000, days=365, topics=(16, 16, 8), interests=20, old_after=200
    ),
}
"""A user of `long` clicks on 10,000 of the 28,000 exposures, and clicks are what a history is made of by default."""


class WorldConfig(Section):
    """A preset and what differs from it; null takes the preset's value."""

    preset: Preset = Field(
        "tiny", description="48 thousand events; small: 500 thousand; long: 10,000 clicks a user; huge: 100 million"
    )
    users: int | None = Field(None, ge=1, description="users; this and all below: null takes the preset's value")
    items: int | None = Field(None, ge=1, le=1_000_000, description="items")
    events_per_user: int | None = Field(None, ge=1, le=1_000_000, description="exposures of each user, clicked or not")
    slate: int | None = Field(None, ge=1, le=100, description="items shown at once: they share user and time")
    days: int | None = Field(None, ge=1, le=20_000, description="length of the log")
    topics: tuple[Size, Size, Size] | None = Field(
        None, description="topics, subtopics of each, themes of each; at most [16, 16, 8]"
    )
    interests: int | None = Field(
        None, ge=FOCUS, description="subtopics each user comes to like, one after the other; 4 at a time"
    )
    share_old: float | None = Field(
        None, ge=0, le=1, description="share of requests about a topic last shown more than old_after exposures ago"
    )
    old_after: int | None = Field(None, ge=1, description="exposures after which a topic is old")
    dim: int | None = Field(None, ge=2, description="width of the items' content vectors")
    noise: float | None = Field(None, ge=0, description="an item's own part of its content vector; a topic's part is 1")
    popularity: float | None = Field(None, ge=0, le=2, description="exponent of the popularity tail: rank**-exponent")
    drift: float | None = Field(
        None, ge=0, le=3, description="how far the strength of an interest moves over a life, log scale"
    )
    season: float | None = Field(None, ge=0, description="weekly and yearly swing of each topic, in logits")
    repeat: float | None = Field(None, description="what an earlier exposure of the same item adds, in logits")
    position_bias: float | None = Field(
        None, ge=0, le=3, description="position j, from 0, is examined with probability (1 + j)**-position_bias"
    )
    scene: float | None = Field(
        None,
        ge=0,
        le=10,
        description="spread of a user's taste for each scene (a quarter of the day), in logits; above 0 the log names "
        "the scene of every exposure by hashed columns, which no item and no history knows",
    )
    two_step: int | None = Field(
        None,
        ge=0,
        description="subtopics that each user knows by a guide alone, a past item that joins it to another subtopic: "
        "they are asked about once, and like it if they know the other; 0: no item is a guide",
    )
    seed: int | None = Field(None, ge=0, description="seed of the items and of every user")

    @model_validator(mode="after")
    def _possible(self) -> WorldConfig:
        resolve(self)
        return self


def resolve(config: WorldConfig) -> World:
    """The preset with the given knobs in place of its own.

    Raises:
        ValueError: The knobs contradict each other; `rule: hint`.
    """
    named = {field.name: getattr(config, field.name) for field in fields(World)}
    world = replace(PRESETS[config.preset], **{name: value for name, value in named.items() if value is not None})
    subtopics, leaves = world.topics[0] * world.topics[1], world.topics[0] * world.topics[1] * world.topics[2]
    least = FOCUS + 1 + math.ceil(world.old_after / world.slate) // 2
    rules = (
        (
            all(1 <= one <= most for one, most in zip(world.topics, MAX_TOPICS, strict=True)),
            f"topics {list(world.topics)} is out of range: give 1 to 16, 1 to 16 and 1 to 8",
        ),
        (
            world.items >= 2 * leaves and world.items >= 2 * world.slate,
            f"items {world.items} is too few for {leaves} themes and a slate of {world.slate}: give 2 or more for each",
        ),
        (
            world.events_per_user % world.slate == 0,
            f"events_per_user {world.events_per_user} leaves a part of a slate: give a multiple of {world.slate}",
        ),
        (
            world.interests <= min(subtopics // 2, world.requests),
            f"interests {world.interests} is too many for {subtopics} subtopics, of which half are liked, and "
            f"{world.requests} requests: lower it or raise topics or events_per_user",
        ),
        (
            not world.two_step or world.topics[2] > 1,
            "two_step needs items that are no guides: give topics two themes or more",
        ),
        (
            world.two_step <= max(0, min(subtopics - 2 * world.interests, (world.requests - SETTLED) // 3)),
            f"two_step {world.two_step} is too many: give at most one for each subtopic beside the "
            f"{2 * world.interests} of interests and decoys, and for each three requests after {SETTLED}",
        ),
        (
            world.share_old == 0 or world.interests >= least,
            f"interests {world.interests} is too few to return to what is older than {world.old_after} exposures all "
            f"the time: give {least} or more, or lower old_after",
        ),
        (
            world.days * 86_400 >= 2 * world.requests,
            f"days {world.days} is too short for {world.requests} requests of a user: raise it",
        ),
    )
    for holds, broken in rules:
        if not holds:
            raise ValueError(broken)
    return world
