"""One job of Snakemake: `dvc repro --single-item STAGE`, patient while another DVC process has the stage in hand.

Everything that is said goes to the log; what a stage says of its progress goes on to Snakemake's terminal, too.

DVC waits for its repository lock when asked to, but not for the locks of single outputs: there it gives up at once. A
`dvc repro` started beside Snakemake would so fail a job whose result is about to be there. Here the job asks again.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

DVC = Path(__file__).with_name("repro.py")  # DVC, but for how it writes dvc.lock
BUSY = "is busy, it is being blocked by"
RESTORED, UNCHANGED = "is cached - skipping run", "didn't change, skipping"
ERRORS = ("hisac-lab: error:", "ERROR:")


def run(stage: str, log: str, *options: str) -> int:
    """Runs the stage; everything it says goes to `log`."""
    path = Path(log)
    path.parent.mkdir(exist_ok=True)
    command = ["python", str(DVC), "--wait-for-lock", "repro", "--single-item", *options, stage]
    while True:
        with (
            path.open("w") as file,
            subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True, errors="replace") as process,
        ):
            assert process.stderr is not None
            for line in process.stderr:
                file.write(line)
                file.flush()
                if not line.startswith(ERRORS):  # Snakemake shows the log of a failed job
                    print(line, end="", file=sys.stderr, flush=True)
        said = path.read_text()
        if process.returncode == 0:
            return _settle(stage, log, said, options)
        if BUSY not in said:
            return process.returncode
        time.sleep(1)


def _settle(stage: str, log: str, said: str, options: tuple[str, ...]) -> int:
    """Says when nothing was computed; what DVC has restored is compared with dvc.lock, and computed when it is damaged.

    DVC trusts its cache: a flipped bit there would be an output that is up to date.
    """
    restored = RESTORED in said
    if not restored and UNCHANGED not in said:
        return 0
    if restored and subprocess.run(["hisac-lab", "verify", stage, "--repair"], check=False).returncode:
        print(f"hisac-lab: {stage}: DVC's cache was damaged; it is computed anew", file=sys.stderr, flush=True)
        return run(stage, log, *options, "--force")
    what = "restored from DVC's cache" if restored else "as it was"
    line = f"hisac-lab: {stage}: {what}, nothing computed (to compute it: dvc repro --force --single-item {stage})"
    print(line, file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
