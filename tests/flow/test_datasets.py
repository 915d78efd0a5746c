"""Other data sets than the demo's go through the same graph."""

from __future__ import annotations

import json

from lab import Lab


def test_a_simulated_world_ends_in_a_report_with_its_oracle(lab: Lab) -> None:
    lab.set(**{"acquire.dataset": "world", "acquire.world.users": 40, "embed.method": "supplied"})
    lab.set(**{"prepare.shards": [0, 1, 2], "experiment.models": ["din_50", "hisac"]})
    computed = lab.snakemake()
    assert {"acquire", "ingest", "shard@0", "shard@1", "shard@2", "prepare", "evaluate", "report"} <= set(computed)
    metrics = json.loads((lab.path / "artifacts/evaluate/metrics.json").read_text())
    oracles = {name: entry["value"] for name, entry in metrics["oracles"].items()}
    assert oracles["probability"] > oracles["probability_anywhere"] > oracles["probability_recent_anywhere"] > 0.6
    for model in metrics["models"].values():
        assert model["metrics"]["auc"]["value"] < oracles["probability_anywhere"]
    assert "true probability: the oracle" in (lab.path / "reports/report.md").read_text()
    assert lab.both_idle()


def test_fewer_shards_give_the_same_event_store_and_leave_nothing_behind(lab: Lab) -> None:
    lab.set(**{"prepare.shards": [0, 1, 2]})
    lab.snakemake("artifacts/prepare", "--cores", "2")
    before = lab.hashes()["artifacts/prepare"]
    lab.set(**{"prepare.shards": [0]})
    assert lab.snakemake("artifacts/prepare", "--cores", "2") == ["ingest", "prepare", "shard@0"]
    assert lab.hashes()["artifacts/prepare"] == before
    assert sorted(path.name for path in (lab.path / "artifacts/shard").iterdir() if path.is_dir()) == ["0"]
    assert lab.snakemake("artifacts/prepare", "--cores", "2") == []
