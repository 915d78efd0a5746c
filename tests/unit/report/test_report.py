"""The report on small hand-made artefacts: whole, deterministic, self-contained, and the same in both forms."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.errors import UserError
from hisac_lab.report.collect import Inputs
from hisac_lab.report.run import build_report

SECTIONS = ["Headline", "Data", "Semantic IDs", "Sweep", "Training", "Leaderboard", "A/B test", "Fidelity", "Lineage"]
NASTY = "<b>Bold</b> & co | `tick"

Built = tuple[str, str, dict[str, float]]


def metric(value: float, difference: float) -> dict[str, Any]:
    return {
        "value": value,
        "interval": [value - 0.01, value + 0.01],
        "seed_spread": 0.001,
        "difference": difference,
        "difference_interval": [difference - 0.003, difference + 0.003],
    }


def scores(auc: float, difference: float) -> dict[str, Any]:
    sliced = {"value": auc, "interval": [auc - 0.02, auc + 0.02]}
    calibration = {
        "error": 0.02,
        "ratio": 1.0,
        "curve": [{"predicted": 0.2, "observed": 0.25}, {"predicted": 0.7, "observed": 0.6}],
    }
    return {
        "metrics": {name: metric(auc, difference) for name in ("auc", "gauc", "log_loss", "ndcg@5", "recall@5")},
        "slices": {
            "history length": {"16 to 40": sliced, "1 to 15": sliced, "154 to 405": sliced},
            "item popularity": {"0 to 3": sliced},
        },
        "seeds": {"0": {"auc": auc, "valid_auc": 0.7, "calibration": calibration}},
        "best_seed": 0,
        "cost": {"state_bytes": 4000.5, "encode_macs": 250000.0, "candidate_macs": 50000.0},
        "parameters": 1234,
    }


def test_result(value: float, verdict: str) -> dict[str, Any]:
    lift = {"value": value, "low": value - 0.004, "high": value + 0.004, "p_value": 0.2}
    return {
        "users": {"control": 1000, "treatment": 1010},
        "ctr": {"control": 0.29, "treatment": 0.3},
        "lift": lift,
        "lift_cuped": lift,
        "cuped_variance_removed": 0.34,
        "sample_ratio_p": 0.5,
        "true_lift": value,
        "verdict": verdict,
    }


test_result.__test__ = False  # type: ignore[attr-defined]


def make(root: Path) -> Inputs:
    """Artefacts of a finished run with two models, a control and a challenger."""
    made = Inputs(**{field.name: root / field.name for field in fields(Inputs)})
    for field in fields(Inputs):
        getattr(made, field.name).mkdir(parents=True)
    write_json(
        made.acquire / "manifest.json",
        {"dataset": "toy", "layout": "csv", "files": {"log.csv": "ab" * 32}},
    )
    split = {"samples": 100, "requests": 50, "users": 10, "positive_share": 0.5}
    split |= {f"history_p{q}": q for q in (10, 50, 90, 99)}
    write_json(
        made.prepare / "manifest.json",
        {
            "users": 12,
            "items": 4,
            "events": 1234,
            "history_events": 600,
            "events_out_of_order": 3,
            "events_outside": 2,
            "events_repeated": 1,
            "samples_without_history": 5,
            "samples_not_kept": 0,
            "leaks": {
                "samples_checked": 321,
                "history_of_another_user": 0,
                "history_after_the_request": 0,
                "history_left_out": 0,
            },
            "negatives": "real exposures",
            "time_unit": "second",
            "history_limit": 1000,
            "splits": {
                "train": split | {"from": 874724727, "to": 887039164},
                "valid": split | {"from": 887039271, "to": 889237247},
                "test": split | {"from": 889237269, "to": 893286638},
            },
            "protocol": "0123456789abcdef",
            "profile": {
                "months": {"1997-09": {"events": 700, "positive_share": 0.5}, "1997-10": {"events": 534}},
                "history_length_deciles": list(range(0, 110, 10)),
                "history_length_p99": 99,
                "item_age_days": {"p10": 1, "p50": 20, "p90": 300},
                "test_share_of_new_users": 0.25,
                "test_share_of_new_items": 0.125,
            },
        },
    )
    items = pd.DataFrame({"item": list("abcd"), "text": list("wxyz"), "title": ["One", "Two", NASTY, "Four"]})
    items.to_parquet(made.prepare / "items.parquet", index=False)
    np.save(made.prepare / "history_items.npy", np.array([0, 1, 2, 1, 3, 0], np.int32))
    np.save(made.prepare / "history_times.npy", np.arange(6))
    np.save(made.prepare / "offsets.npy", np.array([0, 1, 6]))
    pd.DataFrame({"user": ["anna", "bert"]}).to_parquet(made.prepare / "users.parquet", index=False)
    embedding = {"method": "text", "parts": {"text": 1.0}, "dim": 2, "items_without_embedding": 0}
    write_json(made.embed / "manifest.json", embedding)
    np.save(made.embed / "embeddings.npy", np.eye(4, 2, dtype=np.float32))
    level = {"width": 2, "use": 1.0, "perplexity": 1.9, "explained_variance": 0.4, "prefixes": 2, "fan_out": 2.0}
    level |= {"evenness": 0.95, "entropy_bits": 0.93, "purity": 0.6, "seed_agreement": 0.35}
    quality = {"levels": [level], "ids": 2, "collision_rate": 1.0, "largest_bucket": 2, "max_bucket_share": 0.5}
    quality |= {"explained_variance": 0.4, "cosine": 0.8, "neighbour_overlap": 0.3}
    quality |= {"purity_by_chance": 0.2, "purity_lift": 3.0}
    tokenization = {"method": "residual_kmeans", "category": "genre", "quality": quality, "refit": {}}
    write_json(made.tokenize / "manifest.json", tokenization)
    book = {"depth": 1, "digest": "abcd", "method": "residual_kmeans", "own_space": False}
    write_json(made.codebook / "manifest.json", book | {"nodes": [2], "items_without_id": 1})
    np.save(made.codebook / "item_nodes.npy", np.array([[0], [1], [1], [-1]]))
    np.save(made.codebook / "vectors_0.npy", np.eye(2, dtype=np.float32))
    for name, values in (("parents", [0, 0]), ("codes", [0, 1]), ("counts", [1, 2])):
        np.save(made.codebook / f"{name}_0.npy", np.array(values))
    trials = "number,agents,depth,auc,cost,on_front\n0,4,1,0.7,1000.0,True\n1,8,1,0.69,1200.0,False\n"
    (made.sweep / "trials.csv").write_text(trials)
    sweep = {"model": "new", "chosen": 0, "rule": "the cheapest", "auc": 0.7, "best_auc": 0.7, "cost": 1000.0}
    write_json(made.sweep / "manifest.json", sweep | {"budgets": [1]})
    for name in ("base", "new"):
        run = made.train / f"{name}-0"
        run.mkdir()
        facts = {"name": name, "seed": 0, "parameters": 1234, "steps": 20, "valid_auc": 0.7, "settings": {"kind": name}}
        write_json(run / "manifest.json", facts)
        points = [{"step": s, "train_loss": 0.6, "valid_auc": 0.7, "valid_log_loss": 0.61} for s in (10, 20)]
        (run / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    bins = {"history length": {"1 to 15": 30, "16 to 40": 30, "154 to 405": 40}, "item popularity": {"0 to 3": 100}}
    models = {"base": scores(0.7, 0.0), "new": scores(0.71, 0.01)}
    write_json(made.evaluate / "metrics.json", {"models": models, "slices": bins})
    evaluation = {"fingerprint": "fedcba9876543210", "reference": "base", "confidence": 0.95}
    evaluation |= {"negatives": "real exposures", "test_samples": 100, "test_users": 10}
    write_json(made.evaluate / "manifest.json", evaluation)
    tests = {"new": test_result(0.012, "won")}
    write_json(
        made.abtest / "abtest.json",
        {"control": "base", "tests": tests, "aa": test_result(0.0, "undecided"), "caveat": "A world is not the world."},
    )
    world = {"real_users": 9, "exposures": 90, "holdout_auc": 0.68, "dim": 8}
    write_json(
        made.abtest / "manifest.json",
        {"test_fingerprint": "00ff00ff00ff00ff", "confidence": 0.95, "world": world},
    )
    for name in ("base", "new"):
        line = {"claim": "it ranks", "status": "stated", "source": "S1", "test": "test_it_ranks"}
        write_json(made.register / name / "card.json", [line, line | {"status": "left out", "test": ""}])
    return made


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return make(tmp_path / "artifacts")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Page, twin and headline numbers of the run as it is made."""
    folder = tmp_path_factory.mktemp("run")
    return build(make(folder / "artifacts"), folder)


