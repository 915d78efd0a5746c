"""The notes on papers: every citation in the code and every link of a page leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from headings import ROOT, anchors, resolves

NOTES = sorted((ROOT / "docs").rglob("*.md"))
PAPERS = ("hisac", "sam", "iat", "r2led")
PAGES = [*NOTES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CITATION = re.compile(r"docs/papers/[\w./-]*\.md(?:#[\w-]+)?")
# Keys and sections of notes mean nothing outside the note.
PRIVATE = re.compile(r"\bS[1-9]\b|\b(?:our|HiSAC) note\b|\b[Nn]ote,? (?:section )?\d|\b[Hh]ole \d")
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_anchors_are_those_of_github() -> None:
    text = "# A title: `code`, and more\n\n```\n# no heading\n```\n\n## Soft-routing attention\n    # indented\n"
    assert anchors(text) == ["a-title-code-and-more", "soft-routing-attention"]
    assert not resolves("docs/papers/hisac.md#nothing-of-the-kind")
    assert not resolves("docs/papers/nobody.md")


def test_every_citation_in_the_code_is_a_heading_of_a_note() -> None:
    cited = {(path.name, reference) for path in SOURCES for reference in CITATION.findall(path.read_text())}
    assert len(cited) > 50
    assert not {pair for pair in cited if not resolves(pair[1])}


def test_the_code_cites_no_key_or_section_that_only_a_note_knows() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if PRIVATE.search(line)
    ]
    assert not found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("name", PAPERS)
def test_a_note_on_a_paper_names_its_sources_and_its_differences(name: str) -> None:
    text = (ROOT / f"docs/papers/{name}.md").read_text()
    assert {"sources", "what-is-open", "where-our-reconstruction-differs", "not-built"} <= set(anchors(text))
    defined = set(re.findall(r"^\| (S\d) \|", text, flags=re.MULTILINE))
    assert defined == set(re.findall(r"\bS\d\b", text))


@pytest.mark.parametrize("page", NOTES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_headings_of_a_note_are_unique(page: Path) -> None:
    found = anchors(page.read_text())
    assert len(found) == len(set(found))
