"""Table policies in a world of known truth: thousands of tests of the A/B test's own arithmetic.

Policies of known skill show what the truth says with an error of their own: as many "models", each with runs that err
differently. A test draws users, pools and runs anew and is compared with the lift over all of them: another world each
time, whose lift is known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from hisac_lab.abtest import metrics
from hisac_lab.abtest.daily import cumulative
from hisac_lab.abtest.estimate import estimate, expected_clicks, lift_of
from hisac_lab.abtest.factors import fit_factor_world
from hisac_lab.abtest.hindsight import Exposures
from hisac_lab.abtest.offpolicy import JUDGE, values
from hisac_lab.abtest.people import Population
from hisac_lab.abtest.policies import best_places, drawn_places, propensities
from hisac_lab.abtest.shown import ShownSlates
from hisac_lab.abtest.simulated import Crowd, shown_chances
from hisac_lab.abtest.statistics import assign, relative_lift
from hisac_lab.abtest.truth import examined
from hisac_lab.base.artifacts import Array
from hisac_lab.config.world import WorldConfig, resolve
from hisac_lab.world.simulate import Simulator

ERRORS = (2.0, 1.98, 1.9, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8)
"""Standard deviation of each policy's error, in logits; the first is the control's."""
RUNS, POOLS, POOL, SLATE = 12, 10, 60, 10
RUN_ERROR = 0.3
"""Standard deviation of what a run gets wrong of an item for all users alike."""
USERS, VISITS, SEEDS = 150, 4, 3
LEVELS = (0.01, 0.05, 0.1)
NAMES = [f"error {error}" for error in ERRORS]
CONTROL, OTHER = NAMES[0], NAMES[5]
CROWD, DAYS = 2_000, 14
SHORT, HEAT, LOGS, DRAWS = 3, 2.0, 20, 40
"""Places, temperature, logs and draws of the truth where lifts are read off logged slates."""
VERDICT = "lift in expected clicks (the verdict)"


@dataclass(frozen=True)
class Tables:
    """The world and what every run of every policy shows in it.

    Attributes:
        chances: Of a click on each item of a pool, if looked at; (T, POOLS, POOL).
        pools: Items; (T, POOLS, POOL).
        places: Of a slate, by policy; (RUNS, T, POOLS, SLATE).
        looked: Chance that each place is looked at; (SLATE,).
        clicks: Expected clicks of a slate, by policy; (RUNS, T, POOLS).
        logs: What the world logged of each user.
        moments: When each user is tested; (T,).
        before: Chance of a click on each thing that the control showed before the test; (RUNS, T, k).
        expected: Clicks of the control's slates as the policy `OTHER` would have them; (T,).
    """

    chances: Array
    pools: Array
    places: dict[str, Array]
    looked: Array
    clicks: dict[str, Array]
    logs: list[dict[str, Array]]
    moments: Array
    before: Array
    expected: Array

    @classmethod
    def draw(cls, users: int) -> Tables:
        """The world `small` with so many users."""
        world = Simulator(resolve(WorldConfig(preset="small", users=users)))
        logs = [world.user(number) for number in range(users)]
        moments = np.array([int(np.quantile(log["time"], 0.9, method="nearest")) for log in logs])
        pools, chances = _pools(world, moments, 1)
        looked = examined(world, SLATE)
        places = {name: _shown(chances, pools, policy) for policy, name in enumerate(NAMES)}
        clicks = {
            name: np.stack([expected_clicks(chances, run, looked) for run in shown]) for name, shown in places.items()
        }
        others, earlier = _pools(world, moments, 7)
        before = shown_chances(earlier, _shown(earlier, others, NAMES.index(CONTROL)), looked)
        liked = special.expit(_scored(chances, pools, NAMES.index(OTHER), RUNS))
        expected = np.mean([expected_clicks(liked, run, looked) for run in places[CONTROL]], axis=(0, 2))
        return cls(chances, pools, places, looked, clicks, logs, moments, before, expected)

    def sample(self, random: np.random.Generator) -> dict[str, Array]:
        """Some users, pools and runs of each policy, and runs of the control once more as `itself`."""
        return sample({**self.clicks, "itself": self.clicks[CONTROL]}, random)


def sample(clicks: Mapping[str, Array], random: np.random.Generator, seeds: int = SEEDS) -> dict[str, Array]:
    """A test's draw of users, their pools and each policy's runs; (runs, T, pools) to (seeds, USERS, VISITS)."""
    _, everybody, pools = next(iter(clicks.values())).shape
    users, asked = random.integers(everybody, size=USERS)[:, None], random.integers(pools, size=(USERS, VISITS))
    return {name: arm[random.integers(len(arm), size=seeds)][:, users, asked] for name, arm in clicks.items()}


def _pools(world: Simulator, moments: Array, seed: int) -> tuple[Array, Array]:
    """Items of every user's pools, drawn by popularity, and the chance of a click on each; two (T, POOLS, POOL)."""
    random, catalog = np.random.default_rng(seed), world.catalog
    waits = random.exponential(size=(len(moments), POOLS, len(catalog.weight))) / catalog.weight
    pools: Array = catalog.number[np.argsort(waits, axis=2, kind="stable")[:, :, :POOL]]
    chances = [world.chances(user, int(moment), pools[user].ravel()) for user, moment in enumerate(moments)]
    return pools, np.stack(chances).reshape(pools.shape)


