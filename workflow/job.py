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

BUSY = "is busy, it is being blocked by"
ERRORS = ("hisac-lab: error:", "ERROR:")


def run(stage: str, log: str, *options: str) -> int:
    """Runs the stage; everything it says goes to `log`."""
    path = Path(log)
    path.parent.mkdir(exist_ok=True)
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", *options, stage]
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
        if process.returncode == 0 or BUSY not in path.read_text():
            return process.returncode
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
