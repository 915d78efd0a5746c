"""Do intervals hold the true lift of trained models? In the world that made their log.

    make bench-ab ARGS="--known FOLDER"          or  python benchmarks/ab.py --known FOLDER

FOLDER holds `params.yaml` and `artifacts/` of a finished graph on the simulated world, as `benchmarks/leaderboard.py`
leaves them. Every run of every model shows what it likes best of many pools to every user of the test period; the true
lift is that over all of them. A test draws users, pools and runs anew. Nothing in FOLDER is written. With --write the
page goes to reports/bench-ab-known.md.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from ab_tables import POOLS, USERS, VISITS, coverage_rows, covered
from pages import table
from scipy import stats

from hisac_lab.abtest import truth
from hisac_lab.abtest.estimate import expected_clicks, lift_of
from hisac_lab.abtest.experiment import SIMULATED
from hisac_lab.abtest.people import Log, choose_pools, population
from hisac_lab.abtest.policies import slates
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import track
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.records import Evaluated, Scores
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.inference.runtime import Runtime


def known(folder: Path, tests: int) -> tuple[list[str], dict[str, float]]:
    """Draws tests of a finished project whose world's click probabilities are known.

    Args:
        folder: Of the project.
        tests: How many.

    Returns:
        The page, and its numbers.

    Raises:
        UserError: The folder holds no finished graph of the simulated world, or too little to draw from.
    """
    made = Artifacts(folder / "artifacts")
    control, scores = Evaluated.open(made.evaluate).reference, Scores.open(made.evaluate)
    clicks = _clicks(folder, made)
    if control not in clicks or len(clicks) < 2:
        what = f"{control!r} and another model are wanted, there are: {', '.join(clicks) or 'none'}"
        raise UserError(folder, what, "finish its graph")
    runs, users, pools = clicks[control].shape
    numbers = covered(clicks, control, tests, runs)
    ordered = sorted(clicks, key=lambda name: -float(clicks[name].mean()))
    gauc = {name: scores.models[name].metrics["gauc"] for name in ordered}
    true = {name: lift_of(clicks[control], clicks[name]) for name in ordered}
    values = [math.nan if (one := gauc[name]) is None else one.value for name in ordered]
    ranks = stats.spearmanr(values, list(true.values()), nan_policy="omit")
    numbers["gauc_rank_correlation"] = float(ranks.statistic)
    name = folder.resolve().name
    rows = [[model, f"{value:.4f}", f"{true[model]:+.2%}"] for model, value in zip(ordered, values, strict=True)]
    lines = [
        "# Trained models, and lifts that are known",
        "",
        f"`python benchmarks/ab.py --known .work/leaderboards/{name} --write`, of what",
        f"`python benchmarks/leaderboard.py {name}` leaves.",
        "",
        f"{runs} runs of every model show {users} users what they like best of {pools} pools each. The true lift",
        f"is that over all of them. Each of {tests:,} tests draws {USERS} users, {VISITS} pools of each and {runs}",
        f"runs of every model anew. Intervals of 95 % reach {numbers['reach']:.2%} to either side in the mean, and a",
        f"test rarely finds less than its reach. True lifts are of {numbers['least_lift']:.2%} to",
        f"{numbers['largest_lift']:.2%}.",
        "",
        *table(("", "found", "wanted"), coverage_rows(numbers)),
        "",
        *table(("model", "user-wise AUC", f"true lift over `{control}`"), rows),
        "",
        f"Rank correlation of the user-wise AUC with the true lift: {numbers['gauc_rank_correlation']:.3f}.",
    ]
    return lines, numbers


def _clicks(folder: Path, made: Artifacts) -> dict[str, Array]:
    """Expected clicks of the slates of every trained model; (runs, T, POOLS)."""
    if Prepared.open(made.prepare).dataset != SIMULATED:
        raise UserError(folder, "its log is not of the simulated world, no lift is known", "give another project")
    params = folder / "params.yaml"
    experiment = load_section("experiment", ExperimentConfig, params)
    config = load_section("abtest", ABTestConfig, params).model_copy(update={"visits": POOLS // 2})
    runtime, store = Runtime.start(load_section("compute", ComputeConfig, params)), EventStore.open(made.prepare)
    simulator = truth.rebuild(made.acquire)
    people, pools = choose_pools(Log.of(store), population(store.samples("test")), config, without_met=False)
    pools = pools[:, :POOLS]
    chances, looked = truth.true_chances(simulator, store, people, pools), truth.examined(simulator, config.slate)
    instances = made.instances if made.instances.is_dir() else None
    found = {}
    names = [name for name in experiment.models if made.run(name, experiment.seeds[-1]).is_dir()]
    for name in track(names, len(names), "bench-ab", "models"):
        shown = (
            slates(made.run(name, seed), store, people, pools, config.slate, runtime, instances)
            for seed in experiment.seeds
        )
        found[name] = np.stack([expected_clicks(chances, places, looked) for places in shown])
    return found
