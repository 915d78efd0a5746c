"""`hisac-lab report`: a page of this machine, and two runs side by side; what is no run is named in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import edit, make
from outputs import EVALUATED

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.errors import UserError
from hisac_lab.cli import report
from hisac_lab.cli.params import defaults


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "artifacts")
    Path("params.yaml").write_text(defaults())
    return tmp_path


def test_the_page_of_this_machine_has_times_of_the_same_protocol(project: Path) -> None:
    times = {"device": "cpu", "encode_us_per_request": 1000.0, "score_us_per_candidate": 4.0}
    write_json(project / "logs/timings.json", {"fingerprint": EVALUATED["fingerprint"], "models": {"new": times}})
    twin = (project / report.here()).with_suffix(".md").read_text()
    assert "its time here" in twin
    assert "| 3.0 ms |" in twin
    assert "Version: " in twin
    write_json(project / "logs/timings.json", {"fingerprint": "another", "models": {"new": times}})
    assert "| 3.0 ms |" not in (project / report.here()).with_suffix(".md").read_text()


@pytest.mark.parametrize("inside", ["", "artifacts"])
def test_another_run_is_named_by_its_project_or_its_artifacts(project: Path, inside: str) -> None:
    other = make(project / "other" / "artifacts")
    edit(other.evaluate / "manifest.json", fingerprint="another")
    twin = (project / report.against(Path("other") / inside)).with_suffix(".md").read_text()
    assert twin.startswith(f"# How does this run differ from `{Path('other') / inside}`?")
    assert "not comparable" in twin


@pytest.mark.parametrize(
    ("run", "words"), [("nowhere", "is no folder"), ("empty", "holds no finished run"), (".", "is this run itself")]
)
def test_what_is_no_other_run_is_said_and_nothing_is_written(project: Path, run: str, words: str) -> None:
    (project / "empty").mkdir()
    with pytest.raises(UserError, match=words):
        report.against(Path(run))
    assert not (project / "reports").exists()
