"""Settings of the world: presets, what differs from them, and what cannot be."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hisac_lab.base.errors import UserError
from hisac_lab.config.base import parse
from hisac_lab.config.world import PRESETS, World, WorldConfig, resolve


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_valid_and_every_knob_can_be_given(preset: str) -> None:
    plain = parse(WorldConfig, {"preset": preset}, "params.yaml")
    assert resolve(plain) == PRESETS[plain.preset]
    assert {field.name for field in fields(World)} == set(WorldConfig.model_fields) - {"preset"}
    given = parse(WorldConfig, {"preset": preset, "users": 7, "season": 0.0, "seed": 3}, "params.yaml")
    world = resolve(given)
    assert (world.users, world.season, world.seed) == (7, 0.0, 3)
    assert world.items == PRESETS[plain.preset].items


def test_presets_have_the_sizes_they_promise() -> None:
    events = {name: world.users * world.events_per_user for name, world in PRESETS.items()}
    assert events["tiny"] < 50_000
    assert events["small"] == 500_000
    assert events["huge"] == 100_000_000
    assert PRESETS["huge"].items == 200_000


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"topics": [17, 2, 2]}, "topics [17, 2, 2] is out of range; give 1 to 16, 1 to 16 and 1 to 8"),
        ({"topics": [8, 9, 9]}, "topics [8, 9, 9] is out of range"),
        ({"topics": [8, 0, 2]}, "acquire.world.topics.1: value 0 is wrong"),
        ({"items": 200}, "items 200 is too few for 128 themes"),
        ({"items": 256, "slate": 200}, "acquire.world.slate: value 200 is wrong"),
        ({"events_per_user": 805}, "leaves a part of a slate; give a multiple of 10"),
        ({"interests": 33}, "interests 33 is too many for 64 subtopics"),
        ({"interests": 3}, "acquire.world.interests: value 3 is wrong"),
        ({"interests": 12, "old_after": 400}, "interests 12 is too few to return to what is older than 400 exposures"),
        ({"days": 1, "events_per_user": 864_000}, "days 1 is too short"),
        ({"share_old": 1.5}, "acquire.world.share_old: value 1.5 is wrong"),
        ({"popularity": -1.0}, "acquire.world.popularity: value -1.0 is wrong"),
        ({"two_step": 20, "share_old": 0.0, "topics": [8, 8, 1]}, "two_step needs items that are no guides"),
        ({"two_step": 22}, "two_step 22 is too many; give at most one for each subtopic beside the 24 of interests"),
        ({"intrests": 5}, "did you mean `interests`?"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused_in_one_line(knobs: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(WorldConfig, {"preset": "tiny", **knobs}, "params.yaml", "acquire.world")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_without_old_interests_any_number_of_them_will_do() -> None:
    assert resolve(WorldConfig(preset="tiny", interests=4, share_old=0.0, old_after=5_000)).interests == 4
