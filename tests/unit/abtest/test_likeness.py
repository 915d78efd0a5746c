"""Whether a world clicks as people do: one that does passes, one that knows no users or no sequences does not."""

from __future__ import annotations

import numpy as np
from clicking import by_phase

from hisac_lab.abtest.likeness import apart
from hisac_lab.base.artifacts import Array

USERS, EACH = 200, 50
WHO = np.repeat(np.arange(USERS), EACH)
LIMIT = 0.1


def _log(*, sticky: bool) -> tuple[Array, Array, Array]:
    """Labels, chances and codes: users click by rates of their own, and one code for a while where they are sticky."""
    random = np.random.default_rng(0)
    rate = random.beta(2, 3, USERS)[WHO]
    code = random.integers(0, 4, len(WHO))
    wanted = np.repeat(random.integers(0, 4, len(WHO) // 10), 10)
    chance = np.where(code == wanted, 0.9, rate * 0.2) if sticky else rate
    return (random.random(len(WHO)) < chance).astype(float), chance, code


def test_a_world_of_the_true_chances_is_as_near_to_the_log_as_its_draws_are_to_each_other() -> None:
    for sticky in (False, True):
        label, chance, code = _log(sticky=sticky)
        found = apart(label, chance, WHO, code, 0)
        assert set(found) == {"users", "sequence"}
        for gap, own in found.values():
            assert gap <= max(LIMIT, own)
            assert own < 2 * LIMIT


def test_a_world_that_knows_no_users_is_far_in_the_shares_that_they_click() -> None:
    label, _, code = _log(sticky=False)
    found = apart(label, np.full(len(label), label.mean()), WHO, code, 0)
    gap, own = found["users"]
    assert gap > 2 * max(LIMIT, own)
    assert found["sequence"][0] < LIMIT


def test_a_world_that_knows_users_and_no_sequences_is_far_in_these_alone() -> None:
    label, _, code = _log(sticky=True)
    rate = np.bincount(WHO, label) / EACH
    found = apart(label, rate[WHO], WHO, code, 0)
    assert found["users"][0] <= max(LIMIT, found["users"][1])
    gap, own = found["sequence"]
    assert gap > 2 * max(LIMIT, own)


def test_without_codes_or_second_clicks_sequences_are_left_out() -> None:
    label, chance, code = _log(sticky=False)
    assert set(apart(label, chance, WHO, None, 0)) == {"users"}
    once = np.zeros(len(label))
    once[::EACH] = 1
    assert set(apart(once, chance, WHO, code, 0)) == {"users"}


def test_draws_depend_on_the_seed_alone() -> None:
    label, chance, code = _log(sticky=False)
    one, same, other = (apart(label, chance, WHO, code, seed) for seed in (0, 0, 1))
    assert one == same != other


def test_a_distance_is_that_of_two_distribution_functions() -> None:
    made, nodes = by_phase(each=20, users=30, phase=5)
    sure = np.where(made.label > 0, 1.0, 0.0)
    assert apart(made.label, sure, made.who, nodes[made.item, 0], 0) == {"users": (0.0, 0.0), "sequence": (0.0, 0.0)}
    none = apart(made.label, np.zeros(len(sure)), made.who, None, 0)
    assert none == {"users": (1.0, 0.0)}
