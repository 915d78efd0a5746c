"""Stage report: the page, its Markdown twin, its figures, the headline numbers."""

from hisac_lab.cli.paths import ARTIFACTS, FIGURES, REPORTS
from hisac_lab.config.base import load_section
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.build import build_report


def run() -> None:
    """Runs the stage in the current folder."""
    build_report(
        ARTIFACTS,
        load_section("promotion", PromotionConfig),
        html=REPORTS / "report.html",
        markdown=REPORTS / "report.md",
        figures=FIGURES,
        metrics=REPORTS / "metrics.json",
        plots=REPORTS / "plots",
    )
