"""Stage report: the page, its Markdown twin, the headline numbers."""

from hisac_lab.cli.paths import ARTIFACTS, REPORTS
from hisac_lab.report.build import build_report


def run() -> None:
    """Runs the stage in the current folder."""
    build_report(
        ARTIFACTS,
        html=REPORTS / "report.html",
        markdown=REPORTS / "report.md",
        metrics=REPORTS / "metrics.json",
    )
