"""What tests stand on: the click probabilities of a simulated world, or worlds that are fitted and may judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hisac_lab.abtest import truth
from hisac_lab.abtest.boosted import fit_tree_world
from hisac_lab.abtest.daily import LiveTest
from hisac_lab.abtest.evidence import looked_at, refits_of, right_to_judge, supports
from hisac_lab.abtest.factors import fit_factor_world
from hisac_lab.abtest.hindsight import Exposures, World, support
from hisac_lab.abtest.people import Log, Population
from hisac_lab.abtest.records import Check, Hindsight
from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.progress import track
from hisac_lab.config.abtest import ABTestConfig, EvidenceKind, Family
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.store import EventStore
from hisac_lab.ops.choice import rounded


@dataclass(frozen=True)
class Ground:
    """What the tests stand on.

    Attributes:
        kind: Of evidence.
        chances: Of a click by each user on each item of their pools, if looked at; (T, 2 * visits, pool).
        refitted: The same in refitted worlds, of the first half; none where the truth is known.
        examined: Chance that each place of a slate is looked at; (slate,).
        checks: Whether it may judge.
        worlds: Facts of the fits, the one that these chances are of first; none where the truth is known.
        others: The same in the other worlds with the right to judge, by family.
        live: The test of several days; None: there is one day.
    """

    kind: EvidenceKind
    chances: Array
    refitted: tuple[Array, ...]
    examined: Array
    checks: tuple[Check, ...] = ()
    worlds: tuple[Hindsight, ...] = ()
    others: Mapping[Family, Ground] = field(default_factory=dict)
    live: LiveTest | None = None


def known(
    acquired: Path, store: EventStore, people: Population, pools: Array, later: Array, config: ABTestConfig
) -> Ground:
    """The simulated world's own click probabilities.

    Args:
        acquired: Output of the stage `acquire`.
        store: The events.
        people: T users and their moments.
        pools: What policies choose from; (T, 2 * visits, pool).
        later: Pools of the days; (T, days, pool), or none.
        config: The section `abtest`.
    """
    simulator = truth.rebuild(acquired)
    chances = truth.true_chances(simulator, store, people, pools)
    live = LiveTest.of(simulator, store, people, later, config) if later.shape[1] else None
    return Ground("truth", chances, (), truth.examined(simulator, config.slate), live=live)


def fitted(
    log: Log, people: Population, pools: Array, config: ABTestConfig, scores: Scores, codebook: Path | None
) -> Ground:
    """Worlds fitted with hindsight, and whether they may judge these models.

    Those that may judge do; where none may, the checks of all say why, and the best is told.

    Args:
        log: All exposures.
        people: T users and their moments.
        pools: What policies choose from; (T, 2 * visits, pool).
        config: The section `abtest`.
        scores: Of the models.
        codebook: Output of the stage `codebook`; None: worlds know no semantic IDs.

    Raises:
        UserError: A world of trees is asked for, and LightGBM is not installed.
    """
    exposures = Exposures.of(log, config.seed)
    nodes = np.zeros((log.items, 0), np.int64)
    if codebook is not None:
        nodes = np.asarray(load_array(codebook, "item_nodes")).astype(np.int64)
    shared = supports(support(log, pools))
    asked = []
    for family in track(config.worlds, len(config.worlds), "abtest", "worlds"):
        world = fit(family, exposures, nodes, config)
        checks, facts = right_to_judge(world, nodes, scores, config)
        asked.append((world, checks, facts.model_copy(update={"judges": all(one.holds for one in (shared, *checks))})))
    asked.sort(key=lambda one: _standing(one[2]))
    judges = [one for one in asked if one[2].judges]
    grounds = {world.family: _ground(world, people, pools, config) for world, _, _ in judges or asked[:1]}
    first, *rest = grounds
    return replace(
        grounds[first],
        checks=(shared, *(check for _, checks, _ in judges or asked for check in checks)),
        worlds=tuple(facts for _, _, facts in asked),
        others={family: grounds[family] for family in rest},
    )


def fit(family: Family, exposures: Exposures, nodes: Array, config: ABTestConfig) -> World:
    """A world of a family.

    Args:
        family: Which.
        exposures: From both sides of the moment.
        nodes: Code of each item at each level of its semantic ID, -1 without one; (items, L).
        config: The section `abtest`.
    """
    if family == "factors":
        return fit_factor_world(exposures, config.world_dim, config.world_penalties, config.seed)
    return fit_tree_world(exposures, nodes, config.world_trees, config.seed)


def _standing(facts: Hindsight) -> tuple[bool, float, float, str]:
    """Lowest of the world that is told: with the right to judge, then by user-wise AUC and AUC."""
    return not facts.judges, -rounded(facts.gauc or 0.0), -rounded(facts.auc), facts.family


def _ground(world: World, people: Population, pools: Array, config: ABTestConfig) -> Ground:
    """Clicks in one world."""
    now = pools[:, : config.visits]
    count = refits_of(world.family, config)
    refitted = tuple(world.chances(people, now, one) for one in world.refits(count, config.seed))
    return Ground("fitted", world.chances(people, pools), refitted, looked_at(config.slate))
