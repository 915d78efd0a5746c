"""The report on small hand-made artefacts: whole, deterministic, self-contained, and the same in both forms."""

from __future__ import annotations

import html
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from finished import Built, build, edit, make

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts
from hisac_lab.report.sections.leaderboard import is_sure
from hisac_lab.report.words import excludes_zero

SECTIONS = ["Headline", "Data", "Semantic IDs", "Sweep", "Training", "Leaderboard", "A/B test", "Fidelity", "Lineage"]


@pytest.fixture
def inputs(tmp_path: Path) -> Artifacts:
    return make(tmp_path / "artifacts")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Page, twin and headline numbers of the run as it is made."""
    folder = tmp_path_factory.mktemp("run")
    return build(make(folder / "artifacts"), folder)


def test_same_artefacts_give_same_bytes(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
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


def test_a_long_log_is_shown_by_year(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    assert "Events by month (UTC)." in built[1]
    profile = json.loads((inputs.prepare / "manifest.json").read_text())["profile"]
    months = {f"{1990 + at // 12}-{at % 12 + 1:02}": {"events": 10 + at, "positive_share": 0.5} for at in range(60)}
    edit(inputs.prepare / "manifest.json", profile=profile | {"months": months})
    twin = build(inputs, tmp_path)[1]
    assert "Events by year (UTC)." in twin
    assert f"| 1991 | {sum(10 + at for at in range(12, 24))} | 50.00 % |" in twin


def test_known_truth_stands_beside_the_models(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
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


def test_the_sweep_s_choice_is_explained(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _ = built
    assert "It takes trial 0 with AUC 0.6900 (−0.0100 to trial 1, the best, with a standard error of 0.0123)" in twin
    assert "| 0 | 4 | 1 | 0.6900 | 0.0123 | 1,000 | chosen |" in twin
    assert "| 1 | 8 | 1 | 0.7000 | – | 1,200 | on the front |" in twin
    edit(inputs.sweep / "manifest.json", best=0)
    assert "with AUC 0.6900 (the best of all)" in build(inputs, tmp_path)[1]


def test_models_are_ranked_by_what_is_shown_and_equals_by_name(inputs: Artifacts, tmp_path: Path) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for name, auc in (("base", 0.71001), ("new", 0.71003)):
        models[name]["metrics"]["auc"]["value"] = auc
    edit(inputs.evaluate / "metrics.json", models=models)
    assert "`base` has the highest AUC, 0.7100" in build(inputs, tmp_path)[1]


def test_what_is_shown_as_zero_is_no_difference() -> None:
    assert excludes_zero((0.0001, 0.01))
    assert excludes_zero((-0.01, -0.0001))
    assert not excludes_zero((0.00004, 0.01))
    assert not excludes_zero((-0.01, -0.00004))
    assert is_sure(0.001, 0.0499, 0.05)
    assert not is_sure(0.001, 0.04996, 0.05)
    assert not is_sure(0.00001, 0.0, 0.05)


def test_slices_are_sorted_by_their_first_number(built: Built) -> None:
    twin = built[1]
    found = re.findall(r"^\| (\d+ to \d+) ", twin, re.MULTILINE)
    assert found == ["1 to 15", "16 to 40", "154 to 405", "0 to 3"]


def test_titles_are_escaped(built: Built) -> None:
    page, twin, _ = built
    assert "<b>Bold" not in page + twin
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; co | `tick" in page
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; co \\| `tick" in twin


def test_overlapping_periods_are_called_out(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
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
def test_missing_file_is_named(inputs: Artifacts, tmp_path: Path, name: str) -> None:
    (tmp_path / "artifacts" / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        build(inputs, tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("evaluate/manifest.json", "{}", "fingerprint"),
        ("sweep/trials.csv", "number,auc,standard_error,cost\n0,0.7,0.0,1\n", "on_front"),
        ("sweep/trials.csv", "number,agents,auc,standard_error,cost,on_front\n0,4,high,0.0,1,True\n", "auc"),
        ("train/new-0/curve.jsonl", "{", "curve.jsonl"),
    ],
)
def test_file_of_another_version_is_named(
    inputs: Artifacts, tmp_path: Path, name: str, content: str, field: str
) -> None:
    (tmp_path / "artifacts" / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(name)) as error:
        build(inputs, tmp_path)
    assert field in str(error.value)
    assert "run the stage" in str(error.value)


def test_report_stands_without_register(inputs: Artifacts, tmp_path: Path) -> None:
    for path in sorted(inputs.register.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    inputs.register.rmdir()
    twin = build(inputs, tmp_path)[1]
    assert "the stage `register` has not run" in twin
    assert "| register | `not run` | – |" in twin


def test_lineage_tells_arithmetic_and_no_machine(inputs: Artifacts, tmp_path: Path) -> None:
    edit(inputs.embed / "manifest.json", arithmetic="native")
    twin = build(inputs, tmp_path)[1]
    assert re.search(r"^\| embed \| `\w{12}` \| native \|$", twin, re.MULTILINE)
    assert re.search(r"^\| train new, seed 0 \| `\w{12}` \| portable \|$", twin, re.MULTILINE)
    assert "hisac-lab summary" in twin
    assert platform.node() not in twin


def test_single_model_without_feedback(inputs: Artifacts, tmp_path: Path) -> None:
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
