"""The study: the same trials straight, resumed or in any order; none twice; failures; pruning; the front."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from kit import says

from hisac_lab.config.base import parse
from hisac_lab.config.sweep import Point, SweepConfig
from hisac_lab.evaluation.records import SLATE, ServingCost
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.export import export
from hisac_lab.sweep.records import Outcome, TrialSpan, times_beside
from hisac_lab.sweep.study import Job, Ledger, Note, Study, TrialResult

SPACE = {
    "agents": [4, 8, 16, 32, 64],
    "depth": [1, 2, 3],
    "breadth": {"values": [0.4, 0.6, 0.8], "when": {"depth": 3}},
    "temperature": {"low": 0.01, "high": 0.3, "log": True},
}
SAMPLERS = ["tpe", "nsga2", "sobol"]


class Killed(Exception):
    pass


def config(**changes: Any) -> SweepConfig:
    base = {"models": ["m"], "space": {"m": SPACE}, "trials": 24, "round_size": 4, "seed": 7, "sampler": "tpe"}
    return parse(SweepConfig, base | changes, "params.yaml", "sweep")


def outcome(point: Point, epochs: int | None = None, noise: float = 0.0) -> Outcome:
    """A fake training: more agents are better and dearer, one temperature is best, every epoch helps."""
    numbers: dict[str, Any] = point
    gap = abs(numbers.get("temperature", 0.07) - 0.07)
    auc = 0.6 + 0.001 * numbers["agents"] + 0.02 * numbers.get("depth", 1) - gap - (0.05 if epochs else 0)
    cost = ServingCost(state_bytes=8.0 * numbers["agents"], encode_macs=100.0, candidate_macs=float(numbers["agents"]))
    auc = round(auc, 6) + noise
    return Outcome(state="complete", aucs=(auc, auc - 0.01, auc + 0.01), cost=cost)


@dataclass
class Bench:
    """Answers jobs in the order that `arrange` gives; is killed after `life` answers."""

    arrange: Callable[[list[Job]], object] = lambda jobs: None
    life: int = 10**9
    noise: Callable[[], float] = lambda: 0.0
    broken: Callable[[Point], str | None] = lambda point: None
    asked: list[tuple[str, int | None]] = field(default_factory=list)

    def resolve(self, point: Point) -> Resolved:
        """More than 20 agents are 20: these points are one model."""
        agents = min(20, int(str(point["agents"])))
        cut = {"agents": (int(str(point["agents"])), agents)} if agents < int(str(point["agents"])) else {}
        return Resolved(json.dumps(point | {"agents": agents}), cut, point | {"agents": agents})

    def run(self, jobs: list[Job], note: Note) -> None:
        self.arrange(jobs)
        for job in jobs:
            if len(self.asked) == self.life:
                raise Killed
            self.asked.append((job.resolved.key, job.epochs))
            if reason := self.broken(job.resolved.settings):
                note(job, Outcome(state="failed", reason=reason))
            else:
                note(job, outcome(job.resolved.settings, job.epochs, self.noise()))


def run(bench: Bench, folder: Path | None = None, **changes: Any) -> list[TrialResult]:
    return Study(config(**changes), "m", bench, Ledger(folder)).run()[0]


def shown(trials: list[TrialResult]) -> list[tuple[Any, ...]]:
    return [(one.number, one.point, one.state, one.outcome, one.on_front, one.rung) for one in trials]


@pytest.fixture(scope="module", params=SAMPLERS)
def straight(request: pytest.FixtureRequest) -> tuple[str, list[TrialResult]]:
    """The study run in one go."""
    return request.param, run(Bench(), sampler=request.param)


Straight = tuple[str, list[TrialResult]]


def test_trials_are_numbered_stay_inside_the_space_and_none_is_there_twice(straight: Straight) -> None:
    _, trials = straight
    assert [trial.number for trial in trials] == list(range(24))
    assert len({trial.resolved.key for trial in trials}) == 24
    for trial in trials:
        assert ("breadth" in trial.point) == (trial.point["depth"] == 3)
        assert 0.01 <= float(str(trial.point["temperature"])) <= 0.3
        assert (trial.resolved.cut == {}) == (int(str(trial.point["agents"])) <= 20)


def test_trials_differ_between_study_seeds(straight: Straight) -> None:
    sampler, trials = straight
    other = run(Bench(), sampler=sampler, seed=8)
    assert [trial.point for trial in other] != [trial.point for trial in trials]


@pytest.mark.parametrize("seed", range(2))
def test_the_order_in_which_trials_end_does_not_matter(straight: Straight, seed: int) -> None:
    sampler, trials = straight
    assert shown(run(Bench(random.Random(seed).shuffle), sampler=sampler)) == shown(trials)
    assert shown(run(Bench(lambda jobs: jobs.reverse()), sampler=sampler)) == shown(trials)


@pytest.mark.parametrize("life", [0, 1, 9, 23])
def test_a_killed_study_resumes_to_the_same_trials_and_repeats_none(
    straight: Straight, tmp_path: Path, life: int
) -> None:
    sampler, trials = straight
    first, second = Bench(life=life), Bench()
    with pytest.raises(Killed):
        run(first, tmp_path / "work", sampler=sampler)
    assert shown(run(second, tmp_path / "work", sampler=sampler)) == shown(trials)
    assert len(first.asked) == life
    assert len({*first.asked, *second.asked}) == len(first.asked) + len(second.asked) == 24


def test_a_torn_answer_is_none_and_spoils_no_other(tmp_path: Path) -> None:
    trials = run(Bench(), tmp_path)
    torn = sorted(tmp_path.iterdir())[3]
    torn.write_text(torn.read_text()[:-20])
    again = Bench()
    assert shown(run(again, tmp_path)) == shown(trials)
    assert len(again.asked) == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_with_fewer_points_than_trials_ends_the_study_early(sampler: str) -> None:
    bench = Bench()
    space = {"m": {"agents": [4, 8, 16, 32, 64], "depth": [1]}}
    trials, exhausted = Study(config(space=space, sampler=sampler), "m", bench, Ledger(None)).run()
    assert exhausted
    assert sorted(int(str(trial.point["agents"])) for trial in trials)[:3] == [4, 8, 16]
    assert len(trials) == len(bench.asked) == 4  # 32 and 64 are both 20


def test_a_grid_is_gone_through_in_order() -> None:
    space = {"m": {"agents": [4, 8], "depth": [1, 2], "breadth": {"values": [0.4], "when": {"depth": 2}}}}
    trials, exhausted = Study(config(space=space, sampler="grid"), "m", Bench(), Ledger(None)).run()
    assert exhausted
    assert [trial.point for trial in trials] == [
        {"agents": agents, "depth": depth} | ({"breadth": 0.4} if depth == 2 else {})
        for agents in (4, 8)
        for depth in (1, 2)
    ]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_fixed_points_come_first_and_once(sampler: str) -> None:
    paper = {"agents": 16, "depth": 2, "temperature": 0.07}
    trials = run(Bench(), sampler=sampler, fixed={"m": [paper, paper]})
    assert trials[0].point == paper
    assert [trial.fixed for trial in trials] == [True, *[False] * 23]


def test_a_failed_trial_is_recorded_with_its_reason_and_does_not_stop_the_study(tmp_path: Path) -> None:
    def broken(point: Point) -> str | None:
        return "the loss is nan" if point["depth"] == 2 else None

    trials = run(Bench(broken=broken), tmp_path)
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed
    assert len(trials) == 24
    assert {trial.outcome.reason for trial in failed} == {"the loss is nan"}
    assert not any(trial.on_front for trial in failed)
    again = Bench(broken=broken)
    assert shown(run(again, tmp_path)) == shown(trials)
    assert again.asked == []


def test_a_study_whose_trials_all_fail_is_told_with_the_first_reason() -> None:
    with says("all 24 trials of m failed or are over a gate, the first one: out of memory; mend that"):
        run(Bench(broken=lambda point: "out of memory"))


def test_a_point_that_cannot_be_trained_is_not_asked() -> None:
    class Refusing(Bench):
        def resolve(self, point: Point) -> Resolved:
            found = super().resolve(point)
            return Resolved(found.key, reason="the gate closes") if point["depth"] == 3 else found

    bench = Refusing()
    trials = run(bench)
    refused = [trial for trial in trials if trial.point["depth"] == 3]
    assert {trial.outcome.reason for trial in refused} == {"the gate closes"}
    assert len(bench.asked) == 24 - len(refused)


def test_halving_stops_all_of_a_round_but_one_in_so_many_at_each_rung() -> None:
    bench = Bench()
    trials = run(bench, epochs=5, halving=2, trials=8, round_size=4)
    for first in (0, 4):
        rungs = sorted(trial.rung or 9 for trial in trials[first : first + 4])
        assert rungs == [1, 1, 2, 9]
    assert [epochs for _, epochs in bench.asked] == [1, 1, 1, 1, 2, 2, 4, None] * 2
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert not any(trial.on_front for trial in pruned)


def test_what_goes_on_at_a_rung_is_what_the_fewest_are_better_than() -> None:
    study = Study(config(halving=2), "m", Bench(), Ledger(None))

    def at(number: int, auc: float, agents: int) -> TrialResult:
        cost = ServingCost(state_bytes=1.0, encode_macs=0.0, candidate_macs=float(agents))
        made = Outcome(state="complete", aucs=(auc,), cost=cost)
        return TrialResult(number, {}, Resolved(str(number)), "complete", made)

    cheap, best, dear, bad = at(0, 0.60, 1), at(1, 0.70, 5), at(2, 0.69, 9), at(3, 0.50, 2)
    assert study.kept([cheap, best, dear, bad]) == {0, 1}
    assert study.kept([dear, bad, best]) == {1, 3}


def test_pruning_does_not_change_the_winner_of_a_study_without_it() -> None:
    """Same trials of the first round; later ones differ, for the sampler was told other values."""
    whole, pruned = run(Bench(), sampler="sobol"), run(Bench(), sampler="sobol", halving=2, epochs=4)
    assert [trial.point for trial in whole] == [trial.point for trial in pruned]
    best = max(whole, key=lambda trial: (trial.objectives[0], -trial.number))
    assert pruned[best.number].state == "complete"


@pytest.mark.parametrize("seed", range(3))
def test_noise_below_the_rounding_changes_neither_what_is_tried_nor_the_front(seed: int) -> None:
    """The fake AUCs stand far from where rounding jumps."""
    space = {"m": {"agents": [4, 8, 16], "depth": [1, 2, 3], "temperature": [0.03, 0.07, 0.15]}}
    draws = random.Random(seed)
    calm, noisy = run(Bench(), space=space), run(Bench(noise=lambda: draws.uniform(-4e-4, 4e-4)), space=space)
    assert [(one.point, one.on_front) for one in noisy] == [(one.point, one.on_front) for one in calm]
    assert shown(noisy) != shown(calm)


def test_the_front_is_what_no_other_trial_beats_and_equals_are_there_once(straight: Straight) -> None:
    _, trials = straight
    points = {trial.number: trial.objectives for trial in trials}
    for trial in trials:
        high, low = points[trial.number]
        beaten = any(
            auc >= high and cost <= low and (auc > high or cost < low or number < trial.number)
            for number, (auc, cost) in points.items()
            if number != trial.number
        )
        assert trial.on_front == (not beaten)
    front = [points[trial.number] for trial in trials if trial.on_front]
    assert 1 < len(front) == len(set(front)) < 24


def test_the_cost_of_a_trial_is_that_of_a_whole_request() -> None:
    assert outcome({"agents": 8}).request_macs == 100 + SLATE * 8


def test_progress_is_told_after_every_round() -> None:
    told: list[int] = []
    Study(config(), "m", Bench(), Ledger(None), told.append).run()
    assert told == [4, 8, 12, 16, 20, 24]


def test_an_answer_that_never_comes_is_an_error() -> None:
    class Mute(Bench):
        def run(self, jobs: list[Job], note: Note) -> None:
            pass

    with pytest.raises(RuntimeError, match="no answer"):
        run(Mute())


def test_a_study_file_is_opened_by_optuna(tmp_path: Path) -> None:
    def broken(point: Point) -> str | None:
        return "the loss is nan" if point["depth"] == 2 else None

    trials = run(Bench(broken=broken), epochs=3, halving=2)
    path = tmp_path / "logs" / "sweep-m.journal"
    for _ in range(2):
        export(trials, config().space["m"], path)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    (name,) = optuna.get_all_study_names(optuna.storages.JournalStorage(backend))
    study = optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
    assert [trial.params for trial in study.trials] == [trial.point for trial in trials]
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    assert [trial.state.name for trial in study.trials] == [states[trial.state] for trial in trials]
    assert study.metric_names == ["validation AUC", "multiply-adds of a request"]
    assert len(study.best_trials) >= sum(trial.on_front for trial in trials) > 0


def test_the_times_of_trials_stand_in_the_study_file_and_beside_it(tmp_path: Path) -> None:
    trials = run(Bench())
    first = trials[0]
    begun, seeded = (
        {"started": f"2026-01-02T03:0{at}:00+00:00", "ended": f"2026-01-02T03:0{at}:30+00:00"} for at in (1, 5)
    )
    more = (first.outcome.model_copy(update=seeded),)
    trials[0] = replace(first, outcome=first.outcome.model_copy(update=begun), more=more)
    path = tmp_path / "logs" / "sweep-m.journal"
    export(trials, config().space["m"], path)
    (span,) = TrialSpan.read_list(times_beside(path))
    assert (span.number, span.started, span.ended) == (0, begun["started"], seeded["ended"])
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    trial = optuna.load_study(study_name="m", storage=storage).trials[0]
    assert trial.duration is not None
    assert trial.duration.total_seconds() == 270
