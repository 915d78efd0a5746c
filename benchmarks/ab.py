"""Is the A/B test's instrument right? In a simulated world, where every lift is known.

Eight policies of known skill show what the truth says with an error of their own: as many "models", each with runs that
err differently. Tests draw users, pools and runs anew, and are compared with the lift over all of them. Prints last one
line of JSON. `fitted_rank_correlation` is that of lifts in a world fitted on the log's exposures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping

import numpy as np
from scipy import stats

from hisac_lab.abtest.estimate import Estimate, estimate, expected_clicks, lift_of, seed_spread
from hisac_lab.abtest.hindsight import Exposures, fit_world
from hisac_lab.abtest.people import Population
from hisac_lab.abtest.policies import best_places
from hisac_lab.abtest.simulated import Crowd, shown_chances
from hisac_lab.abtest.truth import examined
from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import WorldConfig, resolve
from hisac_lab.world.simulate import Simulator

ERRORS = (2.0, 1.9, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6)
"""Standard deviation of each policy's error, in logits; the first is the control's."""
RUNS, POOLS, POOL, SLATE = 12, 10, 60, 10
RUN_ERROR = 0.3
"""Standard deviation of what a run gets wrong of an item for all users alike."""
USERS, VISITS, SEEDS = 150, 4, 3
LEVELS = (0.01, 0.05, 0.1)
NAMES = [f"error {error}" for error in ERRORS]


def main() -> None:
    """Draws the world, then the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=1000, help="drawn for coverage")
    parser.add_argument("--aa", type=int, default=2000, help="tests of the control against itself")
    parser.add_argument("--users", type=int, default=200, help="real users of the world")
    parser.add_argument("--no-fit", action="store_true", help="leave out the fitted world")
    options = parser.parse_args()
    world = Simulator(resolve(WorldConfig(preset="small", users=options.users)))
    logs = [world.user(number) for number in range(options.users)]
    moments = [int(np.quantile(log["time"], 0.9, method="nearest")) for log in logs]
    pools = _pools(world, options.users)
    chances = np.stack(
        [
            world.chances(number, moments[number], pools[number].ravel()).reshape(pools[number].shape)
            for number in range(options.users)
        ]
    )
    places = {name: _policy(chances, pools, error, at) for at, (name, error) in enumerate(zip(NAMES, ERRORS, strict=True))}
    looked = examined(world, SLATE)
    clicks = {name: np.stack([expected_clicks(chances, run, looked) for run in shown]) for name, shown in places.items()}
    numbers = _covered(clicks, options.tests) | _against_itself(clicks[NAMES[0]], options.aa)
    numbers |= _simulated(chances, places, looked, clicks)
    if not options.no_fit:
        numbers["fitted_rank_correlation"] = _fitted(logs, moments, pools, places, looked, clicks)
    print(json.dumps({name: value if isinstance(value, dict) else round(value, 4) for name, value in numbers.items()}))


def _pools(world: Simulator, users: int) -> Array:
    """Items by popularity, without repetition; (users, POOLS, POOL)."""
    random = np.random.default_rng(1)
    waits = random.exponential(size=(users, POOLS, len(world.catalog.weight))) / world.catalog.weight
    pools: Array = world.catalog.number[np.argsort(waits, axis=2, kind="stable")[:, :, :POOL]]
    return pools


def _policy(chances: Array, pools: Array, error: float, seed: int) -> Array:
    """What each run of a model shows: the best by the truth and an error; (RUNS, T, POOLS, SLATE)."""
    shown = []
    for run in range(RUNS):
        random = np.random.default_rng([seed, run])
        wrong = random.normal(0, RUN_ERROR, int(pools.max()) + 1)[pools]
        logits = np.log(chances / (1 - chances)) + wrong + random.normal(0, error, chances.shape)
        shown.append(best_places(logits, SLATE))
    return np.stack(shown)


def _drawn(random: np.random.Generator, clicks: Mapping[str, Array]) -> dict[str, Array]:
    """Some users, pools and runs of each model."""
    users, pools = random.integers(len(clicks[NAMES[0]][0]), size=USERS), random.integers(POOLS, size=(USERS, VISITS))
    return {name: arm[random.integers(RUNS, size=SEEDS)][:, users[:, None], pools] for name, arm in clicks.items()}


