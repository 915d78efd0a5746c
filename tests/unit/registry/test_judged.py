"""What MLflow says of versions: may they ship, which is champion and why; and that an alias moved by hand goes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from outputs import machine_record
from registered import PRODUCT, copy_store, opened

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.mirror import Lineage
from hisac_lab.registry.store import Registry

PAGE = Path(__file__).parents[3] / "docs/howto/mlflow.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINEAGE = Lineage(
    "0123abc",
    {"train.learning_rate": 0.002},
    {"train@new-0": machine_record("Processor")},
    {"train@new-0": {"train.learning_rate": 0.002}},
)


@pytest.fixture(scope="module")
def home(empty_store: Path, run_made: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run mirrored and judged, and without a champion."""
    home = tmp_path_factory.mktemp("judged")
    with opened(empty_store, home) as registry:
        mirror(registry, run_made)
    return home


@pytest.fixture
def judged(home: Path, tmp_path: Path) -> Iterator[Registry]:
    """A copy of it, whose files still lie there."""
    copy_store(home, tmp_path)
    with opened(home / "mlflow.db", tmp_path) as registry:
        yield registry


def mirror(registry: Registry, artifacts: Artifacts, **limits: float) -> str:
    top, _ = registry.mirror(artifacts, LINEAGE, Path("nothing"))
    registry.judge(artifacts, top, PromotionConfig(**limits))  # type: ignore[arg-type]
    return top


def version(registry: Registry, model: str) -> Any:
    return registry.versions.pick(model, None)


def test_a_version_says_what_was_found_and_whether_it_may_ship(judged: Registry) -> None:
    new, base = version(judged, "new"), version(judged, "base")
    assert new.tags["may_ship"] == "yes: every gate holds"
    assert new.tags["gates"] == "7 of 7 hold"
    assert new.tags["gate.max_state_bytes"] == "holds: bytes of user state is 4,000, the limit is 200,000"
    assert new.tags["against"] == "popularity"
    first = new.description.splitlines()[0]
    assert first == "May it ship? yes: every gate holds. It is new, seed 0, of 1 trained."
    for part in ("0.7100 [0.7000, 0.7200]", "better, lift +1.20% [+0.80%, +1.60%]", "| abtest | holds |", "| stated |"):
        assert part in new.description
    assert "- A/B test: control" in base.description
    assert judged.client.get_registered_model(PRODUCT).description.endswith("\n\nNo champion.")


def test_a_gate_that_closes_later_is_told_at_the_next_look(judged: Registry, run_made: Artifacts) -> None:
    mirror(judged, run_made, max_state_bytes=100)
    new = version(judged, "new")
    assert new.tags["may_ship"] == "no: max_state_bytes"
    assert new.tags["gates"] == "6 of 7 hold"
    assert "| max_state_bytes | **fails** |" in new.description


def test_the_pipelines_note_has_a_row_per_model_and_leads_to_report_and_versions(
    judged: Registry, run_made: Artifacts
) -> None:
    top = mirror(judged, run_made)
    note = judged.client.get_run(top).data.tags["mlflow.note.content"]
    (row,) = [line for line in note.splitlines() if line.startswith("| [new]")]
    assert row.startswith("| [new](#/models/ranker/versions/2) | 0.7100 [0.7000, 0.7200] | better, lift +1.20%")
    assert row.endswith("| yes: every gate holds |")
    assert f"(#/experiments/{judged.experiment}/runs/{top}/artifacts/report.html)" in note
    about = judged.client.get_experiment(judged.experiment).tags
    assert about["mlflow.experimentKind"] == "custom_model_development"
    assert "hisac-lab promote" in about["mlflow.note.content"]


def test_the_champion_says_why_it_is_one(judged: Registry, run_made: Artifacts) -> None:
    judged.promoter.promote("new", None, PromotionConfig())
    mirror(judged, run_made)
    assert re.fullmatch(
        r"it is champion \(promoted on \d{4}-\d\d-\d\d, every gate held\)", version(judged, "new").tags["may_ship"]
    )
    assert version(judged, "base").tags["may_ship"].startswith("no: ")
    assert version(judged, "base").tags["against"] == "the champion, new"
    about = judged.client.get_registered_model(PRODUCT).description
    assert "Champion: version 2, `new`, promoted on " in about
    judged.promoter.promote("base", None, PromotionConfig(), forced="a try")
    mirror(judged, run_made)
    assert version(judged, "base").tags["may_ship"].endswith(": a try)")
    judged.promoter.rollback()
    mirror(judged, run_made)
    assert version(judged, "new").tags["may_ship"].startswith("it is champion (restored on ")


@pytest.mark.parametrize("number", ["1", None])
def test_an_alias_that_was_moved_by_hand_is_told_and_put_back(
    judged: Registry, run_made: Artifacts, number: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.promoter.promote("new", None, PromotionConfig())
    assert judged.promoter.moved() == ""
    if number:
        judged.client.set_registered_model_alias(PRODUCT, "champion", number)
    else:
        judged.client.delete_registered_model_alias(PRODUCT, "champion")
    there = "version 1" if number else "taken away"
    told = f"ranker@champion in MLflow is {there}, the ledger says version 2"
    assert judged.promoter.moved() == told
    capsys.readouterr()
    mirror(judged, run_made)
    assert f"{told}: it is put back; `hisac-lab promote` changes it\n" in capsys.readouterr().err
    assert judged.client.get_model_version_by_alias(PRODUCT, "champion").version == version(judged, "new").version
    assert judged.promoter.moved() == ""
    mirror(judged, run_made)
    assert "put back" not in capsys.readouterr().err


def test_an_alias_that_has_yet_to_follow_the_ledger_was_not_moved_by_hand(judged: Registry) -> None:
    new = version(judged, "new")
    line = judged.promoter.ledger.append(
        action="promote", product=PRODUCT, model="new", version="2", bundle=new.tags["hisac_lab.bundle"], gates=[]
    )
    assert judged.promoter.moved() == ""
    judged.promoter.restore_alias()
    assert judged.versions.decision() == line["hash"]


def test_a_training_that_owns_a_version_keeps_its_times(judged: Registry) -> None:
    run = judged.client.get_run(version(judged, "new").run_id)
    assert (run.info.end_time - run.info.start_time, run.info.status) == (1000, "FINISHED")


def test_the_queries_of_the_documentation_answer(judged: Registry, run_made: Artifacts) -> None:
    judged.promoter.promote("new", None, PromotionConfig())
    mirror(judged, run_made)
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) > 4
    found: dict[str, Any] = {}
    uri = mlflow.get_tracking_uri()
    for block in blocks:
        code = block.replace("sqlite:///mlflow.db", uri).replace('"hisac-lab"', '"tests"')
        exec(compile(code, PAGE.name, "exec"), found)
    assert [run.data.tags["model"] for run in found["by_rate"]] == ["new"]
    assert {run.data.tags["model"] for run in found["by_rank"]} == {"base", "new"}
    (good,) = found["good"]
    assert (good.name, {one.key: one.dataset_digest for one in good.metrics}["auc"]) == ("new", "0123456789abcdef")
    assert [one.version for one in found["numbered"]] == [version(judged, "new").version]
    assert found["data"].name == "toy"
    assert found["on_this_data"] > 3
    assert "promoted on" in found["why"]
    assert found["failed"].keys() == {"base"}
    assert found["steps"] == [10, 20]
