"""A finished run, made by hand: the artifacts that the report reads, and the report built from them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from outputs import CALIBRATION, EVALUATED

from hisac_lab.base.artifacts import write_json, write_manifest
from hisac_lab.base.stages import STAGES, Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.build import build_report

NAMES = [f"m{place:02}" for place in range(12)]
"""A crowd of models, worst first; the reference `base` ranks below all of them."""
NASTY = "<b>Bold</b> & co | `tick"

Built = tuple[str, str, dict[str, float], dict[str, str]]
"""Page, twin, headline numbers, figures by name."""

READINGS: dict[str, Any] = {
    "user": 1,
    "time": 86_400,
    "begin": 1,
    "end": 6,
    "items": [1, 2],
    "positive": [True, False],
    "models": {
        "new": [
            {
                "probability": 0.7,
                "agents": [{"path": [1], "weight": 0.9}],
                "votes": {"level 1": [3.0, 2.0]},
            },
            {"probability": 0.25, "agents": [{"path": [1], "votes": 3, "weight": 1.0}]},
        ]
    },
}
"""What two candidates read of the user bert, by the model `new`."""

TRIALS = "agents,depth,number,state,fixed,cut,auc,error,standard_error,seeds,request_macs,state_bytes,on_front,reason\n"


def metric(value: float, difference: float) -> dict[str, Any]:
    return {
        "value": value,
        "interval": [value - 0.01, value + 0.01],
        "seed_spread": 0.001,
        "difference": difference,
        "difference_interval": [difference - 0.003, difference + 0.003],
    }


def scores(auc: float, difference: float) -> dict[str, Any]:
    sliced = metric(auc, auc - 0.7) | {"interval": [auc - 0.02, auc + 0.02]}
    return {
        "metrics": {name: metric(auc, difference) for name in ("auc", "gauc", "log_loss", "ndcg@5", "recall@5")},
        "slices": {
            "history length": {"16 to 40": sliced, "1 to 15": sliced, "154 to 405": sliced},
            "item popularity": {"0 to 3": sliced},
        },
        "seeds": {"0": {"auc": auc, "valid_auc": 0.7, "calibration": CALIBRATION}},
        "best_seed": 0,
        "cost": {"state_bytes": 4000.5, "encode_macs": 250000.0, "candidate_macs": 50000.0},
        "parameters": 1234,
        "settings": {},
    }


def ab_result(value: float, verdict: str) -> dict[str, Any]:
    lift = {"value": value, "low": value - 0.004, "high": value + 0.004, "p_value": 0.2}
    return {
        "lift": lift,
        "corrected": lift,
        "parts": {"users": {"error": 0.001, "degrees": 8.0}, "seeds": {"error": None}, "clicks": {"error": 0.0}},
        "p_holm": 0.2,
        "p_equivalence": 0.6,
        "detectable": 0.006,
        "power": 0.71,
        "metrics": {
            "tail_share": {
                "control": 0.07,
                "treatment": 0.08,
                "value": 0.01,
                "low": 0.004,
                "high": 0.016,
                "p_holm": 0.03,
            },
        },
        "slices": {"16 to 40": lift, "1 to 15": lift | {"low": -0.01}},
        "draw": {
            "users": {"control": 1000, "treatment": 1010},
            "ctr": {"control": 0.29, "treatment": 0.3},
            "lift": lift,
            "lift_cuped": lift,
            "lift_stratified": lift,
            "cuped_variance_removed": 0.34,
            "stratified_variance_removed": 0.12,
            "sample_ratio_p": 0.5,
        },
        "verdict": verdict,
    }


AB_CONTROL = "base"


def evidence(name: str, scored: dict[str, Any], control: str) -> dict[str, Any]:
    """What the gates ask of a model: every one holds, but for the control of the A/B test."""
    lift = {"value": 0.012, "low": 0.008, "high": 0.016, "p_value": 0.0}
    test = {
        "kind": "fitted",
        "verdict": "better",
        "reason": "",
        "control": control,
        "lift": lift,
        "sample_ratio_holds": True,
        "aa_holds": True,
        "fingerprint": EVALUATED["fingerprint"],
        "test_fingerprint": "00ff00ff00ff00ff",
    }
    return {
        "model": name,
        "seed": 0,
        "seeds": [0],
        "weights": f"weights of {name}",
        "fingerprint": EVALUATED["fingerprint"],
        "negatives": "real exposures",
        "valid_auc": 0.7,
        "side": None,
        "metrics": scored["metrics"],
        "calibration_error": 0.02,
        "cost": scored["cost"],
        "parameters": 1234,
        "popularity": {"difference": 0.02, "interval": [0.012, 0.028]},
        "comparisons": {},
        "abtest": None if name == control else test,
    }


AA = {"tests": 100, "rates": {"0.05": 0.06}, "ks_p": 0.8, "tenths": [0.12, *[0.1] * 8, 0.08]}
KNOWS = {"name": "knows", "holds": True, "says": "the world's AUC is 0.7800, the best model's 0.7100"}


def write_run(train: Path, name: str, seed: int, auc: float, steps: tuple[int, ...] = (10, 20)) -> None:
    """One training run whose validation AUC ends at `auc`, after 0.1 less."""
    run = train / f"{name}-{seed}"
    run.mkdir()
    facts = {"name": name, "seed": seed, "parameters": 1234, "steps": steps[-1], "valid_auc": auc}
    write_manifest(run, **facts, settings={"kind": name})
    aucs = [auc - 0.1] * (len(steps) - 1) + [auc]
    points = [
        {"step": step, "train_loss": 0.6, "valid_auc": value, "valid_log_loss": 0.61}
        for step, value in zip(steps, aucs, strict=True)
    ]
    (run / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))


def make(root: Path) -> Artifacts:
    """Artifacts of a finished run with two models, a control and a challenger."""
    made = Artifacts(root)
    for stage in STAGES:
        made.at(stage).mkdir(parents=True)
    write_manifest(made.acquire, dataset="toy", layout="csv", files={"log.csv": "ab" * 32})
    split = {"samples": 100, "requests": 50, "users": 10, "positive_share": 0.5}
    split |= {f"history_p{q}": q for q in (10, 50, 90, 99)}
    write_manifest(
        made.prepare,
        dataset="toy",
        users=12,
        items=4,
        items_described=4,
        positive_from=4.0,
        fields=[],
        extras=[],
        cuts={"valid": 887039271, "test": 889237269},
        events=1234,
        history_events=600,
        events_out_of_order=3,
        events_outside=2,
        events_repeated=1,
        samples_without_history=5,
        samples_not_kept=0,
        leaks={
            "samples_checked": 321,
            "history_of_another_user": 0,
            "history_after_the_request": 0,
            "history_left_out": 0,
        },
        negatives="real exposures",
        time_unit="second",
        history_limit=1000,
        splits={
            "train": split | {"from": 874724727, "to": 887039164},
            "valid": split | {"from": 887039271, "to": 889237247},
            "test": split | {"from": 889237269, "to": 893286638},
        },
        protocol="0123456789abcdef",
        profile={
            "months": {"1997-09": {"events": 700, "positive_share": 0.5}, "1997-10": {"events": 534}},
            "history_length_deciles": list(range(0, 110, 10)),
            "history_length_p99": 99,
            "item_age_days": {"p10": 1, "p50": 20, "p90": 300},
            "test_share_of_new_users": 0.25,
            "test_share_of_new_items": 0.125,
        },
    )
    items = pd.DataFrame({"item": list("abcd"), "text": list("wxyz"), "title": ["One", "Two", NASTY, "Four"]})
    items.to_parquet(made.prepare / "items.parquet", index=False)
    np.save(made.prepare / "history_items.npy", np.array([0, 1, 2, 1, 3, 0], np.int32))
    np.save(made.prepare / "history_times.npy", np.arange(6))
    np.save(made.prepare / "item_fields.npy", np.zeros((4, 0), np.int32))
    np.save(made.prepare / "offsets.npy", np.array([0, 1, 6]))
    pd.DataFrame({"user": ["anna", "bert"]}).to_parquet(made.prepare / "users.parquet", index=False)
    embedding = {"method": "text", "parts": {"text": 1.0}, "items": 4, "dim": 2, "items_without_embedding": 0}
    write_manifest(made.embed, **embedding)
    np.save(made.embed / "embeddings.npy", np.eye(4, 2, dtype=np.float32))
    level = {"width": 2, "use": 1.0, "perplexity": 1.9, "explained_variance": 0.4, "prefixes": 2, "fan_out": 2.0}
    level |= {"evenness": 0.95, "entropy_bits": 0.93, "purity": 0.6, "seed_agreement": 0.35}
    quality = {
        "levels": [level],
        "ids": 2,
        "occupancy": 1.0,
        "collision_rate": 1.0,
        "fair_share": 0.5,
        "largest_bucket": 2,
        "max_bucket_share": 0.5,
    }
    quality |= {"explained_variance": 0.4, "mean_squared_error": 0.1, "cosine": 0.8, "neighbor_overlap": 0.3}
    quality |= {"purity_by_chance": 0.2, "purity_lift": 3.0}
    tokenization: dict[str, Any] = {"method": "residual_kmeans", "category": "genre", "quality": quality, "refit": {}}
    tokenization |= {"widths": [2], "depth": 1, "dim": 2, "items": 4, "items_without_id": 1}
    write_manifest(made.tokenize, **tokenization)
    book = {"depth": 1, "digest": "abcd", "method": "residual_kmeans", "own_space": False}
    write_manifest(made.codebook, **book, widths=[2], nodes=[2], mean_fan_out=[2.0], items=4, items_without_id=1)
    np.save(made.codebook / "item_nodes.npy", np.array([[0], [1], [1], [-1]]))
    np.save(made.codebook / "vectors_0.npy", np.eye(2, dtype=np.float32))
    for name, values in (("parents", [0, 0]), ("codes", [0, 1]), ("counts", [1, 2])):
        np.save(made.codebook / f"{name}_0.npy", np.array(values))
    swept = made.swept("new")
    swept.mkdir()
    trials = TRIALS + "4,1,0,complete,False,,0.69,0.004,0.0123,2,1000,128,True,\n"
    trials += "8,1,1,complete,True,agents 8 to 6,0.7,0.003,0.0,2,1200,256.5,True,\n"
    (swept / "trials.csv").write_text(trials)
    sweep = {"model": "new", "best": 1, "chosen": 0, "trained": 0, "rule": "the cheapest", "auc": 0.69, "best_auc": 0.7}
    sweep |= {"states": {"complete": 2}, "exhausted": False, "finalists": [0, 1], "finalist_seeds": 2, "near": [0, 1]}
    sweep |= {"trials": 2, "front": [0, 1], "standard_error": 0.0123, "request_macs": 1000, "state_bytes": 128.0}
    settings = {"votes_from": "positives", "vote": "tree", "agents": 1, "fill": True, "keep_votes": None}
    (swept / "best.json").write_text(json.dumps({"model": "new", "settings": settings}))
    write_manifest(swept, **sweep, budgets=[1])
    write_manifest(made.instances, order="none", digest="none")
    for name in ("base", "new"):
        write_run(made.train, name, 0, 0.7)
    bins = {"history length": {"1 to 15": 30, "16 to 40": 30, "154 to 405": 40}, "item popularity": {"0 to 3": 100}}
    models = {"base": scores(0.7, 0.0), "new": scores(0.71, 0.01)}
    popularity = {name: {"difference": 0.02, "interval": [0.012, 0.028]} for name in models}
    write_json(made.evaluate / "metrics.json", {"models": models, "slices": bins, "popularity": popularity})
    write_manifest(made.evaluate, **EVALUATED)
    write_json(made.evaluate / "readings.json", READINGS)
    tests = {"new": ab_result(0.012, "better")}
    write_json(
        made.abtest / "abtest.json",
        {
            "control": "base",
            "tests": tests,
            "evidence": "fitted",
            "checks": [KNOWS],
            "margin": 0.005,
            "aa": AA,
            "seeds": {"base": [0], "new": [0]},
            "caveat": "A world is not the world.",
        },
    )
    world = {"family": "factors", "exposures": 90, "judged": 40, "auc": 0.78, "gauc": 0.7, "calibration_error": 0.01}
    world |= {"apart": {"users": 0.04}, "size": {"factors": 8, "penalty": 4.0}, "refits": 10, "judges": True}
    write_manifest(
        made.abtest,
        control="base",
        fingerprint=EVALUATED["fingerprint"],
        test_fingerprint="00ff00ff00ff00ff",
        confidence=0.95,
        setup={"real_users": 9, "pool": 4, "repeated": 0.0, "without_met": True},
        worlds=[world],
    )
    for name in ("base", "new"):
        line = {
            "claim": "it ranks",
            "status": "stated",
            "source": "docs/papers/paper.md#claim",
            "test": "test_it_ranks",
        }
        write_json(made.register / name / "card.json", [line, line | {"status": "left out", "test": ""}])
        write_json(made.register / name / "evidence.json", evidence(name, models[name], AB_CONTROL))
    write_manifest(made.register, models={}, stages={}, pipeline="feedfeedfeedfeed")
    return made


def pairs_of(models: dict[str, Any], p: float) -> list[dict[str, Any]]:
    """Every pair of models with the difference of their AUCs, all with one p-value."""
    aucs = {name: model["metrics"]["auc"]["value"] for name, model in models.items()}
    names = sorted(aucs)
    return [
        {"one": one, "other": other, "difference": aucs[one] - aucs[other], "interval": [0, 0], "p": p}
        for at, one in enumerate(names)
        for other in names[at + 1 :]
    ]


def make_crowd(root: Path) -> Artifacts:
    """Artifacts of twelve models of two seeds beside the reference, and a sweep of one trial."""
    made = make(root)
    write_run(made.train, "base", 1, 0.74, steps=(10, 20, 30))
    for name in NAMES:
        for seed in range(2):
            write_run(made.train, name, seed, 0.75 + 0.01 * seed)
    models = {"base": scores(0.7, 0.0)} | {name: scores(0.71 + 0.01 * at, 0.01) for at, name in enumerate(NAMES)}
    for model in models.values():
        model["seeds"]["1"] = model["seeds"]["0"]
    edit(made.evaluate / "metrics.json", models=models)
    for name in NAMES:
        (made.register / name).mkdir()
        write_json(made.register / name / "evidence.json", evidence(name, models[name], AB_CONTROL))
    verdicts = dict.fromkeys(NAMES, (0.001, "undecided")) | {"m03": (0.012, "better"), "m07": (-0.02, "worse")}
    edit(made.abtest / "abtest.json", tests={name: ab_result(*verdict) for name, verdict in verdicts.items()})
    swept = made.swept("new")
    (swept / "trials.csv").write_text(TRIALS + "4,1,0,complete,False,,0.7,0.004,0.0,1,1000,128,True,\n")
    edit(swept / "manifest.json", best=0, auc=0.7, standard_error=0.0, states={"complete": 1}, near=[0])
    return made


def build(inputs: Artifacts, out: Path) -> Built:
    paths = {"html": out / "report.html", "markdown": out / "report.md", "metrics": out / "metrics.json"}
    build_report(inputs, PromotionConfig(), **paths, figures=out / "figures", plots=out / "plots")
    page, twin, numbers = (path.read_text(encoding="utf-8") for path in paths.values())
    figures = {path.stem: path.read_text(encoding="utf-8") for path in sorted((out / "figures").iterdir())}
    return page, twin, json.loads(numbers), figures


def texts(chart: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


def edit(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text()) | changes)