def _covered(clicks: Mapping[str, Array], tests: int) -> dict[str, float]:
    """How often intervals hold the true lift, decided tests have its sign wrong, and order models as it does."""
    true = {name: lift_of(clicks[NAMES[0]], clicks[name]) for name in NAMES[1:]}
    random = np.random.default_rng(2)
    inside, wrong, ranks = [], [], []
    for _ in range(tests):
        drawn = _drawn(random, clicks)
        spread = seed_spread(drawn, NAMES[0])
        found = {name: estimate(drawn[NAMES[0]], drawn[name], [], spread, 0.95).lift for name in true}
        inside += [lift.low <= true[name] <= lift.high for name, lift in found.items()]
        wrong += [lift.p_value < 0.05 and lift.value * true[name] < 0 for name, lift in found.items()]
        ranks.append(stats.spearmanr([found[name].value for name in true], list(true.values())).statistic)
    return {
        "coverage": float(np.mean(inside)),
        "wrong_sign": float(np.mean(wrong)),
        "rank_correlation": float(np.mean(ranks)),
    }


def _against_itself(control: Array, tests: int) -> dict[str, float | dict[str, float]]:
    """Rates of p-values below levels where both arms are runs of the control, by the estimate that has the vote."""
    random, found = np.random.default_rng(3), list[Estimate]()
    for _ in range(tests):
        drawn = _drawn(random, {NAMES[0]: control, "itself": control})
        found.append(estimate(drawn[NAMES[0]], drawn["itself"], [], seed_spread(drawn, NAMES[0]), 0.95))
    p_values = np.array([each.lift.p_value for each in found])
    rates = {f"{level:g}": round(float((p_values < level).mean()), 4) for level in LEVELS}
    return {"aa_rates": rates, "ks_p": float(stats.kstest(p_values, "uniform").pvalue)}


def _simulated(
    chances: Array, places: Mapping[str, Array], looked: Array, clicks: Mapping[str, Array]
) -> dict[str, float | dict[str, float]]:
    """The independent test with drawn clicks: its A/A, CUPED, speed, and its variance beside the paired one's."""
    control, other = (shown_chances(chances, places[name], looked) for name in (NAMES[0], NAMES[4]))
    crowd = Crowd(2000, 0.95, control, 0)
    aa = crowd.against_itself(control, 500, "aa")
    begin = time.process_time()
    draws = [crowd.test(control, other, f"test-{number}") for number in range(100)]
    seconds = time.process_time() - begin
    random, paired = np.random.default_rng(4), []
    for _ in range(300):
        users = random.integers(len(chances), size=2000)
        one, two = (clicks[name].mean(axis=0)[users] for name in (NAMES[0], NAMES[4]))
        paired.append(float(two.mean() / one.mean() - 1))
    independent = np.var([draw.lift.value for draw in draws], ddof=1)
    return {
        "drawn_aa_rates": aa.rates,
        "drawn_ks_p": aa.ks_p,
        "cuped_reduction": float(np.mean([draw.cuped_variance_removed for draw in draws])),
        "paired_reduction": float(independent / np.var(paired, ddof=1)),
        "user_days_per_minute": 100 * 2000 * POOLS / seconds * 60,
    }


def _fitted(
    logs: list[dict[str, Array]],
    moments: list[int],
    pools: Array,
    places: Mapping[str, Array],
    looked: Array,
    clicks: Mapping[str, Array],
) -> float:
    """Spearman's correlation of lifts in a world fitted on the log with the true ones."""
    columns = {name: np.concatenate([log[name] for log in logs]) for name in ("user", "item", "time", "click")}
    late = columns["time"] >= np.quantile(columns["time"], 0.8)
    users = np.arange(len(logs))
    exposures = Exposures(
        columns["user"].astype(np.int64),
        columns["item"].astype(np.int64),
        columns["time"],
        columns["click"].astype(float),
        late,
        users,
        int(max(columns["item"].max(), pools.max())) + 1,
    )
    world = fit_world(exposures, 16, (4.0, 8.0, 16.0), 0)
    people = Population(users, np.array(moments), np.zeros(len(users), int), np.ones(len(users), int))
    found = world.chances(people, pools)
    fitted = {name: np.stack([expected_clicks(found, run, looked) for run in shown]) for name, shown in places.items()}
    true, seen = ([lift_of(of[NAMES[0]], of[name]) for name in NAMES[1:]] for of in (clicks, fitted))
    return float(stats.spearmanr(true, seen).statistic)


if __name__ == "__main__":
    main()
