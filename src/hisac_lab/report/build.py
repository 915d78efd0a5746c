"""The stage `report`: from a finished run to a page, its Markdown twin, its figures and the headline numbers."""

from __future__ import annotations

from pathlib import Path

from hisac_lab.base.artifacts import stage_output, write_file, write_json
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.collect import collect
from hisac_lab.report.document import Section
from hisac_lab.report.facts import Facts
from hisac_lab.report.plots import tables
from hisac_lab.report.render import to_figures, to_html, to_markdown
from hisac_lab.report.sections.abtest import abtest
from hisac_lab.report.sections.data import data
from hisac_lab.report.sections.fidelity import fidelity
from hisac_lab.report.sections.leaderboard import cost, history, leaderboard
from hisac_lab.report.sections.provenance import provenance
from hisac_lab.report.sections.sweep import sweep
from hisac_lab.report.sections.tokens import tokens
from hisac_lab.report.sections.training import training
from hisac_lab.report.sections.user import user
from hisac_lab.report.sections.verdict import question, verdict


def build_report(
    artifacts: Artifacts,
    promotion: PromotionConfig,
    *,
    html: Path,
    markdown: Path,
    figures: Path,
    metrics: Path,
    plots: Path,
) -> None:
    """Reads a finished run and writes the report; the same artifacts always give the same bytes.

    Args:
        artifacts: Outputs of the stages.
        promotion: The section `promotion`: whether a model may ship.
        html: One self-contained page: styles, charts and a short script inside, no network.
        markdown: The same numbers as tables.
        figures: A folder with each chart of the page as `NAME.svg`, and nothing else.
        metrics: Flat JSON of headline numbers, `MODEL.METRIC`, for `dvc metrics`.
        plots: A folder with the tables that `dvc plots` draws, `NAME.csv`.

    Raises:
        UserError: A stage has not run, its output is not what this version writes, or a file cannot be written.
    """
    facts = collect(artifacts, promotion)
    sections = compose(facts)
    page = head(facts)
    texts = to_html(sections, **page), to_markdown(sections, **page)
    for path, text in zip((html, markdown), texts, strict=True):
        write_file(path, text)
    with stage_output(figures) as out:
        for name, svg in to_figures(sections).items():
            write_file(out / f"{name}.svg", svg)
    write_json(metrics, headline_numbers(facts))
    with stage_output(plots) as out:
        for name, table in tables(facts).items():
            table.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")


def head(facts: Facts) -> dict[str, str]:
    """What stands above the sections."""
    return {
        "title": f"hisac-lab: {facts.acquired.dataset}",
        "question": question(facts),
        "mark": facts.evaluated.negatives,
        "fingerprint": facts.evaluated.fingerprint,
    }


def compose(facts: Facts) -> list[Section]:
    """The report's sections in reading order."""
    return [
        verdict(facts),
        history(facts),
        abtest(facts),
        cost(facts),
        tokens(facts),
        user(facts),
        sweep(facts),
        training(facts),
        leaderboard(facts),
        data(facts),
        fidelity(facts),
        provenance(facts),
    ]


def headline_numbers(facts: Facts) -> dict[str, float]:
    """Per model: test metrics, calibration error of the best seed, lift where it was tested; `MODEL.METRIC`."""
    numbers: dict[str, float] = {}
    for name, model in facts.scores.models.items():
        numbers |= {f"{name}.{metric}": entry.value for metric, entry in model.metrics.items() if entry is not None}
        numbers[f"{name}.calibration_error"] = model.served.calibration.error
        if name in facts.tests.tests:
            numbers[f"{name}.ab_lift"] = facts.tests.tests[name].lift.value
    return numbers
