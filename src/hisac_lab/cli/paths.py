"""The places of a project, relative to its folder."""

from pathlib import Path

from hisac_lab.base.stages import Artifacts

GRAPH = Path("dvc.yaml")
LOCK = Path("dvc.lock")

ARTIFACTS = Artifacts(Path("artifacts"))

CHAMPION = Path("champion")
"""The champion's bundle, as `hisac-lab promote` leaves it; the entry of its model in params.yaml has its digest."""

REPORTS = Path("reports")
FIGURES = REPORTS / "figures"
LEDGER = REPORTS / "ledger.jsonl"

RUNNING = Path(".snakemake/hisac-lab.lock")
"""Locked as long as a graph runs here; its text is the number of that process."""

WORK = Path(".work")
"""What survives a kill (checkpoints, journals); never an output."""

TIMINGS = Path("logs/timings.json")
"""What differs between machines; never an output."""

RECORDS = Path("logs/stages")
"""Which machine made each output (see `hisac_lab.cli.machine`); never an output."""

EXPORTS = Path("exports")
"""Tables for other systems; never an output."""
