"""Stage code: which code each model of params.yaml runs."""

from hisac_lab.base.artifacts import stage_output, write_json
from hisac_lab.cli.code import files
from hisac_lab.cli.paths import ARTIFACTS


def run() -> None:
    """Runs the stage in the current folder."""
    with stage_output(ARTIFACTS.code) as out:
        for name, content in files().items():
            write_json(out / name, content)