def _scored(chances: Array, pools: Array, policy: int, run: int) -> Array:
    """Logits of one run of a policy, by its number: the truth and an error; (T, POOLS, POOL)."""
    random = np.random.default_rng([policy, run])
    wrong = random.normal(0, RUN_ERROR, int(pools.max()) + 1)[pools]
    logits: Array = np.log(chances / (1 - chances)) + wrong + random.normal(0, ERRORS[policy], chances.shape)
    return logits


def _shown(chances: Array, pools: Array, policy: int) -> Array:
    """What each run of a policy shows: the items that it scores best; (RUNS, T, POOLS, SLATE)."""
    return np.stack([best_places(_scored(chances, pools, policy, run), SLATE) for run in range(RUNS)])


@dataclass(frozen=True)
class Uniform:
    """p-values of tests of a policy against itself.

    Attributes:
        rates: Level to the share below it.
        ks_p: That they are uniform (Kolmogorov-Smirnov).
    """

    rates: dict[str, float]
    ks_p: float

    @classmethod
    def of(cls, p_values: Array) -> Uniform:
        """Of as many tests as there are."""
        rates = {f"{level:g}": round(float((p_values < level).mean()), 4) for level in LEVELS}
        return cls(rates, round(float(stats.kstest(p_values, "uniform").pvalue), 4))


def against_itself(tables: Tables, tests: int) -> dict[str, Uniform]:
    """A/A by type of metric: the verdict's lift, and what a test with drawn clicks would read."""
    random = np.random.default_rng(3)
    lifts = []
    for _ in range(tests):
        drawn = tables.sample(random)
        lifts.append(estimate(drawn[CONTROL], drawn["itself"], [], 0.95).lift.p_value)
    # Tail shares of two runs on the same users, and clicks of users who come as often as they please.
    popularity = np.bincount(tables.pools.ravel())
    tail = metrics.in_tail(popularity)
    shares = [
        metrics.tail_share(tail, np.take_along_axis(tables.pools, run, axis=2)) for run in tables.places[CONTROL][:2]
    ]
    rate = tables.clicks[CONTROL].mean(axis=(0, 2))
    visits = 1 + np.random.default_rng(5).geometric(0.2, len(rate))
    readings: dict[str, Callable[[Array], Array]] = {
        "clicks a slate, drawn": lambda who: random.binomial(VISITS * SLATE, rate[who] / SLATE) / VISITS,
        "clicks a user, drawn": lambda who: random.poisson(rate[who] * visits[who]).astype(float),
        "share of the long tail": lambda who: np.where(random.random(len(who)) < 0.5, shares[0][who], shares[1][who]),
    }
    uniform = {VERDICT: Uniform.of(np.array(lifts))}
    for name, read in readings.items():
        p_values = []
        for _ in range(tests):
            who = random.integers(len(rate), size=CROWD)
            treated = random.random(CROWD) < 0.5
            values = read(who)
            p_values.append(relative_lift(values[treated], values[~treated], 0.95).p_value)
        uniform[name] = Uniform.of(np.array(p_values))
    shown = shown_chances(tables.chances[:, :VISITS], tables.places[CONTROL][:, :, :VISITS], tables.looked)
    crowd = Crowd(CROWD, 0.95, shown, 0)
    drawn_aa = crowd.against_itself(shown, tests, "aa")
    uniform["CTR with CUPED, drawn"] = Uniform(drawn_aa.rates, round(drawn_aa.ks_p, 4))
    return uniform