def build(inputs: Inputs, out: Path) -> Built:
    paths = out / "report.html", out / "report.md", out / "metrics.json"
    build_report(inputs, *paths)
    page, twin, numbers = (path.read_text(encoding="utf-8") for path in paths)
    return page, twin, json.loads(numbers)


def edit(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


def test_same_artefacts_give_same_bytes(built: Built, inputs: Inputs, tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other"}):  # what a user's matplotlibrc may hold
        assert build(inputs, tmp_path) == built


def test_sections_stand_in_order(built: Built) -> None:
    page, twin, _ = built
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert re.findall(r"^## (.*)$", twin, re.MULTILINE) == SECTIONS


def test_page_needs_nothing_but_itself(built: Built) -> None:
    page, twin, _ = built
    assert not re.findall(r'(?:src|href|action|data)="(?!#)[^"]*', page)
    assert not re.search(r"<script|<link|@import|url\((?!#)|http", page)
    assert "/artifacts" not in page + twin


def test_ids_are_unique_and_found(built: Built) -> None:
    page = built[0]
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def numbers_in(text: str) -> list[str]:
    return re.findall(r"[+−]?\d[\d,.]*", text)


def test_twin_has_the_same_numbers(built: Built) -> None:
    page, twin, _ = built
    body = page[page.index("<header>") :]
    for tag in ("nav", "svg", "h3", "figcaption"):
        body = re.sub(rf"<{tag}\b.*?</{tag}>", " ", body, flags=re.DOTALL)
    shown = html.unescape(re.sub(r"<[^>]+>", " ", body.replace("<wbr>", "")))
    assert numbers_in(shown) == numbers_in(twin)
    assert len(numbers_in(shown)) > 200


def test_numbers_are_those_of_the_artefacts(built: Built) -> None:
    _, twin, metrics = built
    assert "| new | 0.7100 [0.7000, 0.7200] |" in twin
    assert "| new | **+0.0100** [+0.0070, +0.0130] |" in twin
    assert "| new | won | +1.20 % [+0.80 %, +1.60 %] | 0.200 |" in twin
    assert "| train | 1997-09-20 | 1998-02-09 | 100 |" in twin
    assert metrics["new.auc"] == 0.71
    assert metrics["new.calibration_error"] == 0.02
    assert metrics["new.ab_lift"] == 0.012
    assert "base.ab_lift" not in metrics
    assert {"base.gauc", "base.log_loss", "base.ndcg@5", "base.recall@5"} <= set(metrics)


def test_a_long_log_is_shown_by_year(built: Built, inputs: Inputs, tmp_path: Path) -> None:
    assert "Events by month (UTC)." in built[1]
    profile = json.loads((inputs.prepare / "manifest.json").read_text())["profile"]
    months = {f"{1990 + at // 12}-{at % 12 + 1:02}": {"events": 10 + at, "positive_share": 0.5} for at in range(60)}
    edit(inputs.prepare / "manifest.json", profile=profile | {"months": months})
    twin = build(inputs, tmp_path)[1]
    assert "Events by year (UTC)." in twin
    assert f"| 1991 | {sum(10 + at for at in range(12, 24))} | 50.00 % |" in twin


def test_known_truth_stands_beside_the_models(built: Built, inputs: Inputs, tmp_path: Path) -> None:
    assert "ceiling" not in built[1]
    truth = {"value": 0.8, "interval": [0.79, 0.81]}
    recent = {"value": 0.75, "interval": [0.74, 0.76]}
    edit(
        inputs.evaluate / "metrics.json",
        ceilings={"probability_anywhere": truth, "probability_recent_anywhere": recent},
    )
    twin = build(inputs, tmp_path)[1]
    assert "| true probability: the ceiling | 0.8000 [0.7900, 0.8100] |" in twin
    assert "| new | 0.7100 [0.7000, 0.7200] | 70.0 % |" in twin  # 0.21 of 0.30


def test_slices_are_sorted_by_their_first_number(built: Built) -> None:
    twin = built[1]
    found = re.findall(r"^\| (\d+ to \d+) ", twin, re.MULTILINE)
    assert found == ["1 to 15", "16 to 40", "154 to 405", "0 to 3"]


def test_titles_are_escaped(built: Built) -> None:
    page, twin, _ = built
    assert "<b>Bold" not in page + twin
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; co | `tick" in page
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; co \\| `tick" in twin


def test_overlapping_periods_are_called_out(built: Built, inputs: Inputs, tmp_path: Path) -> None:
    assert "No two periods overlap." in built[1]
    manifest = json.loads((inputs.prepare / "manifest.json").read_text())
    manifest["splits"]["valid"]["from"] = manifest["splits"]["train"]["to"]
    write_json(inputs.prepare / "manifest.json", manifest)
    assert "WARNING: two periods overlap" in build(inputs, tmp_path)[1]


def needed_files() -> Iterator[str]:
    for stage in ("acquire", "prepare", "embed", "tokenize", "codebook", "sweep", "evaluate", "abtest"):
        yield f"{stage}/manifest.json"
    yield from ("prepare/items.parquet", "embed/embeddings.npy", "codebook/item_nodes.npy", "codebook/vectors_0.npy")
    yield from ("sweep/trials.csv", "train/new-0/manifest.json", "train/new-0/curve.jsonl")
    yield from ("evaluate/metrics.json", "abtest/abtest.json")


@pytest.mark.parametrize("name", list(needed_files()))
def test_missing_file_is_named(inputs: Inputs, tmp_path: Path, name: str) -> None:
    (tmp_path / "artifacts" / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        build(inputs, tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("evaluate/manifest.json", "{}", "fingerprint"),
        ("sweep/trials.csv", "number,auc,cost\n0,0.7,1.0\n", "on_front"),
        ("train/new-0/curve.jsonl", "{", "curve.jsonl"),
    ],
)
def test_file_of_another_version_is_named(inputs: Inputs, tmp_path: Path, name: str, content: str, field: str) -> None:
    (tmp_path / "artifacts" / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(name)) as error:
        build(inputs, tmp_path)
    assert field in str(error.value)
    assert "run the stage" in str(error.value)


def test_report_stands_without_register(inputs: Inputs, tmp_path: Path) -> None:
    for path in sorted(inputs.register.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    inputs.register.rmdir()
    twin = build(inputs, tmp_path)[1]
    assert "the stage `register` has not run" in twin
    assert "| register | `not run` |" in twin


def test_single_model_without_feedback(inputs: Inputs, tmp_path: Path) -> None:
    """The control alone, on a log whose negatives are sampled."""
    mark = "sampled negatives, 4 per positive"
    edit(inputs.evaluate / "manifest.json", negatives=mark)
    profile = json.loads((inputs.prepare / "manifest.json").read_text())["profile"]
    edit(inputs.prepare / "manifest.json", profile=profile | {"months": {"1997-09": {"events": 7}}})
    metrics = json.loads((inputs.evaluate / "metrics.json").read_text())
    edit(inputs.evaluate / "metrics.json", models={"base": metrics["models"]["base"]})
    edit(inputs.abtest / "abtest.json", tests={})
    page, twin, _ = build(inputs, tmp_path)
    assert mark in page
    assert f"labels: {mark}" in twin
    assert "no model beside the control" in twin
