"""What `make demo` says at its end."""

from __future__ import annotations

from hisac_lab.base.artifacts import read_json, read_manifest
from hisac_lab.cli.paths import ABTEST, EVALUATE, PREPARE, REPORTS, SWEEP, TIMINGS, TOKENIZE


def show() -> None:
    """Prints the lines."""
    data, tokens, sweep = read_manifest(PREPARE), read_manifest(TOKENIZE), read_manifest(SWEEP)
    models = read_json(EVALUATE / "metrics.json")["models"]
    tests = read_json(ABTEST / "abtest.json")
    seconds = read_json(TIMINGS)["models"] if TIMINGS.exists() else {}
    quality = tokens["quality"]
    print(f"data     {data['events']:,} events, {data['users']:,} users, {data['items']:,} items; {data['negatives']}")
    print(
        f"tokens   {quality['ids']:,} semantic IDs in {tokens['depth']} levels, "
        f"{quality['collision_rate']:.1%} of the items share theirs"
    )
    print(f"sweep    {sweep['trials']} trials, {len(sweep['front'])} on the front, chosen: trial {sweep['chosen']}")
    for name, entry in models.items():
        auc, test = entry["metrics"]["auc"], tests["tests"].get(name)
        low, high = auc["interval"]
        line = (
            f"{name:<9}AUC {auc['value']:.4f} [{low:.4f}, {high:.4f}], {entry['cost']['state_bytes']:,.0f} bytes a user"
        )
        if name in seconds:
            line += f", {seconds[name]['score_us_per_candidate']:.1f} us a candidate here"
        if test is None:
            line += "; control of the A/B test"
        else:
            lift = test["lift_cuped"]
            line += f"; A/B {test['verdict']}: {lift['low']:+.2%} to {lift['high']:+.2%}"
        print(line)
    print(f"\nreport   {REPORTS / 'report.html'}   (twin: {REPORTS / 'report.md'})")
    print("MLflow   source .venv/bin/activate && hisac-lab ui        then open http://127.0.0.1:5000")
    won = {n: t["lift_cuped"]["value"] for n, t in tests["tests"].items() if t["verdict"] == "won"}
    best = max(won, key=lambda name: won[name]) if won else None
    if best:
        print(f"promote  source .venv/bin/activate && hisac-lab promote {best}")
    else:
        print(
            "promote  no model beat the control in the A/B test, so the gates will refuse all; see `hisac-lab models`"
        )