def covered(clicks: Mapping[str, Array], control: str, tests: int, seeds: int = SEEDS) -> dict[str, float]:
    """How often intervals hold the true lift; of decided tests, how often the sign is wrong and by how much too far.

    Args:
        clicks: Expected clicks of a slate, by policy, of all there are; (runs, T, pools). Runs of a policy that no seed
            varies are alike.
        control: The policy that the others are compared with.
        tests: How many are drawn.
        seeds: Runs of each policy in a test.
    """
    true = {name: lift_of(clicks[control], arm) for name, arm in clicks.items() if name != control}
    varied = {name for name, arm in clicks.items() if np.ptp(arm.mean(axis=(1, 2)))}
    random = np.random.default_rng(2)
    inside, wrong, decided, exaggerated, ranks, reaches = [], 0, 0, [], [], []
    for _ in range(tests):
        drawn = sample(clicks, random, seeds)
        found = {
            name: estimate(drawn[control], drawn[name], [], 0.95, (control in varied, name in varied)).lift
            for name in true
        }
        for name, lift in found.items():
            inside.append(lift.low <= true[name] <= lift.high)
            reaches.append((lift.high - lift.low) / 2)
            if lift.p_value < 0.05:
                decided += 1
                wrong += lift.value * true[name] < 0
                exaggerated.append(abs(lift.value / true[name]))
        ranks.append(stats.spearmanr([found[name].value for name in true], list(true.values())).statistic)
    return {
        "coverage": float(np.mean(inside)),
        "wrong_sign": wrong / max(1, decided),
        "exaggeration": float(np.mean(exaggerated)) if exaggerated else math.nan,
        "decided": decided / len(inside),
        "reach": float(np.mean(reaches)),
        "table_rank_correlation": float(np.mean(ranks)),
        "least_lift": min(abs(lift) for lift in true.values()),
        "largest_lift": max(abs(lift) for lift in true.values()),
    }


def coverage_rows(numbers: Mapping[str, float]) -> list[list[str]]:
    """What `covered` found, beside what is wanted."""
    return [
        ["intervals of 95 % that hold the true lift", f"{numbers['coverage']:.2%}", "93.5 to 96.5 %"],
        ["decided tests (p below 0.05)", f"{numbers['decided']:.1%}", ""],
        ["decided tests with the wrong sign", f"{numbers['wrong_sign']:.2%}", "below 2.5 %"],
        ["exaggeration: size of a decided lift over the true one, mean", f"{numbers['exaggeration']:.3f}", ""],
        ["rank correlation of found and true lifts", f"{numbers['table_rank_correlation']:.3f}", "0.9"],
    ]


def sharpened(tables: Tables) -> dict[str, float]:
    """What CUPED and the paired mode take off the variance, and how many user-days of a table policy fit a minute."""
    control, other = (shown_chances(tables.chances, tables.places[name], tables.looked) for name in (CONTROL, OTHER))
    crowd = Crowd(CROWD, 0.95, tables.before, 0, tables.expected[:, None])
    crowd.test(control, other, "warm")
    begin = time.process_time()
    draws = [crowd.test(control, other, f"test-{number}") for number in range(100)]
    seconds = time.process_time() - begin
    blind = replace(crowd, habits=None)
    removed = [blind.test(control, other, f"test-{number}").cuped_variance_removed for number in range(100)]
    random, paired = np.random.default_rng(4), []
    for _ in range(300):
        users = random.integers(len(tables.chances), size=CROWD)
        one, two = (tables.clicks[name].mean(axis=(0, 2))[users] for name in (CONTROL, OTHER))
        paired.append(float(two.mean() / one.mean() - 1))
    return {
        "cuped_reduction": float(np.mean([draw.cuped_variance_removed for draw in draws])),
        "cuped_reduction_by_clicks": float(np.mean(removed)),
        "paired_reduction": float(np.var([draw.lift.value for draw in draws], ddof=1) / np.var(paired, ddof=1)),
        "user_days_per_minute": 100 * CROWD * POOLS / seconds * 60,
    }


