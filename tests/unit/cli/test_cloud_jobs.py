"""The graph as one job of a cloud: specifications that the clouds' own schemas take."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator
from kit import says

from hisac_lab.cli import job

ROOT = Path(__file__).parents[3]
IMAGE, REPOSITORY = "ghcr.io/us/hisac-lab:1.2", "https://example.org/us/project.git"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kubernetes(capsys: pytest.CaptureFixture[str], *, gpus: int = 0, claim: str | None = None) -> dict[str, Any]:
    job.kubernetes(IMAGE, REPOSITORY, "main", gpus, claim)
    made: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return made


def problems(definition: dict[str, Any]) -> str:
    """What AWS's own model of the call says against it."""
    model = botocore.session.get_session().get_service_model("batch").operation_model("RegisterJobDefinition")
    report = ParamValidator().validate(definition, model.input_shape)
    return str(report.generate_report())


@pytest.mark.parametrize(("gpus", "claim"), [(0, None), (1, "work")])
def test_kubernetes_takes_the_job(
    project: Path, capsys: pytest.CaptureFixture[str], gpus: int, claim: str | None
) -> None:
    made = kubernetes(capsys, gpus=gpus, claim=claim)
    kubernetes_validate.validate(made, "1.30", strict=True)
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if gpus else None)
    assert ("persistentVolumeClaim" in pod["volumes"][0]) == bool(claim)
    made["spec"]["template"]["spec"]["containers"][0]["imagge"] = "typo"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(made, "1.30", strict=True)


def test_aws_batch_takes_the_job_definition(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job.aws_batch(IMAGE, REPOSITORY, "main", 2)
    made = json.loads(capsys.readouterr().out)
    assert problems(made) == ""
    amounts = {one["type"]: one["value"] for one in made["containerProperties"]["resourceRequirements"]}
    assert amounts["GPU"] == "2"
    assert problems(made | {"tries": 3}) != ""


def test_a_job_asks_for_what_the_largest_stage_declares(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = [stage["meta"] for stage in yaml.safe_load((project / "dvc.yaml").read_text())["stages"].values()]
    (container,) = kubernetes(capsys)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == str(max(one["threads"] for one in meta))
    assert container["resources"]["limits"]["memory"] == f"{max(one['resources']['mem_mb'] for one in meta)}M"


def test_the_script_clones_runs_and_pushes_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """Here with stand-ins for the two engines, which fail at the first try."""
    origin, work, bin_ = (tmp_path / name for name in ("origin", "work", "bin"))
    for folder in (origin, work, bin_):
        folder.mkdir()
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        author = ["-c", "user.name=lab", "-c", "user.email=lab@example.org"]
        subprocess.run(["git", *author, *words], cwd=origin, check=True)
    (bin_ / "dvc").write_text('#!/bin/sh\necho "dvc $@" >> said; test "$1" = push\n')
    (bin_ / "snakemake").write_text('#!/bin/sh\necho "snakemake $@" >> said; test -e half || { touch half; exit 1; }\n')
    for name in ("dvc", "snakemake"):
        (bin_ / name).chmod(0o755)
    environment = {"PATH": f"{bin_}:/usr/bin:/bin", "REPOSITORY": str(origin), "REVISION": "main", "CORES": "3"}
    codes = [subprocess.run(["bash", "-ec", job.SCRIPT], cwd=work, env=environment).returncode for _ in range(2)]
    assert codes == [1, 0]
    begun = ["dvc fetch --run-cache", "snakemake --cores 3"]
    assert (work / "project/said").read_text().splitlines() == [*begun, *begun, "dvc push --run-cache"]


def test_bad_words_are_told_in_one_line(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with says("image: 'two words' is no name of an image; write HOST/NAME:TAG"):
        job.kubernetes("two words", REPOSITORY, "main", 0, None)
    with says("repository: '--upload-pack=x' is no address"):
        job.aws_batch(IMAGE, "--upload-pack=x", "main", 0)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with says("revision: this folder has no commit; commit, or name one with --revision"):
        job.aws_batch(IMAGE, REPOSITORY, None, 0)
    (project / "dvc.yaml").unlink()
    with says("dvc.yaml: holds no stages; run this in a project's folder"):
        job.kubernetes(IMAGE, REPOSITORY, "main", 0, None)
