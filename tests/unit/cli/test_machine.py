"""The record of the machine beside each output."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from outputs import machine_record

from hisac_lab.base.artifacts import stage_output, write_manifest
from hisac_lab.base.machines import MachineRecord
from hisac_lab.cli import machine, summary


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the names of a graph's stages and nothing else."""
    stages = "acquire", "shard", "prepare", "train", "report"
    (tmp_path / "dvc.yaml").write_text("stages:\n" + "".join(f"  {name}: {{}}\n" for name in stages))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(name: str, fact: str = "") -> None:
    """The output of a stage, made under the record's eyes."""
    with machine.recorded(name), stage_output(Path("artifacts", *name.split("@"))) as out:
        write_manifest(out, fact=fact)


def test_instances_are_named_as_dvc_does() -> None:
    assert machine.address("prepare") == "prepare"
    assert machine.address("shard", 0) == "shard@0"
    assert machine.address("train", "hisac", 1) == "train@hisac-1"


def test_a_record_tells_times_memory_arithmetic_processor_and_versions(lab: Path) -> None:
    make("train@hisac-0")
    text = (lab / "logs/stages/train@hisac-0.json").read_text()
    record = MachineRecord.read(lab / "logs/stages/train@hisac-0.json")
    assert record == machine.record_of("train@hisac-0")
    assert record.stage == "train@hisac-0"
    assert record.started <= record.ended
    assert record.started.endswith("+00:00")
    assert record.seconds >= 0
    assert record.cpu_seconds >= 0
    assert 10 < record.peak_mb < 100_000
    assert (record.arithmetic == "portable") == (record.native_because is None)
    assert record.processor.model
    assert {"python", "numpy", "torch", "scipy", "pyarrow", "hisac-lab"} <= set(record.versions)
    assert record.code["numpy"]
    assert platform.node() not in text
    assert str(lab) not in text


def test_a_record_fits_the_output_it_speaks_of_and_no_other(lab: Path) -> None:
    make("prepare", "one")
    assert machine.record_of("prepare") is not None
    with stage_output(lab / "artifacts/prepare") as out:  # as DVC would restore another
        write_manifest(out, fact="two")
    assert machine.record_of("prepare") is None
    assert machine.record_of("acquire") is None
    (lab / "logs/stages/prepare.json").write_text("{")
    assert machine.record_of("prepare") is None


def test_a_record_that_cannot_be_written_fails_nothing(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "logs").write_text("a file where the folder would be")
    make("prepare")
    assert (lab / "artifacts/prepare/manifest.json").exists()
    assert "prepare was not recorded" in capsys.readouterr().err


def test_neither_a_failed_stage_nor_a_follower_of_torchrun_is_recorded(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError), machine.recorded("prepare"):
        raise ZeroDivisionError
    monkeypatch.setenv("RANK", "1")
    make("acquire")
    assert not (lab / "logs").exists()


def test_outputs_stand_in_the_order_of_the_graph(lab: Path) -> None:
    for name in ("train@hisac-0", "prepare", "shard@1", "shard@0", "acquire"):
        make(name)
    (lab / "reports").mkdir()
    (lab / "reports/report.md").write_text("# Report")
    assert list(machine.records()) == ["acquire", "shard@0", "shard@1", "prepare", "train@hisac-0", "report"]
    assert [name for name, record in machine.records().items() if record is None] == ["report"]


def test_the_summary_adds_up_the_instances_of_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    one = machine_record(processor="Processor One", peak_mb=1200)
    other = machine_record(processor="Processor Two", peak_mb=900, started="2026-01-01T03:04:05+00:00")
    summary.show_machines({"shard@0": one, "shard@1": other, "prepare": None})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == (
        "shard (2) 2026-01-01 03:04:05 3.0 2,001.0 1,200 portable, Processor One; portable, Processor Two".split()
    )
    assert " ".join(lines[2]) == f"{machine.UNKNOWN}: prepare"
    summary.show_machines({"shard@0": one, "shard@1": one})
    wide = capsys.readouterr().out.splitlines()
    assert wide[-1] == "all in portable arithmetic, by Processor One"
    assert max(map(len, wide)) <= 80