def looked_at_daily(tables: Tables, tests: int) -> dict[str, float]:
    """Share of tests of a policy against itself that are called on some of 14 days, by the interval that is looked at.

    Users are split in two arms, which differ by the luck of the split for good and by that of the clicks each day.
    """
    random, called = np.random.default_rng(6), np.zeros(3)
    rate = tables.clicks[CONTROL].mean(axis=(0, 2))
    for number in range(tests):
        who = random.integers(len(rate), size=2 * CROWD // 5)
        treated = assign([f"{number}-{one}" for one in range(len(who))], "daily")
        clicks = random.binomial(SLATE, np.repeat(rate[who][:, None] / SLATE, DAYS, axis=1)).astype(float)
        size = min(int(treated.sum()), int((~treated).sum()))
        days = cumulative(clicks[~treated][:size], clicks[treated][:size], 0.95)
        for at, span in enumerate(("once", "bound", "sequence")):
            called[at] += any(not getattr(day, span).low <= 0 <= getattr(day, span).high for day in days)
    once, bound, sequence = (called / tests).tolist()
    return {"peeking_once": once, "peeking_bound": bound, "peeking_sequence": sequence}


def fitted(tables: Tables) -> float:
    """Spearman's correlation of lifts in a world fitted with hindsight on the log with the true ones."""
    columns = {name: np.concatenate([log[name] for log in tables.logs]) for name in ("user", "item", "time", "click")}
    users = np.arange(len(tables.logs))
    exposures = Exposures(
        columns["user"].astype(np.int64),
        columns["item"].astype(np.int64),
        columns["time"],
        columns["click"].astype(float),
        columns["time"] >= np.quantile(columns["time"], 0.8),
        users,
        int(max(columns["item"].max(), tables.pools.max())) + 1,
    )
    nobody = np.zeros(len(users), int)
    people = Population(users, tables.moments, nobody, nobody)
    found = fit_factor_world(exposures, 16, (8.0,), 0).chances(people, tables.pools)
    seen = {
        name: np.stack([expected_clicks(found, run, tables.looked) for run in shown])
        for name, shown in tables.places.items()
    }
    lifts = ([lift_of(of[CONTROL], of[name]) for name in NAMES[1:]] for of in (tables.clicks, seen))
    return float(stats.spearmanr(*lifts).statistic)


def off_policy(tables: Tables, logs: int = LOGS) -> float:
    """Spearman's correlation of lifts that are read off the control's logged slates with the true ones; mean over logs.

    The policies are softmaxes over the scores of one run each. Nothing is known of the others but their scores, and of
    users but what they clicked.
    """
    scores = [_scored(tables.chances, tables.pools, policy, 0) for policy in range(len(NAMES))]
    looked, random = tables.looked[:SHORT], np.random.default_rng(8)

    def drawn(policy: int, number: int) -> tuple[Array, Array]:
        places = drawn_places(scores[policy], SHORT, HEAT, (8, number))
        return places, np.take_along_axis(tables.chances, places, axis=2) * looked

    def lifts(clicks: list[float]) -> Array:
        return np.array(clicks[1:]) / clicks[0] - 1

    many = range(logs, logs + DRAWS)
    each = [[drawn(policy, one)[1].sum(axis=2).mean() for one in many] for policy in range(len(NAMES))]
    true = lifts(np.mean(each, axis=1).tolist())
    ranks = []
    for number in range(logs):
        places, chance = drawn(NAMES.index(CONTROL), number)
        click = random.random(chance.shape) < chance
        log = ShownSlates(
            np.arange(len(places)), tables.pools, places, propensities(scores[0], places, HEAT), click.astype(float)
        )
        guess = np.full(tables.chances.shape, float((click / looked).mean()))
        read = [float(values(log.rounds(one, HEAT, guess, looked), 10.0)[JUDGE].mean()) for one in scores]
        ranks.append(stats.spearmanr(lifts(read), true).statistic)
    return float(np.mean(ranks))


def measure(users: int, tests: int, aa: int) -> tuple[dict[str, float], Mapping[str, Uniform]]:
    """All numbers, and A/A by metric."""
    tables = Tables.draw(users)
    numbers = covered(tables.clicks, CONTROL, tests) | sharpened(tables) | looked_at_daily(tables, tests)
    numbers |= {"fitted_rank_correlation": fitted(tables), "off_policy_rank_correlation": off_policy(tables)}
    return numbers, against_itself(tables, aa)
