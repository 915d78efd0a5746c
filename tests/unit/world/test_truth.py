"""The truth: clicks follow it, each knob does what it says, and what the last 50 clicks reveal is counted right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.config.world import PRESETS, World
from hisac_lab.ops.auc import auc
from hisac_lab.world import truth
from hisac_lab.world.catalog import make_catalog
from hisac_lab.world.life import make_life
from hisac_lab.world.simulate import DAY, START, Simulator

WORLD = replace(PRESETS["small"], users=60, events_per_user=2_000, interests=20)
Log = dict[str, np.ndarray]


def logs(world: World) -> Log:
    """The logs of all users, one below the other."""
    simulator = Simulator(world)
    parts = [simulator.user(number) for number in range(world.users)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def logit(probability: np.ndarray) -> np.ndarray:
    probability = probability.astype(float)
    return np.asarray(np.log(probability / (1 - probability)))


@pytest.fixture(scope="module")
def log() -> Log:
    return logs(WORLD)


def late(log: Log) -> np.ndarray:
    return log["time"] >= START + WORLD.days * DAY * 4 // 5


def test_clicks_happen_with_their_probability(log: Log) -> None:
    edges = np.quantile(log["probability"], np.linspace(0, 1, 21))
    place = np.searchsorted(edges[1:-1], log["probability"])
    for part in range(20):
        chance, clicks = log["probability"][place == part].astype(float), log["click"][place == part]
        error = np.sqrt((chance * (1 - chance)).sum()) / len(chance)
        assert abs(clicks.mean() - chance.mean()) < 4 * error
    assert log["probability"].min() < 0.06
    assert log["probability"].max() > 0.9


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_position_bias_divides_the_probability_by_how_rarely_a_position_is_examined(bias: float) -> None:
    plain = logs(replace(WORLD, users=3, position_bias=0.0))
    biased = logs(replace(WORLD, users=3, position_bias=bias))
    np.testing.assert_array_equal(plain["item"], biased["item"])
    ratio = biased["probability"] / plain["probability"]
    np.testing.assert_allclose(ratio, (1.0 + plain["position"]) ** -bias, rtol=1e-5)


@pytest.mark.parametrize("repeat", [-1.0, 1.5])
def test_an_item_shown_before_gains_what_repeat_says(repeat: float) -> None:
    settings = replace(WORLD, users=3, position_bias=0.0)
    without, with_gain = logs(replace(settings, repeat=0.0)), logs(replace(settings, repeat=repeat))
    gain = logit(with_gain["probability"]) - logit(without["probability"])
    seen: set[tuple[int, int]] = set()
    again = np.zeros(len(gain), bool)
    for row, pair in enumerate(zip(without["user"].tolist(), without["item"].tolist(), strict=True)):
        again[row] = pair in seen
        seen.add(pair)
    assert 0.1 < again.mean() < 0.9
    np.testing.assert_allclose(gain, np.where(again, repeat, 0), atol=1e-3)


def test_seasons_swing_by_the_week_and_by_the_year() -> None:
    world = replace(WORLD, season=0.5)
    catalog = make_catalog(world)
    item = np.array([0, world.items - 1])
    hours = START + np.arange(0, 3 * 365 * 24) * 3_600
    items = np.broadcast_to(item, (len(hours), 2))
    plain = truth.logits(catalog, world, items, hours, np.zeros(items.shape, bool))
    flat = truth.logits(catalog, replace(world, season=0.0), items, hours, np.zeros(items.shape, bool))
    assert (flat == flat[0]).all()
    season = plain - flat
    periods = np.array([7, 365.25]) * DAY
    angle = 2 * np.pi * hours[:, None] / periods
    waves = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    fitted, residual, _, _ = np.linalg.lstsq(waves, season, rcond=None)
    np.testing.assert_allclose(residual, 0, atol=1e-12)
    np.testing.assert_allclose(np.hypot(fitted[:2], fitted[2:]), 0.5, rtol=1e-6)
    # The topics have phases of their own.
    assert np.corrcoef(season.T)[0, 1] < 0.9


def test_interests_are_felt_from_birth_until_they_fade_or_for_good() -> None:
    world = replace(WORLD, drift=0.0)
    catalog = make_catalog(world)
    life = make_life(np.random.default_rng(1), catalog, world)
    shape = (world.requests, world.items)
    gain, focus = truth.interest(catalog, life, np.broadcast_to(np.arange(world.items), shape))
    expected, in_focus = np.zeros(shape), np.zeros(shape, bool)
    for number in range(world.interests):
        until = world.requests if life.lasts[number] else life.passed[number]
        own = catalog.subtopic == life.subtopic[number]
        strength = life.strength[number] * np.where(catalog.leaf == life.leaf[number], 1, truth.SIBLING)
        expected[life.birth[number] : until] += np.where(own, strength, 0)
        in_focus[life.birth[number] : life.passed[number], own] = True
    np.testing.assert_allclose(gain, expected, rtol=1e-12)
    np.testing.assert_array_equal(focus, in_focus)
    assert life.lasts.any()
    assert not life.lasts[: world.interests].all()


def test_strengths_drift_with_age() -> None:
    world = replace(WORLD, drift=0.8)
    catalog = make_catalog(world)
    life = make_life(np.random.default_rng(1), catalog, world)
    number = int(np.flatnonzero(life.lasts)[0])
    item = np.flatnonzero(catalog.leaf == life.leaf[number])[0]
    gain = truth.interest(catalog, life, np.full((world.requests, 1), item))[0][life.birth[number] :, 0]
    steps = np.diff(np.log(gain))
    np.testing.assert_allclose(steps, life.slope[number] / world.requests, rtol=1e-6)
    assert gain[0] == pytest.approx(life.strength[number])


@given(
    seed=st.integers(0, 10_000),
    requests=st.integers(1, 25),
    slate=st.integers(1, 4),
    subtopics=st.integers(1, 5),
    recent=st.integers(1, 6),
)
def test_a_subtopic_is_revealed_by_the_last_clicks_of_earlier_requests_only(
    seed: int, requests: int, slate: int, subtopics: int, recent: int
) -> None:
    random = np.random.default_rng(seed)
    subtopic = random.integers(0, subtopics, (requests, slate))
    clicks = random.random((requests, slate)) < 0.5
    found = truth.revealed(subtopic, clicks, recent)
    history: list[int] = []
    for request in range(requests):
        last = set(history[-recent:])
        assert found[request].tolist() == [one in last for one in subtopic[request].tolist()]
        history += subtopic[request][clicks[request]].tolist()


def test_what_is_revealed_or_in_focus_is_known_and_the_rest_is_right_on_average(log: Log) -> None:
    hidden = log["probability"] != log["probability_recent"]
    catalog = make_catalog(WORLD)
    subtopic = np.empty(WORLD.items, np.int64)
    subtopic[catalog.number] = catalog.subtopic
    for user in range(0, WORLD.users, 20):
        own = log["user"] == user
        shape = (WORLD.requests, WORLD.slate)
        known = truth.revealed(subtopic[log["item"][own]].reshape(shape), log["click"][own].reshape(shape) > 0)
        assert not hidden[own][known.ravel()].any()
    use = hidden & late(log)
    chance, clicks = log["probability_recent"][use].astype(float), log["click"][use]
    assert use.sum() > 5_000
    assert chance.mean() == pytest.approx(clicks.mean(), abs=0.03)
    # Where it says more, more is clicked.
    edges = np.quantile(chance, [0.25, 0.5, 0.75])
    rates = [clicks[np.searchsorted(edges, chance) == part].mean() for part in range(4)]
    assert rates == sorted(rates)


def test_the_older_the_signal_the_more_a_short_memory_loses() -> None:
    gaps = []
    for share in (0.0, 0.2, 0.4, 0.7):
        found = logs(replace(WORLD, share_old=share))
        use = late(found)
        scores = [auc(found["click"][use], found[name][use]) for name in ("probability", "probability_recent")]
        assert 0.78 < scores[0] < 0.87
        gaps.append(scores[0] - scores[1])
    assert gaps[0] == 0
    assert (np.diff(gaps) > 0.008).all()
    assert gaps[2] > 0.03


def test_only_a_long_memory_finds_the_old_signal(log: Log) -> None:
    """A rule without any fit: clicks on the item's subtopic, counted in the last 50 clicks or in all of them."""
    catalog = make_catalog(WORLD)
    subtopic = np.empty(WORLD.items, np.int64)
    subtopic[catalog.number] = catalog.subtopic
    short, long = (np.zeros(len(log["user"])) for _ in range(2))
    groups = subtopic[log["item"]]
    for user in range(WORLD.users):
        rows = np.flatnonzero(log["user"] == user).reshape(WORLD.requests, WORLD.slate)
        history: list[int] = []
        for request in rows:
            counts = np.bincount(history, minlength=len(catalog.subtopic_bounds))
            last = np.bincount(history[-50:], minlength=len(counts))
            long[request], short[request] = counts[groups[request]], last[groups[request]]
            history += groups[request][log["click"][request] > 0].tolist()
    use = late(log)
    clicks = log["click"][use]
    old = use & (log["old"] > 0)
    areas = {name: auc(clicks, scores[use]) for name, scores in (("short", short), ("long", long))}
    oracles = [auc(clicks, log[name][use]) for name in ("probability_recent", "probability")]
    assert areas["short"] + 0.02 < areas["long"] < oracles[1]
    assert areas["short"] < oracles[0]
    # On what returns after long, the short memory knows next to nothing.
    assert abs(auc(log["click"][old], short[old]) - 0.5) < 0.05
    assert auc(log["click"][old], long[old]) > 0.6
