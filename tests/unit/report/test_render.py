"""The page is self-contained, its Markdown twin has the same numbers, and its figures are files."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

import pytest
from finished import Built

from hisac_lab.report.document import Figure
from hisac_lab.report.drawing import plain

FIGURES = {
    "agents",
    "auc_by_history_length",
    "auc_by_item_popularity",
    "auc_on_the_test_period",
    "calibration",
    "difference_in_auc",
    "events_by_month",
    "explained_variance",
    "history_length",
    "lift_in_ctr",
    "offline_and_a_b",
    "quality_and_cost",
    "sweep_1_quality_and_cost",
    "sweep_1_quality_by_agents",
    "sweep_1_history",
    "quality_and_state",
    "sweep_1_quality_by_setting",
    "the_codebook",
    "the_graph",
    "train_loss",
    "use_of_the_codes",
    "validation_auc",
    "read",
}
SVG = "{http://www.w3.org/2000/svg}svg"


def test_page_needs_nothing_but_itself(built: Built) -> None:
    page, twin, *_ = built
    assert not re.findall(r'(?:src|href|action|data)="(?!#)[^"]*', page)
    assert not re.search(r"<script\s|<link|@import|url\((?!#)|http|fetch\(|import\(", page)
    assert "/artifacts" not in page + twin


def test_ids_are_unique_and_found(built: Built) -> None:
    page = built[0]
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def numbers_in(text: str) -> list[str]:
    return re.findall(r"[+−]?\d[\d,.]*", text)


def test_twin_has_the_same_numbers(built: Built) -> None:
    page, twin, *_ = built
    body = page[page.index("<header>") :]
    for tag in ("nav", "svg", "script", "figcaption"):
        body = re.sub(rf"<{tag}\b.*?</{tag}>", " ", body, flags=re.DOTALL)
    shown = html.unescape(re.sub(r"<[^>]+>", " ", body.replace("<wbr>", "")))
    assert numbers_in(shown) == numbers_in(twin)
    assert len(numbers_in(shown)) > 200


def test_each_chart_of_the_page_is_a_file(built: Built) -> None:
    page, *_, figures = built
    assert set(figures) == FIGURES
    assert page.count('role="img"') == len(FIGURES)
    for svg in figures.values():
        assert ElementTree.fromstring(svg).tag == SVG
        assert re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg) in plain(page)
        assert "var(" not in svg


def test_each_chart_says_what_is_to_be_seen(built: Built) -> None:
    page, twin, *_ = built
    seen = re.findall(r'<p class="seen">(.+?)</p>', page)
    assert len(seen) == len(FIGURES)
    assert len(re.findall(r"^- \*\*.+?:\*\* .+", twin, re.MULTILINE)) > len(FIGURES)
    assert all(len(words) > 20 for words in seen)
    with pytest.raises(ValueError, match="lift says nothing"):
        Figure("lift", "<svg/>", "Lift", " ", "Up is better.")


def test_colors_of_charts_follow_the_page_and_marks_say_what_they_are(built: Built) -> None:
    page = built[0]
    assert "<title>new: +0.0100 [+0.0070, +0.0130]</title>" in page
    for color in set(re.findall(r"var\((--x\w+),", page)):
        assert f"{color}: light-dark(" in page


def test_titles_are_escaped(built: Built) -> None:
    page, twin, *_ = built
    assert "<b>Bold" not in page + twin
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; co | `tick" in page
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; co \\| `tick" in twin
