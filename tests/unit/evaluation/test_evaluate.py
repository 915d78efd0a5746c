"""The stage `evaluate`: right numbers under one fingerprint, and no leftovers among the runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluating import CONFIG, EXPERIMENT
from kit import CPU, Stages, says
from sklearn.metrics import roc_auc_score

from hisac_lab.base.artifacts import read_manifest, sha256_tree
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.evaluate import EvaluateConfig
from hisac_lab.evaluation import evaluator
from hisac_lab.evaluation.evaluate import best_seed, evaluate, protocol_fingerprint, runs_of
from hisac_lab.evaluation.evaluator import _slices
from hisac_lab.evaluation.metrics import seed_draws
from hisac_lab.evaluation.records import ModelScores, Scores, Timings
from hisac_lab.events.batches import Requests
from hisac_lab.events.positives import popularity
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.records import Trained
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.ops.auc import auc
from hisac_lab.ops.bins import quantile_bins


def test_auc_of_every_run_is_that_of_its_scores(
    models: dict[str, ModelScores], trained: Path, store: EventStore, rows: dict[str, Requests]
) -> None:
    labels, test = store.samples("test")["label"], rows["test"]
    for name in EXPERIMENT.models:
        aucs = []
        for seed in EXPERIMENT.seeds:
            logits = np.zeros(len(labels))
            scores = score(load_model(trained / f"{name}-{seed}")[0], Loader(test, CPU))
            logits[test.sample[test.mask]] = scores[test.mask]
            aucs.append(roc_auc_score(labels, logits))
            assert models[name].seeds[seed].auc == pytest.approx(aucs[-1], abs=1e-6)
        entry = models[name].auc
        assert entry.value == pytest.approx(np.mean(aucs), abs=1e-6)
        assert entry.seed_spread == pytest.approx(np.std(aucs), abs=1e-6)
        assert entry.interval[0] < entry.value < entry.interval[1]


def test_differences_are_paired_and_none_for_the_reference_itself(models: dict[str, ModelScores]) -> None:
    for entry in (*models["din_50"].metrics.values(), models["din_50"].slices["history length"].popitem()[1]):
        assert entry is not None
        assert entry.difference == 0
        assert entry.difference_interval == (0, 0)
    for name, entry in models["hisac"].metrics.items():
        other = models["din_50"].metrics[name]
        assert entry is not None
        assert other is not None
        gap = entry.value - other.value
        assert entry.difference == pytest.approx(gap, abs=2e-6)
        low, high = entry.difference_interval
        assert low <= high
        width = entry.interval[1] - entry.interval[0]
        assert high - low < 2 * width


def test_pairs_of_bins_differ_as_their_slices_do(judged: Path) -> None:
    """The pair with the reference is the difference that each slice has, with its interval; every pair is there."""
    found = Scores.open(judged)
    assert set(found.bin_pairs) == {"history length", "item popularity"}
    count = len(found.models) * (len(found.models) - 1) // 2
    for kind, bins in found.bin_pairs.items():
        assert set(bins) == {label for label in found.slices[kind] if f"{kind}/{label}" not in found.undefined}
        for label, pairs in bins.items():
            assert len(pairs) == count
            (pair,) = (pair for pair in pairs if {pair.one, pair.other} == {"din_50", "hisac"})
            metric = found.models["hisac"].slices[kind][label]
            assert metric is not None
            sign = 1 if pair.one == "hisac" else -1
            assert sign * pair.difference == pytest.approx(metric.difference, abs=1e-6)
            assert sorted(sign * end for end in pair.interval) == pytest.approx(metric.difference_interval, abs=1e-6)


def test_every_model_is_compared_with_popularity_on_the_same_samples(judged: Path, store: EventStore) -> None:
    found, samples = Scores.open(judged), store.samples("test")
    assert found.popularity.keys() == found.models.keys()
    counts = popularity(store, samples["item"], samples["time"])
    base = roc_auc_score(samples["label"], counts)
    for name, gap in found.popularity.items():
        assert gap.difference == pytest.approx(found.models[name].auc.value - base, abs=2e-6)
        assert gap.interval[0] < gap.difference < gap.interval[1]


def test_every_model_has_its_cost_settings_and_best_seed(models: dict[str, ModelScores], trained: Path) -> None:
    for name, found in models.items():
        runs = {seed: Trained.open(trained / f"{name}-{seed}") for seed in EXPERIMENT.seeds}
        assert min(found.cost.facts().values()) > 0
        assert found.settings == runs[0].settings
        assert found.parameters == runs[0].parameters
        top = max(round(run.valid_auc, 4) for run in runs.values())
        assert round(runs[found.best_seed].valid_auc, 4) == top
        assert set(found.metrics) == {"auc", "gauc", "log_loss", "ndcg@3", "recall@3"}


def test_a_control_is_marked_by_what_its_settings_read(
    stages: Stages, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HiSACConfig, "control", "item")
    runs = runs_of(trained, EXPERIMENT)
    (tmp_path / "out").mkdir()
    evaluate(
        CONFIG.model_copy(update={"bootstrap": 10}),
        ComputeConfig(device="cpu"),
        prepared=stages.prepare,
        runs={name: paths[:1] for name, paths in runs.items()},
        out=tmp_path / "out",
        timings=tmp_path / "timings.json",
    )
    found = Scores.open(tmp_path / "out").models
    assert (found["hisac"].control, found["din_50"].control) == ("item", None)
    assert "control" not in found["din_50"].facts()


@pytest.mark.parametrize(
    ("aucs", "best"),
    [
        ({0: 0.71, 1: 0.72}, 1),
        ({0: 0.72, 1: 0.71}, 0),
        ({0: 0.71001, 1: 0.71004}, 0),
        ({0: 0.71004, 1: 0.71001}, 0),
        ({10: 0.71, 9: 0.71, 2: 0.7}, 9),
    ],
    ids=["higher", "higher, the first", "fifth decimal up", "fifth decimal down", "ties by number"],
)
def test_the_best_seed_is_the_lowest_of_those_that_are_highest_as_rounded(aucs: dict[int, float], best: int) -> None:
    assert best_seed(aucs) == best


def test_slices_part_the_test_period(judged: Path, models: dict[str, ModelScores], store: EventStore) -> None:
    sizes = Scores.open(judged).slices
    assert set(sizes) == {"history length", "item popularity"}
    for kind, bins in sizes.items():
        assert sum(bins.values()) == len(store.samples("test"))
        assert 1 < len(bins) <= CONFIG.slices
        assert set(models["hisac"].slices[kind]) == set(bins)


def test_the_manifest_says_under_which_rules(judged: Path, store: EventStore) -> None:
    manifest = read_manifest(judged)
    samples = store.samples("test")
    assert manifest == {
        "arithmetic": "portable",
        "fingerprint": protocol_fingerprint(store, CONFIG),
        "reference": "din_50",
        "confidence": 0.95,
        "negatives": "real exposures",
        "test_samples": len(samples),
        "test_users": len(np.unique(samples["user"])),
    }


def test_the_fingerprint_changes_with_the_rules(store: EventStore) -> None:
    changed = CONFIG.model_copy(update={"top": 5})
    assert protocol_fingerprint(store, CONFIG) == protocol_fingerprint(store, CONFIG.model_copy())
    assert protocol_fingerprint(store, CONFIG) != protocol_fingerprint(store, changed)


def test_times_are_kept_beside_the_output_and_the_output_is_the_same_from_two_workers(
    judged: Path, stages: Stages, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timings = Timings.read(judged.parent / "logs" / "timings.json")
    assert set(timings.models) == set(EXPERIMENT.models)
    assert sorted(path.name for path in judged.iterdir()) == ["manifest.json", "metrics.json", "readings.json"]
    compute, times = ComputeConfig(device="cpu"), tmp_path / "timings.json"
    (tmp_path / "out").mkdir()
    evaluate(
        CONFIG,
        compute,
        prepared=stages.prepare,
        runs=runs_of(trained, EXPERIMENT),
        out=tmp_path / "out",
        timings=times,
        workers=2,
    )
    assert sha256_tree(tmp_path / "out") == sha256_tree(judged)
    assert set(Timings.read(times).models) == set(EXPERIMENT.models)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.endswith("done")] == ["evaluate: 4 runs done", "time: 2 models done"]


def test_a_broken_run_is_named_out_of_a_worker_too(stages: Stages, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "train")
    (tmp_path / "train" / "hisac-0" / "model.json").unlink()
    compute, times = ComputeConfig(device="cpu"), tmp_path / "timings.json"
    with says("hisac-0", "model.json", "does not exist"):
        evaluate(
            CONFIG,
            compute,
            prepared=stages.prepare,
            runs=runs_of(tmp_path / "train", EXPERIMENT),
            out=tmp_path,
            timings=times,
            workers=2,
        )
    assert not times.exists()


def _again(stages: Stages, trained: Path, home: Path, config: EvaluateConfig = CONFIG, **options: Any) -> Path:
    """The stage's output in `home`."""
    out = home / "out"
    out.mkdir(parents=True)
    runs, compute = runs_of(trained, EXPERIMENT), ComputeConfig(device="cpu")
    evaluate(config, compute, prepared=stages.prepare, runs=runs, out=out, timings=home / "times.json", **options)
    return out


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_stage_goes_on_with_the_runs_that_are_left(
    workers: int, judged: Path, stages: Stages, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def score(self: evaluator.Evaluator, run: Path, first: bool) -> evaluator.RunScores:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(run.name)
        return whole(self, run, first)

    whole, work = evaluator.Evaluator.score, tmp_path / "work"
    monkeypatch.setattr(evaluator.Evaluator, "score", score)
    with pytest.raises(KeyboardInterrupt):
        _again(stages, trained, tmp_path / "killed", work=work)
    assert sorted(path.name.rsplit("-", 1)[0] for path in work.iterdir()) == ["din_50-0", "din_50-1"]
    scored.clear()
    out = _again(stages, trained, tmp_path / "again", work=work, workers=workers)
    if workers == 1:
        assert scored == ["hisac-0", "hisac-1"]
    assert sha256_tree(out) == sha256_tree(judged)
    assert not work.exists()


def test_scores_of_a_run_that_has_changed_are_not_recalled(stages: Stages, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "din_50-0", tmp_path / "din_50-0")
    task = evaluator.EvaluationTask(CONFIG, ComputeConfig(device="cpu"), stages.prepare, None)
    opened, work = evaluator.Evaluator.open(task), tmp_path / "work"
    one = evaluator.score_or_recall(opened, work, tmp_path / "din_50-0", True)
    again = evaluator.score_or_recall(opened, work, tmp_path / "din_50-0", True)
    assert (again.run, again.calibration, again.cost) == (one.run, one.calibration, one.cost)
    assert again.series.keys() == one.series.keys()
    for name, series in one.series.items():
        np.testing.assert_array_equal(again.series[name], series)
    (tmp_path / "din_50-0" / "curve.jsonl").write_text("")
    evaluator.score_or_recall(opened, work, tmp_path / "din_50-0", True)
    assert len(list(work.iterdir())) == 2


def test_intervals_can_hold_the_draw_of_seeds(judged: Path, stages: Stages, trained: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"interval_over": "users_and_seeds"})
    out = _again(stages, trained, tmp_path, config)
    assert read_manifest(out)["seeds_drawn"] is True
    task = evaluator.EvaluationTask(config, ComputeConfig(device="cpu"), stages.prepare, None)
    opened = evaluator.Evaluator.open(task)
    plain, drawn = Scores.open(judged).models, Scores.open(out).models
    for name in EXPERIMENT.models:
        series = [opened.score(trained / f"{name}-{seed}", False).series["auc"] for seed in EXPERIMENT.seeds]
        weights = seed_draws(2, CONFIG.bootstrap, CONFIG.seed, name)
        means = [float(weights[at] @ [one[at] for one in series]) for at in range(1, CONFIG.bootstrap + 1)]
        assert drawn[name].auc.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-6)
        assert drawn[name].auc.value == pytest.approx(plain[name].auc.value, abs=2e-6)
        assert drawn[name].auc.seed_spread == plain[name].auc.seed_spread
    assert drawn["din_50"].auc.difference_interval == (0, 0)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_seeds_are_drawn_with_replacement_and_by_the_name_of_the_model(seeds: int) -> None:
    weights = seed_draws(seeds, 400, 0, "din_50")
    assert weights[0].tolist() == [1 / seeds] * seeds
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * seeds, np.rint(weights * seeds), atol=1e-12)
    # A share of a multinomial draw has the variance p (1 - p) / n.
    assert weights[1:].var(axis=0) == pytest.approx((1 / seeds) * (1 - 1 / seeds) / seeds, rel=0.3, abs=1e-12)
    assert np.array_equal(weights, seed_draws(seeds, 400, 0, "din_50"))
    assert seeds == 1 or not np.array_equal(weights, seed_draws(seeds, 400, 0, "hisac"))


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Path]:
    """Makes folders of finished runs."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / "train" / name).mkdir(parents=True)
            model, _, seed = name.partition("-")
            run = Trained(name=model, seed=int(seed), settings={}, parameters=1, steps=1, valid_auc=0.5)
            run.save(tmp_path / "train" / name)
        return tmp_path / "train"

    return make


def test_leftovers_of_other_settings_are_removed_and_wanted_runs_kept(runs: Callable[..., Path]) -> None:
    folder = runs("din_50-0", "din_50-1", "hisac-0", "hisac-1", "hisac-7", "old-0")
    (folder / "notes").mkdir()
    (folder / ".snakemake_timestamp").touch()
    found = runs_of(folder, EXPERIMENT)
    assert found == {name: [folder / f"{name}-{seed}" for seed in (0, 1)] for name in ("din_50", "hisac")}
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".snakemake_timestamp", "din_50-0", "din_50-1", "hisac-0", "hisac-1", "notes"]


def test_a_missing_run_is_named_and_nothing_is_removed(runs: Callable[..., Path]) -> None:
    folder = runs("din_50-0", "din_50-1", "hisac-0", "old-0")
    with says("hisac-1", "does not exist", "run the stage"):
        runs_of(folder, EXPERIMENT)
    assert (folder / "old-0").exists()


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], ["1 to 2", "3 to 4", "5 to 8"]),
        ([5, 5, 5], ["5 to 6"]),
        ([0, 0, 0, 0, 9], ["0 to 9"]),
    ],
)
def test_bins_hold_every_value_once(values: list[int], labels: list[str]) -> None:
    found = quantile_bins(np.array(values), 3)
    assert np.sum(list(found.values()), axis=0).tolist() == [1] * len(values)
    assert list(found) == labels


def test_slice_values_are_aucs_inside_the_slice(
    models: dict[str, ModelScores], trained: Path, store: EventStore, rows: dict[str, Requests]
) -> None:
    samples, test = store.samples("test"), rows["test"]
    inside = quantile_bins(samples["end"] - store.offsets[samples["user"]], CONFIG.slices)
    aucs: dict[str, list[float]] = {label: [] for label in inside}
    for seed in EXPERIMENT.seeds:
        logits = np.zeros(len(samples))
        logits[test.sample[test.mask]] = score(load_model(trained / f"hisac-{seed}")[0], Loader(test, CPU))[test.mask]
        for label, where in inside.items():
            aucs[label].append(auc(samples["label"][where], logits[where]))
    for label, values in aucs.items():
        entry = models["hisac"].slices["history length"][label]
        assert entry is not None
        assert entry.value == pytest.approx(np.mean(values), abs=1e-6)


def test_lengths_of_slices_are_those_before_the_cut(store: EventStore) -> None:
    """Users with 30 and with 300 events are not of one bin because a model reads 20 of them."""
    short = dataclasses.replace(store, manifest=store.manifest.model_copy(update={"history_limit": 5}))
    samples = store.samples("test")
    assert list(_slices(short, samples, 4)["history length"]) == list(_slices(store, samples, 4)["history length"])


def test_what_is_undefined_is_null_with_its_reason_and_the_rest_stands(
    stages: Stages, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slices(store: EventStore, samples: np.ndarray, bins: int) -> dict[str, dict[str, np.ndarray]]:
        return {"history length": {"0 to 9": samples["label"] == 0, "10 to 20": samples["label"] >= 0}}

    monkeypatch.setattr(evaluator, "_slices", slices)
    config = CONFIG.model_copy(update={"top": 10_000})
    (tmp_path / "out").mkdir()
    runs = {"din_50": [trained / "din_50-0"]}
    evaluate(config, ComputeConfig(device="cpu"), prepared=stages.prepare, runs=runs, out=tmp_path / "out",
             timings=tmp_path / "timings.json")  # fmt: skip
    scores = Scores.open(tmp_path / "out")
    found = scores.models["din_50"]
    assert found.metrics["recall@10000"] is None
    assert found.slices["history length"]["0 to 9"] is None
    assert found.slices["history length"]["10 to 20"] is not None
    assert found.auc.value > 0
    assert scores.users["recall@10000"] == 0 < scores.users["gauc"]
    assert scores.undefined == {
        "recall@10000": "no user has a positive, a negative and more than 10000 exposures",
        "history length/0 to 9": f"its {scores.slices['history length']['0 to 9']} samples are all negative",
    }
    assert '"recall@10000": null' in (tmp_path / "out" / "metrics.json").read_text()
