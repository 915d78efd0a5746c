"""workflow/job.py: one log of all that a stage says, progress on the terminal, and patience with another DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).parents[3] / "workflow" / "job.py"
DVC = """#!/bin/sh
echo "Running stage '$5'"
echo "train: 3 of 9 batches" >&2
if [ ! -e tried ]; then touch tried; echo "ERROR: 'out' is busy, it is being blocked by: {'pid': 1}" >&2; exit 255; fi
echo "hisac-lab: warning: slow" >&2
echo 'done'
exit ${CODE:-0}
"""


@pytest.mark.parametrize("code", [0, 3])
def test_a_busy_stage_is_asked_for_again_and_its_progress_is_heard(code: int, tmp_path: Path) -> None:
    (tmp_path / "python").write_text(DVC)
    (tmp_path / "python").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CODE": str(code)}
    command = [sys.executable, str(JOB), "train@din-0", "logs/train.log"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["train: 3 of 9 batches", "train: 3 of 9 batches", "hisac-lab: warning: slow"]
    log = (tmp_path / "logs" / "train.log").read_text().splitlines()
    assert sorted(log) == sorted(
        ["Running stage 'train@din-0'", "done", "train: 3 of 9 batches", "hisac-lab: warning: slow"]
    )


VERIFY = """#!/bin/sh
echo "$@" >> verified
[ -e sound ]
"""
FAKE = """#!/bin/sh
shift
echo "$@" >> asked
case "$*" in *--force*) echo "Running stage";; *) echo "Stage 'tokenize' is cached - skipping run, checking out";; esac
"""


@pytest.mark.parametrize("sound", [True, False])
def test_what_is_restored_is_verified_and_computed_when_it_is_damaged(sound: bool, tmp_path: Path) -> None:
    for name, text in (("python", FAKE), ("hisac-lab", VERIFY)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    if sound:
        (tmp_path / "sound").touch()
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, str(JOB), "tokenize", "logs/tokenize.log"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (tmp_path / "verified").read_text() == "verify tokenize --repair\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    plain = "--wait-for-lock repro --single-item tokenize"
    assert asked == ([plain] if sound else [plain, "--wait-for-lock repro --single-item --force tokenize"])
    said = "restored from DVC's cache, nothing computed" if sound else "DVC's cache was damaged; it is computed anew"
    assert said in done.stderr
