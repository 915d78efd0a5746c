"""Are verdicts those of the policies, or of the draw? The A/B test of finished projects, again and again.

    make bench-ab ARGS="--stability FOLDER ..."          or  python benchmarks/ab.py --stability FOLDER ...

FOLDER holds `params.yaml` and `artifacts/` of a finished graph. Its test is repeated with other seeds (pools, fits and
clicks), other salts and other pools alone, with its own control and with the reference of its evaluation; in the
simulated world by every kind of evidence. Nothing in FOLDER is written. With --write the page goes to
reports/bench-ab-stability.md.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import numpy as np
from pages import table

from hisac_lab.abtest import ground, people
from hisac_lab.abtest.experiment import SIMULATED, abtest
from hisac_lab.abtest.hindsight import Exposures, World
from hisac_lab.abtest.people import choose_pools
from hisac_lab.abtest.records import NO_VERDICT, ABTest, ABTests, Verdict
from hisac_lab.abtest.replay import Slates
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.abtest import ABTestConfig, EvidenceKind, Family
from hisac_lab.config.base import load_section
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.records import Evaluated
from hisac_lab.events.records import Prepared

SEEDS, SALTS, POOLS = 6, 4, 5
COLUMNS = ("project", "evidence", "lift of", "verdicts", "lift, least to largest", "stated error", "same")
WANTED = 0.95


def stability(folders: Sequence[Path]) -> tuple[list[str], float]:
    """Repeats the tests of finished projects.

    Args:
        folders: Of the projects.

    Returns:
        The page, and the share of the repetitions with a verdict that have the commonest one of their model.

    Raises:
        UserError: A folder holds no finished graph, or no repetition has a verdict.
    """
    rows: list[list[str]] = []
    same = given = 0
    tested = [(folder, [*product(_kinds(folder), _controls(folder))]) for folder in folders]  # all are looked at first
    for folder, kinds in tested:
        with _kept_worlds():
            for kind, control in kinds:
                for name, tests in _repeated(folder, kind, control).items():
                    agree, of = _commonest(tests)
                    lift = f"{name} over {control}"
                    rows.append([folder.resolve().name, kind, lift, *_cells(tests), f"{agree} of {of}"])
                    same, given = same + agree, given + of
                    say(f"bench-ab: {', '.join(rows[-1])}")
    if not given:
        raise UserError("--stability", "no repetition has a verdict", "give a project whose A/B test has some")
    lines = [
        "# Do verdicts hold?",
        "",
        "`python benchmarks/ab.py --stability FOLDER ...`: the stage `abtest` of finished projects, repeated with "
        f"{SEEDS} seeds",
        f"(of pools, fits and clicks), {SALTS} salts and {POOLS} draws of the pools alone. Same: repetitions with the "
        "commonest",
        "verdict, of those that have one. Stated error: of the lift, the mean over repetitions.",
        "",
        *table(COLUMNS, rows),
        "",
        f"Of {given:,} repetitions with a verdict {same / given:.1%} have the commonest (wanted: {WANTED:.0%}).",
    ]
    return lines, same / given


def _kinds(folder: Path) -> tuple[EvidenceKind, ...]:
    simulated = Prepared.open(Artifacts(folder / "artifacts").prepare).dataset == SIMULATED
    return get_args(EvidenceKind) if simulated else ("fitted",)


def _controls(folder: Path) -> list[str]:
    """The control of the settings, and the reference of the evaluation."""
    configured = load_section("abtest", ABTestConfig, folder / "params.yaml").control
    return list(dict.fromkeys([configured, Evaluated.open(Artifacts(folder / "artifacts").evaluate).reference]))


def _repeated(folder: Path, kind: EvidenceKind, control: str) -> dict[str, list[ABTest]]:
    """The tests of every repetition, by model."""
    config = load_section("abtest", ABTestConfig, folder / "params.yaml")
    config = config.model_copy(update={"evidence": kind, "control": control})
    repeats: list[tuple[dict[str, Any], int | None]] = [({"seed": seed}, None) for seed in range(SEEDS)]
    repeats += [({"split_salt": f"salt {number}"}, None) for number in range(SALTS)]
    repeats += [({}, 100 + number) for number in range(POOLS)]
    found: dict[str, list[ABTest]] = {}
    for changes, pools in repeats:
        with _other_pools(pools):
            for name, test in _tested(folder, config.model_copy(update=changes)).tests.items():
                found.setdefault(name, []).append(test)
    return found


@contextmanager
def _kept_worlds() -> Iterator[None]:
    """Worlds of one log are fitted once for each seed: nothing else that is repeated changes them."""
    fits: dict[tuple[Family, int], World] = {}
    refits: dict[tuple[Family, int], Sequence[Any]] = {}
    fit, own = ground.fit, World.refits

    def fitted(family: Family, exposures: Exposures, nodes: Array, config: ABTestConfig) -> World:
        if (family, config.seed) not in fits:
            fits[family, config.seed] = fit(family, exposures, nodes, config)
        return fits[family, config.seed]

    def refitted(world: World, count: int, seed: int) -> Sequence[Any]:
        if (world.family, seed) not in refits:
            refits[world.family, seed] = own(world, count, seed)
        return refits[world.family, seed]

    with mock.patch.object(ground, "fit", fitted), mock.patch.object(World, "refits", refitted):
        yield


@contextmanager
def _other_pools(seed: int | None) -> Iterator[None]:
    """The stage with pools of another seed, and nothing else; None: with its own."""
    if seed is None:
        yield
        return
    drawn = {"seed": seed}
    of = Slates.of

    def chosen(log: Any, everybody: Any, config: ABTestConfig, without_met: bool) -> Any:
        return choose_pools(log, everybody, config.model_copy(update=drawn), without_met)

    def replayed(store: Any, config: ABTestConfig, simulator: Any) -> Slates:
        return of(store, config.model_copy(update=drawn), simulator)

    with mock.patch.object(people, "choose_pools", chosen), mock.patch.object(Slates, "of", replayed):
        yield


def _tested(folder: Path, config: ABTestConfig) -> ABTests:
    """The stage's output under other settings."""
    made, params = Artifacts(folder / "artifacts"), folder / "params.yaml"
    with tempfile.TemporaryDirectory() as out:
        abtest(
            config,
            load_section("experiment", ExperimentConfig, params),
            load_section("compute", ComputeConfig, params),
            prepared=made.prepare,
            trained=made.train,
            evaluated=made.evaluate,
            out=Path(out),
            acquired=made.acquire,
            codebook=made.codebook,
            instances=made.instances,
        )
        return ABTests.open(Path(out))


def _commonest(tests: Sequence[ABTest]) -> tuple[int, int]:
    """How many have the commonest verdict, and how many have one."""
    counts = Counter(test.verdict for test in tests if test.verdict != NO_VERDICT)
    return max(counts.values(), default=0), counts.total()


def _cells(tests: Sequence[ABTest]) -> list[str]:
    """How often each verdict was given, the least and the largest lift, and the stated error."""
    counts, lifts = Counter(test.verdict for test in tests), [test.lift.value for test in tests]
    errors = [math.hypot(*(part.error or 0.0 for part in test.parts.values())) for test in tests]
    given = [f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if counts[verdict]]
    return [", ".join(given), f"{min(lifts):+.2%} to {max(lifts):+.2%}", f"{np.mean(errors):.2%}"]
