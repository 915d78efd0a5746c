"""The search space: what may be in it, the points it holds, what a point makes of the settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import BACKBONE, says

from hisac_lab.base.errors import UserError
from hisac_lab.config.base import parse
from hisac_lab.config.model import ModelConfig
from hisac_lab.config.sweep import Point, Range, Space, SweepConfig, Values
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.iat import IATConfig
from hisac_lab.sweep.space import Base, at_quantiles, check, grid, holds, is_finite, labels, quantile

BASE = Base(HiSACConfig(), BACKBONE, TrainConfig(), TokenizeConfig())


def config(space: dict[str, Any], **others: Any) -> SweepConfig:
    """The section with this space, as it stands in a file."""
    return parse(SweepConfig, {"models": ["m"], "space": {"m": space}} | others, "params.yaml", "sweep")


def space_of(space: dict[str, Any]) -> Space:
    return config(space).space["m"]


def told(space: dict[str, Any], model: ModelConfig | None = None, **others: Any) -> None:
    check(config(space, **others), "m", Base(model or BASE.model, BASE.backbone, BASE.train, BASE.tokenize))


def test_a_list_a_range_and_a_condition_are_read_from_the_file() -> None:
    space = space_of(
        {
            "agents": [4, 8],
            "temperature": {"low": 0.01, "high": 1.0, "log": True},
            "breadth": {"values": [0.3, 0.5], "when": {"agents": 8}},
        }
    )
    assert space["agents"] == Values(values=(4, 8))
    assert space["temperature"] == Range(low=0.01, high=1.0, log=True)
    assert space["breadth"] == Values(values=(0.3, 0.5), when={"agents": 8})
    assert config({"agents": [4]}).model_dump(mode="json")["space"] == {"m": {"agents": [4]}}


def test_a_point_has_no_value_where_a_condition_is_not_met() -> None:
    space = space_of({"vote": ["tree", "flat"], "breadth": {"values": [0.3, 0.5], "when": {"vote": "tree"}}})
    assert list(grid(space)) == [{"vote": "tree", "breadth": 0.3}, {"vote": "tree", "breadth": 0.5}, {"vote": "flat"}]
    assert holds(space, {"vote": "flat"}) is None
    assert holds(space, {"vote": "tree"}) == "breadth is missing"
    assert holds(space, {"vote": "flat", "breadth": 0.3}) == "breadth has a value, but not its condition"
    assert holds(space, {"vote": "tree", "breadth": 0.4}) == "breadth 0.4 is not in it"
    assert holds(space, {"vote": "flat", "depth": 1}) == "depth is no dimension"


@pytest.mark.parametrize(
    ("given_range", "values"),
    [
        ({"low": 1, "high": 4}, (1, 2, 3, 4)),
        ({"low": 1, "high": 8, "step": 3}, (1, 4, 7)),
        ({"low": 0.1, "high": 0.4, "step": 0.1}, (0.1, 0.2, 0.3, 0.4)),
        ({"low": 1, "high": 8, "log": True}, (1, 2, 3, 4, 5, 6, 7, 8)),
        ({"low": 0.1, "high": 0.4}, None),
        ({"low": 1, "high": 10**9}, None),
    ],
)
def test_a_range_is_counted_where_it_can_be(given_range: dict[str, Any], values: tuple[float, ...] | None) -> None:
    assert Range(**given_range).values == values


DIMENSIONS = st.one_of(
    st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True).map(lambda values: Values(values=tuple(values))),
    st.tuples(st.integers(1, 50), st.integers(1, 50), st.booleans()).map(
        lambda given: Range(low=given[0], high=given[0] + given[1], log=given[2])
    ),
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 10), st.booleans()).map(
        lambda given: Range(low=given[0], high=given[0] + given[1], log=given[2])
    ),
)


@given(DIMENSIONS, st.floats(0, 1, exclude_max=True))
def test_every_quantile_is_in_the_space_and_the_lowest_is_its_begin(dimension: Values | Range, share: float) -> None:
    space: Space = {"x": dimension}
    assert holds(space, {"x": quantile(dimension, share)}) is None
    first = dimension.low if isinstance(dimension, Range) else dimension.values[0]
    assert quantile(dimension, 0.0) == pytest.approx(first, rel=1e-3)


def test_the_middle_of_a_logarithmic_range_is_its_geometric_mean_at_four_digits() -> None:
    assert quantile(Range(low=0.001, high=1.0, log=True), 0.5) == 0.03162
    assert at_quantiles(space_of({"a": [1, 2], "b": {"low": 0.0, "high": 1.0}}), [0.5, 0.25]) == {"a": 2, "b": 0.25}


def test_a_point_changes_its_sections_and_what_would_override_it_gives_way() -> None:
    base = Base(HiSACConfig(budgets=(9, 9, 9), heads=2), BACKBONE, TrainConfig(), TokenizeConfig())
    point: Point = {"agents": 64, "train.learning_rate": 0.01, "backbone.dim": 8, "tokenize.widths": [4, 4]}
    found = base.at(point)
    assert found.model == HiSACConfig(agents=64, heads=2)
    assert (found.train.learning_rate, found.backbone.dim, found.tokenize.widths) == (0.01, 8, (4, 4))
    assert base.tuned(point) == {"learning_rate": 0.01, "dim": 8}
    assert base.at({"heads": 4}).model == HiSACConfig(budgets=(9, 9, 9))


def test_lists_are_told_to_optuna_as_text() -> None:
    space = space_of({"tokenize.widths": [[4, 4], [8]], "agents": [4]})
    assert labels(space, {"tokenize.widths": [8], "agents": 4}) == {"tokenize.widths": "[8]", "agents": 4}
    assert is_finite(space)
    assert not is_finite(space_of({"temperature": {"low": 0.1, "high": 0.2}}))


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"agent": [4]}, {}, "sweep.space.m.agent: 'agent' is no field of a model of kind hisac"),
    ({"kind": ["din"]}, {}, "sweep.space.m.kind: 'kind' is no field"),
    ({"train.patience": [3]}, {}, "'patience' is no field of what sweeps may change of train; there are"),
    ({"train.epochs": [3]}, {}, "'epochs' is no field of what sweeps may change of train"),
    ({"prepare.shards": [[0]]}, {}, "sweep.space.m.prepare.shards: 'shards' is no field"),
    ({"agents": [4, 0]}, {}, "sweep.space.m.agents: value 0 is wrong; input should be greater than or equal to 1"),
    ({"vote": ["trees"]}, {}, "sweep.space.m.vote: value \"trees\" is wrong; input should be 'tree' or 'flat'"),
    ({"breadth": {"low": 0.5, "high": 1.5}}, {}, "sweep.space.m.breadth: value 1.5 is wrong"),
    ({"depth": [1, 4]}, {}, "sweep.space.m.depth: 4 is deeper than the 3 levels of tokenize.widths; lower it"),
    (
        {"breadth": {"values": [0.5], "when": {"vote": "tree"}}, "vote": ["tree"]},
        {},
        'depends on vote "tree", which is no value of a dimension above it',
    ),
    ({"counts": [{"kind": "votes", "nearest": 4}]}, {}, "nearest is 4, but books has no flat codebook"),
    ({"agents": [4]}, {"fixed": {"m": [{"agents": 5}]}}, 'sweep.fixed.m: {"agents": 5} is outside the space: agents 5'),
    (
        {"agents": [4, 8, 9]},
        {"sampler": "grid", "trials": 2, "round_size": 2},
        "the grid has 3 points, but sweep.trials",
    ),
    ({"decay_rate": {"low": 0.1, "high": 0.2}}, {"sampler": "grid"}, "sampler grid takes 4,096 points at most"),
]


@pytest.mark.parametrize(("space", "others", "words"), MISTAKES, ids=[words[:50] for *_, words in MISTAKES])
def test_a_mistake_is_told_before_anything_runs(space: dict[str, Any], others: dict[str, Any], words: str) -> None:
    with says(words):
        told(space, **others)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"temperature": {"low": 0.3, "high": 0.1}}, "the range from 0.3 to 0.1 is empty; give low below high"),
        ({"temperature": {"low": 0.0, "high": 0.1, "log": True}}, "a logarithmic range has a low above 0"),
        ({"agents": [4, 4]}, "a value is listed twice; list each once"),
        ({"agents": []}, "sweep.space.m.agents"),
        ({"agents": 4}, "sweep.space.m.agents: value 4 is wrong"),
        ({}, "model 'm' has no dimension in sweep.space; add sweep.space.m"),
    ],
)
def test_a_space_that_is_none_is_told_when_it_is_read(space: dict[str, Any], words: str) -> None:
    with says(words):
        config(space)


def test_a_model_that_reads_instances_is_refused() -> None:
    with says("m reads instances, which trials have not"):
        told({"heads": [1, 2]}, IATConfig())


def test_a_space_that_fits_passes() -> None:
    told({"agents": [4, 8], "depth": [1, 3], "train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}})
    told({"depth": [1, 4], "tokenize.widths": [[4] * 4]})
    told({"soft_counts": [True, False], "backbone.dim": [8, 16]}, DINConfig())
    told({"agents": [4, 8]}, fixed={"m": [{"agents": 8}]}, sampler="grid")
    with pytest.raises(UserError):
        told({"agents": [4, 8]}, DINConfig())
