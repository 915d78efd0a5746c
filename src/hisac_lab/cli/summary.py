"""What `make demo` says at its end."""

from __future__ import annotations

from typing import Any

from hisac_lab.base.artifacts import read_json, read_manifest
from hisac_lab.cli.paths import ABTEST, EVALUATE, PREPARE, REPORTS, SWEEP, TIMINGS, TOKENIZE
from hisac_lab.ops.choice import highest


def show() -> None:
    """Prints the lines."""
    data, tokens, sweep = read_manifest(PREPARE), read_manifest(TOKENIZE), read_manifest(SWEEP)
    models = read_json(EVALUATE / "metrics.json")["models"]
    tests = read_json(ABTEST / "abtest.json")["tests"]
    seconds = read_json(TIMINGS)["models"] if TIMINGS.exists() else {}
    shared = tokens["quality"]["collision_rate"]
    won = {name: test["lift_cuped"]["value"] for name, test in tests.items() if test["verdict"] == "won"}
    lines = [
        ("data", f"{data['events']:,} events, {data['users']:,} users, {data['items']:,} items; {data['negatives']}"),
        (
            "tokens",
            f"{tokens['quality']['ids']:,} semantic IDs in {tokens['depth']} levels, {shared:.1%} of items share",
        ),
        ("sweep", f"{sweep['trials']} trials, {len(sweep['front'])} on the front, chosen: trial {sweep['chosen']}"),
        *((name, _result(entry, tests.get(name), seconds.get(name))) for name, entry in models.items()),
        ("", ""),
        ("report", f"{REPORTS / 'report.html'} (twin: {REPORTS / 'report.md'})"),
        ("MLflow", "source .venv/bin/activate && hisac-lab ui    then open http://127.0.0.1:5000"),
        ("promote", f"source .venv/bin/activate && hisac-lab promote {highest(won, won.__getitem__, str)}")
        if won
        else (
            "promote",
            "no model beat the control in the A/B test, so the gates will refuse all; see `hisac-lab models`",
        ),
    ]
    width = max(len(head) for head, _ in lines) + 2
    print("\n".join(f"{head:<{width}}{text}".rstrip() for head, text in lines))


def _result(entry: dict[str, Any], test: dict[str, Any] | None, seconds: dict[str, Any] | None) -> str:
    auc = entry["metrics"]["auc"]
    low, high = auc["interval"]
    parts = [f"AUC {auc['value']:.4f} [{low:.4f}, {high:.4f}]", f"{entry['cost']['state_bytes']:,.0f} bytes a user"]
    if seconds:
        parts.append(f"{seconds['score_us_per_candidate']:.1f} us a candidate here")
    if test is None:
        return ", ".join(parts) + "; control of the A/B test"
    lift = test["lift_cuped"]
    return ", ".join(parts) + f"; A/B {test['verdict']}: {lift['low']:+.2%} to {lift['high']:+.2%}"
