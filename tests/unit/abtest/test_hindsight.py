"""What fitted worlds share: no label reaches its own judgment, and each family knows what the other does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from clicking import by_phase, by_taste
from outputs import model_scores
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from hisac_lab.abtest.evidence import right_to_judge
from hisac_lab.abtest.ground import fit
from hisac_lab.abtest.hindsight import FOLDS, Exposures, World, folds_of, support
from hisac_lab.abtest.people import Log, Population
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import ABTestConfig, Family
from hisac_lab.evaluation.records import Scores
from hisac_lab.ops.auc import auc

CONFIG = ABTestConfig(world_dim=3, world_penalties=(4.0, 8.0), world_trees=30, world_refits=2)
FAMILIES: tuple[Family, ...] = ("factors", "trees")
LOW = Scores.of({"models": {"hisac": model_scores(0.4, 0.0, 1)}, "slices": {}}, ".")
BLANK = np.zeros((1000, 0), int)


def _judged(family: Family, exposures: Exposures, nodes: Array) -> World:
    return fit(family, exposures, nodes, CONFIG)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_label_never_reaches_its_own_judgment_and_reaches_that_of_others(family: Family) -> None:
    made, nodes = by_phase(each=20, users=40, phase=5)
    first = _judged(family, made, nodes).judged
    judged = np.flatnonzero(made.judged)
    fold = folds_of(made, CONFIG.seed)[judged]
    for number in range(FOLDS):
        at = int(np.flatnonzero(fold == number)[number])
        label = made.label.copy()
        label[judged[at]] = 1 - label[judged[at]]
        moved = _judged(family, dataclasses.replace(made, label=label), nodes).judged != first
        assert not moved[at]
        assert not moved[fold == number].any()
        assert moved[fold != number].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_world_is_the_same_to_the_byte_on_one_and_two_threads(family: Family) -> None:
    made, nodes = by_phase(each=20, users=60, phase=5)
    people = Population(made.users[[3, 5]], np.array([1000, 1500]), np.zeros(2, int), np.ones(2, int))
    items = np.tile(np.arange(40), (2, 1))
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            world = _judged(family, made, nodes)
            refitted = world.chances(people, items, world.refits(1, 0)[0])
            found.append((world.judged.tobytes(), world.chances(people, items).tobytes(), refitted.tobytes()))
    torch.set_num_threads(before)
    assert found[0] == found[1]


def _rights(exposures: Exposures, nodes: Array) -> dict[Family, bool]:
    """Which families may judge a model that knows half of what the two know beside each other."""
    worlds = {family: _judged(family, exposures, nodes) for family in FAMILIES}
    label = exposures.label[exposures.judged]
    between = float(np.mean([auc(label, world.judged) for world in worlds.values()]))
    scores = Scores.of({"models": {"hisac": model_scores(between, 0.0, 1)}, "slices": {}}, ".")
    found = {}
    for family, world in worlds.items():
        checks, facts = right_to_judge(world, nodes, scores, CONFIG)
        assert facts.family == family
        found[family] = {check.name: check.holds for check in checks}[f"{family}: knows"]
    return found


def test_on_tastes_that_no_code_tells_factors_may_judge_and_trees_may_not() -> None:
    assert _rights(by_taste(1.5)[0], BLANK[:40]) == {"factors": True, "trees": False}


def test_on_phases_of_liking_codes_trees_may_judge_and_factors_may_not() -> None:
    assert _rights(*by_phase()) == {"factors": False, "trees": True}


def test_a_world_that_clicks_unlike_people_may_not_judge() -> None:
    """One that knows each click has the log's sequences; one that knows none clicks codes in no order."""
    made, nodes = by_phase(users=200, each=30)
    world = _judged("factors", made, nodes)
    label = made.label[made.judged]
    found = []
    for logits in (np.where(label > 0, 6.0, -6.0), np.zeros(len(label))):
        checks, facts = right_to_judge(dataclasses.replace(world, judged=logits), nodes, LOW, CONFIG)
        assert set(facts.apart) == {"users", "sequence"}
        found.append({check.name: check.holds for check in checks}["factors: sequence"])
    assert found == [True, False]


def _log(items: np.ndarray) -> Log:
    nothing = np.zeros(len(items), int)
    shape = np.zeros(4, int)
    return Log(nothing, items, nothing, nothing * 1.0, nothing > 0, nothing, nothing, shape, shape)


def test_support_is_the_share_of_pool_items_with_exposures_enough() -> None:
    log = _log(np.repeat([0, 1, 2], [5, 4, 9]))
    assert support(log, np.array([[[0, 1], [2, 3]]])) == 0.5
    assert support(log, np.array([[[0, 2]]])) == 1.0
