"""`hisac-lab reproduce` on made-up locks: a reason for each way in which two runs can part."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import says
from outputs import machine_record

from hisac_lab.base.artifacts import stage_output, write_manifest
from hisac_lab.base.machines import MachineRecord
from hisac_lab.cli import machine
from hisac_lab.cli.locks import Comparison, Lock, compare, parse
from hisac_lab.cli.reproduce import clues, explain, read


def stage(name: str, reads: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    """A stage as DVC writes it, with one file of code and one output."""
    out = f"artifacts/{name.replace('@', '/')}"
    deps = [{"path": path, "hash": "md5", "md5": f"{path} one", "size": 1} for path in (*reads, f"src/{name}.py")]
    outs = [{"path": out, "hash": "md5", "md5": f"{out} one", "size": 1}]
    params = {"params.yaml": settings} if settings else {}
    return {"cmd": f"hisac-lab stage {name}", "deps": deps, "params": params, "outs": outs}


LOCK = {  # in no order, as DVC writes it
    "report": stage("report", ("artifacts/train",)),
    "train@b-0": stage("train@b-0", ("artifacts/embed",), train={"epochs": 3}, models={"b": {"kind": "din"}}),
    "train@a-0": stage("train@a-0", ("artifacts/embed",), train={"epochs": 3}),
    "embed": stage("embed", ("artifacts/acquire",), embed={"dim": 8, "parts": ["text"]}),
    "acquire": stage("acquire"),
}


def change(lock: dict[str, Any], name: str, path: str) -> None:
    """Gives an output other bytes, or a dependency of one stage."""
    for end in lock[name]["outs"] + lock[name]["deps"]:
        if end["path"] == path:
            end["md5"] = f"{path} other"


def run_below(lock: dict[str, Any], *names: str) -> None:
    """Gives stages other outputs, and all stages that read them other inputs."""
    for name in names:
        out = lock[name]["outs"][0]["path"]
        change(lock, name, out)
        for reader in lock:
            change(lock, reader, out)
            change(lock, reader, str(Path(out).parent))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def other() -> dict[str, Any]:
    """The stages of a second run, equal to those of the first until a test changes them."""
    return copy.deepcopy(LOCK)


def text_of(stages: dict[str, Any]) -> str:
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


def lock_of(stages: dict[str, Any]) -> Lock:
    return parse(text_of(stages), "dvc.lock")


def beside(other: dict[str, Any]) -> Comparison:
    return compare(lock_of(LOCK), lock_of(other))


def test_equal_locks_are_equal_in_the_order_of_the_graph(other: dict[str, Any]) -> None:
    comparison = beside(other)
    assert comparison.same
    assert comparison.outputs == 5
    assert comparison.equal == ["acquire", "embed", "train@a-0", "train@b-0", "report"]


def test_settings_are_named_with_both_values(other: dict[str, Any]) -> None:
    other["embed"]["params"]["params.yaml"]["embed"] |= {"dim": 16, "method": "text"}
    change(other, "embed", "src/embed.py")  # settings come first
    run_below(other, "embed", "train@a-0", "train@b-0", "report")
    comparison = beside(other)
    assert comparison.equal == ["acquire"]
    first, *below = comparison.differing
    assert first.first
    assert first.reason == "settings"
    assert first.settings == {"embed.dim": ("8", "16"), "embed.method": ("absent", "text")}
    assert first.code == ["src/embed.py"]
    assert [(part.stage, part.first, part.reason) for part in below] == [
        ("train@a-0", False, "upstream"),
        ("train@b-0", False, "upstream"),
        ("report", False, "upstream"),
    ]


def test_a_command_line_is_a_setting(other: dict[str, Any]) -> None:
    other["acquire"]["cmd"] += " --fast"
    run_below(other, "acquire")
    (part,) = beside(other).differing
    assert part.settings == {"command": ("hisac-lab stage acquire", "hisac-lab stage acquire --fast")}


def test_code_is_named(other: dict[str, Any]) -> None:
    change(other, "train@b-0", "src/train@b-0.py")
    run_below(other, "train@b-0", "report")
    comparison = beside(other)
    assert comparison.equal == ["acquire", "embed", "train@a-0"]
    assert [(part.stage, part.reason, part.code) for part in comparison.differing] == [
        ("train@b-0", "code", ["src/train@b-0.py"]),
        ("report", "upstream", []),
    ]


def test_data_from_outside_the_graph(other: dict[str, Any], lab: Path) -> None:
    run_below(other, "acquire")
    (part,) = beside(other).differing
    assert (part.first, part.reason) == (True, "data")
    assert explain(part, (lock_of(LOCK), lock_of(other))).startswith("another raw log, which lies outside the graph")
    other["acquire"]["deps"].append({"path": "log/u.data", "md5": "other"})
    (part,) = beside(other).differing
    assert part.data == ["log/u.data"]
    assert explain(part, (lock_of(LOCK), lock_of(other))) == "other data: log/u.data"


def test_other_inputs_alone_where_the_stages_above_are_equal(other: dict[str, Any]) -> None:
    """A run that was stopped before `report`, or one model more."""
    other["train@c-0"] = stage("train@c-0", ("artifacts/embed",))
    change(other, "report", "artifacts/train")
    change(other, "report", "artifacts/report")
    del other["train@b-0"]
    comparison = beside(other)
    assert (comparison.only_this, comparison.only_that) == (["train@b-0"], ["train@c-0"])
    assert not comparison.same
    (part,) = comparison.differing
    assert (part.first, part.reason, part.inputs) == (True, "upstream", ["artifacts/train"])
    assert "in one of them alone" in explain(part, (lock_of(LOCK), lock_of(other)))


def test_same_inputs_and_other_bytes_are_the_machines(other: dict[str, Any], lab: Path) -> None:
    run_below(other, "embed", "train@a-0", "train@b-0", "report")
    locks = lock_of(LOCK), lock_of(other)
    part = compare(*locks).differing[0]
    assert (part.stage, part.reason, part.reads) == ("embed", "arithmetic", ["artifacts/acquire"])
    assert "neither output is here" in explain(part, locks)
    (lab / "dvc.lock").write_text(text_of(other))
    assert machine.UNKNOWN in explain(part, locks)
    with machine.recorded("embed"), stage_output(lab / "artifacts/embed") as out:
        write_manifest(out)
    path = lab / "logs/stages/embed.json"
    native = {"arithmetic": "native", "native_because": "it was asked for"}
    MachineRecord.read(path).model_copy(update=native).write(path)
    assert explain(part, locks).endswith("arithmetic was native here (it was asked for)")


def test_a_record_names_what_may_have_cost_equal_bytes() -> None:
    versions = {"numpy": "2.4.6", "torch": "2.13.0+cpu", "glibc": "2.36"}
    record = machine_record("Processor One", versions=versions)
    pins = {"numpy": "2.4.6", "torch": "2.13.0"}
    (nothing,) = clues(record, pins)
    assert "portable" in nothing
    assert "Processor One, glibc 2.36" in nothing
    assert "logs/stages/embed.json of both machines" in nothing
    assert clues(record, pins | {"numpy": "2.4.5"}) == ["numpy is 2.4.6 here, constraints.txt says 2.4.5"]
    gpu = machine_record("Processor One", arithmetic="native", native_because="a GPU computes", gpu="GPU One")
    assert clues(gpu, pins) == ["arithmetic was native here (a GPU computes)", "computed on a GPU here (GPU One)"]


@pytest.mark.parametrize("text", ["", "[]", "stages: [a]", "stages: {a: 1}", "stages: {a: {deps: []}}", "a: [", "\0"])
def test_what_is_no_lock_is_one_line(text: str, lab: Path) -> None:
    (lab / "lock").write_text(text)
    with says("lock", "not what DVC writes"):
        read("lock")


def test_stages_in_a_circle_are_no_lock() -> None:
    circle = {"a": stage("a", ("artifacts/b",)), "b": stage("b", ("artifacts/a",))}
    with says("dvc.lock", "circle"):
        compare(lock_of(circle), lock_of(circle))


def run(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hisac_lab.cli.main", "reproduce", *words]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def test_the_command_compares_files_and_revisions(lab: Path, other: dict[str, Any]) -> None:
    def git(*words: str) -> None:
        author = ("-c", "user.email=lab@example.org", "-c", "user.name=lab")
        subprocess.run(["git", *author, *words], cwd=lab, check=True, capture_output=True)

    refused = run(lab)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("hisac-lab: error: dvc.lock: does not exist; ")
    (lab / "dvc.lock").write_text(text_of(LOCK))
    assert "in no git repository" in run(lab).stderr
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "nothing")
    assert "HEAD: has no dvc.lock" in run(lab).stderr
    git("add", "dvc.lock")
    git("commit", "--quiet", "--message", "first")
    equal = run(lab)
    assert (equal.returncode, equal.stdout) == (0, "all 5 outputs equal\n")

    other["embed"]["params"]["params.yaml"]["embed"]["dim"] = 16
    run_below(other, "embed", "train@a-0", "train@b-0", "report")
    (lab / "dvc.lock").write_text(text_of(other))
    differing = run(lab)
    assert (differing.returncode, differing.stderr) == (1, "")
    for line in (
        "this is dvc.lock, that is HEAD",
        "equal      acquire",
        "differ     embed, train@a-0, train@b-0, report",
        "the runs part at embed",
        "  inputs    equal: artifacts/acquire",
        "  settings  embed.dim: 16, that 8",
        "  code      equal",
        "  likely    other settings: embed.dim",
    ):
        assert line in differing.stdout.splitlines()
    told = run(lab, "HEAD", "dvc.lock", "--json")
    assert told.returncode == 1
    answer = json.loads(told.stdout)
    assert answer["this"] == "HEAD"
    assert answer["equal"] == ["acquire"]
    assert answer["differing"][0]["settings"] == {"embed.dim": ["8", "16"]}
    assert answer["differing"][0]["reason"] == "settings"

    refused = run(lab, "HEAD", "no-such-revision")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "no-such-revision: is neither a file nor a git revision" in refused.stderr
