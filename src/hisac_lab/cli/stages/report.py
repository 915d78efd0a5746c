"""Stage report: the page, its Markdown twin, the headline numbers."""

from hisac_lab.cli.paths import (
    ABTEST,
    ACQUIRE,
    CODEBOOK,
    EMBED,
    EVALUATE,
    INSTANCES,
    PREPARE,
    REGISTER,
    REPORTS,
    SWEEP,
    TOKENIZE,
    TRAIN,
)
from hisac_lab.report.build import build_report
from hisac_lab.report.collect import Inputs


def run() -> None:
    """Runs the stage in the current folder."""
    inputs = Inputs(
        acquire=ACQUIRE,
        prepare=PREPARE,
        embed=EMBED,
        tokenize=TOKENIZE,
        codebook=CODEBOOK,
        sweep=SWEEP,
        instances=INSTANCES,
        train=TRAIN,
        evaluate=EVALUATE,
        abtest=ABTEST,
        register=REGISTER,
    )
    build_report(inputs, REPORTS / "report.html", REPORTS / "report.md", REPORTS / "metrics.json")
