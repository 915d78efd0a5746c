"""The study: the same trials straight, resumed or in any order; the front."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hisac_lab.config.sweep import SweepConfig
from hisac_lab.sweep.study import Journal, Settings, TrialResult, TrialScores, run_study

CONFIG = SweepConfig(trials=24, round_size=4, seed=7)
Note = Callable[[Settings, TrialScores], None]


class _Killed(Exception):
    pass


def _scores(settings: Settings, noise: float = 0.0) -> TrialScores:
    """A fake training: more agents are better and dearer, one temperature is best."""
    gap = abs(settings["temperature"] - 0.07)
    auc = round(0.6 + 0.001 * settings["agents"] + 0.02 * settings["depth"] - gap, 6) + noise
    return TrialScores((auc, auc - 0.01, auc + 0.01), 100 * int(settings["agents"]))


class _Trainer:
    """Answers a batch in the order `arrange` gives; is killed after `life` answers; AUCs are `noise` off."""

    def __init__(
        self,
        arrange: Callable[[list[Settings]], object] = lambda batch: None,
        life: int = 10**9,
        noise: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.arrange, self.life, self.noise = arrange, life, noise
        self.asked: list[Settings] = []

    def __call__(self, batch: list[Settings], note: Note) -> None:
        self.arrange(batch)
        for settings in batch:
            if len(self.asked) == self.life:
                raise _Killed
            self.asked.append(settings)
            note(settings, _scores(settings, self.noise()))


def _study(trainer: _Trainer, path: Path | None = None, config: SweepConfig = CONFIG) -> list[TrialResult]:
    return run_study(config, trainer, Journal(path))


@pytest.fixture(scope="module")
def straight() -> list[TrialResult]:
    """The study run in one go."""
    return _study(_Trainer())


def test_trials_are_numbered_and_stay_inside_the_search_space(straight: list[TrialResult]) -> None:
    assert [trial.number for trial in straight] == list(range(24))
    for trial in straight:
        assert set(trial.settings) == {"agents", "depth", "breadth", "temperature"}
        for name, value in trial.settings.items():
            assert value in getattr(CONFIG, name)
        assert trial.scores == _scores(trial.settings)


def test_trials_differ_among_each_other_and_between_seeds(straight: list[TrialResult]) -> None:
    assert len({json.dumps(trial.settings) for trial in straight}) > 12
    other = _study(_Trainer(), config=CONFIG.model_copy(update={"seed": 8}))
    assert [trial.settings for trial in other] != [trial.settings for trial in straight]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_trials_end_does_not_matter(straight: list[TrialResult], seed: int) -> None:
    assert _study(_Trainer(random.Random(seed).shuffle)) == straight
    assert _study(_Trainer(lambda batch: batch.reverse())) == straight


@pytest.mark.parametrize("life", [0, 1, 4, 9, 15])
def test_a_killed_study_resumes_to_the_same_trials_and_repeats_none(
    straight: list[TrialResult], tmp_path: Path, life: int
) -> None:
    path = tmp_path / "work" / "journal.jsonl"
    first, second = _Trainer(life=life), _Trainer()
    with pytest.raises(_Killed):
        _study(first, path)
    assert _study(second, path) == straight
    answered = [json.dumps(settings, sort_keys=True) for settings in first.asked + second.asked]
    assert len(answered) == len(set(answered))


def test_a_line_cut_off_by_a_kill_is_ignored_and_spoils_no_other(straight: list[TrialResult], tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(_Killed):
        _study(_Trainer(life=3), path)
    path.write_text(path.read_text()[:-20])
    again = _Trainer(life=2)
    with pytest.raises(_Killed):
        _study(again, path)
    assert len(Journal(path).answers) == 4
    last = _Trainer()
    assert _study(last, path) == straight
    assert len(again.asked) + len(last.asked) == len({json.dumps(t.settings, sort_keys=True) for t in straight}) - 2


def test_equal_settings_are_evaluated_once() -> None:
    small = SweepConfig(trials=12, round_size=4, agents=(4, 8), depth=(1,), breadth=(0.5,), temperature=(0.07,))
    trainer = _Trainer()
    trials = _study(trainer, config=small)
    assert len(trials) == 12
    assert len(trainer.asked) == len({trial.settings["agents"] for trial in trials}) <= 2


def test_progress_is_told_after_every_round() -> None:
    told: list[int] = []
    run_study(CONFIG, _Trainer(), Journal(None), done=told.append)
    assert told == [4, 8, 12, 16, 20, 24]


def test_an_answer_that_never_comes_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no answer"):
        run_study(CONFIG, lambda batch, note: None, Journal(None))


def test_the_journal_keeps_answers_by_settings_whatever_the_order_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert journal.scores_of({"a": 1, "b": 2}) is None
    scores = TrialScores((0.5, 0.123456, 0.1), 3)
    journal.note({"a": 1, "b": 2}, scores)
    assert journal.scores_of({"b": 2, "a": 1}) == scores
    assert Journal(path).scores_of({"b": 2, "a": 1}) == scores


def test_a_line_of_an_earlier_form_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps({"settings": '{"a": 1}', "auc": 0.7, "cost": 3.0}) + "\n")
    journal = Journal(path)
    assert journal.scores_of({"a": 1}) is None
    journal.note({"a": 1}, TrialScores((0.7, 0.6), 3))
    assert Journal(path).answers == journal.answers != {}


@pytest.mark.parametrize("seed", range(3))
def test_noise_below_the_rounding_changes_neither_what_is_tried_nor_the_front(
    straight: list[TrialResult], seed: int
) -> None:
    """The fake AUCs have three decimals at most, so they stand far from where rounding jumps."""
    random_noise = random.Random(seed)
    noisy = _study(_Trainer(noise=lambda: random_noise.uniform(-4e-4, 4e-4)))
    assert [(trial.settings, trial.on_front) for trial in noisy] == [
        (trial.settings, trial.on_front) for trial in straight
    ]
    assert noisy != straight


def test_the_front_is_what_no_other_trial_beats(straight: list[TrialResult]) -> None:
    points = {trial.number: trial.scores.objectives for trial in straight}
    for trial in straight:
        high, low = points[trial.number]
        beaten = any(auc >= high and cost <= low and (auc > high or cost < low) for auc, cost in points.values())
        assert trial.on_front == (not beaten)
    assert 1 < sum(trial.on_front for trial in straight) < 24
