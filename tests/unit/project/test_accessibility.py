"""axe-core finds no accessibility error in the report and in the documentation, light and dark, on desktop and phone.

Needs Debian's chromium and `npm install --no-save axe-core@4`; the documentation also `make docs`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from finished import build, make
from scripts import load

ROOT = Path(__file__).parents[3]
AXE = ROOT / "node_modules/axe-core/axe.min.js"
RUN = "axe.run(document).then(found => found.violations.map(one => [one.id, one.impact, one.nodes.map(n => n.html)]))"


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that drives Chromium, where there is one."""
    module = load("browser", monkeypatch)
    if module.found() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return module


def violations(browser: ModuleType, address: str, width: int, dark: bool) -> list[Any]:
    """What axe-core says is wrong."""
    if not AXE.exists():
        pytest.skip("no axe-core here: npm install --no-save axe-core@4")
    with browser.started() as page:
        page.open(address, width, 900, dark=dark)
        page.run(f"{AXE.read_text(encoding='utf-8')}; 0")
        found: list[Any] = page.run(RUN)
        return found


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_the_report_has_no_accessibility_error(browser: ModuleType, tmp_path: Path, width: int, dark: bool) -> None:
    build(make(tmp_path / "artifacts"), tmp_path)
    assert violations(browser, (tmp_path / "report.html").as_uri(), width, dark) == []


@pytest.mark.parametrize("name", ["index.html", "tutorials/own_log/index.html", "howto/report/index.html"])
def test_the_documentation_has_no_accessibility_error(browser: ModuleType, name: str) -> None:
    page = ROOT / "site" / name
    if not page.exists():
        pytest.skip("no site here: make docs")
    assert violations(browser, page.as_uri(), 1280, False) == []


def test_the_page_filters_sorts_and_changes_its_colors(browser: ModuleType, tmp_path: Path) -> None:
    build(make(tmp_path / "artifacts"), tmp_path)
    with browser.started() as page:
        page.open((tmp_path / "report.html").as_uri(), 1280, 900)
        rows = "[...document.querySelectorAll('.board tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].innerText)"
        assert page.run(rows) == ["new", "base"]
        page.run("document.querySelector('.board thead th:nth-child(2) button').click()")
        assert page.run(rows) == ["new", "base"]
        page.run("document.querySelector('.board thead th:nth-child(2) button').click()")
        assert page.run(rows) == ["base", "new"]
        page.run("f = document.querySelector('.filter input'); f.value = 'ne'; f.dispatchEvent(new Event('input'))")
        assert page.run(rows) == ["new"]
        assert page.run("document.querySelector('.filter output').value") == "1 of 2"
        paper = "getComputedStyle(document.body).backgroundColor"
        light = page.run(paper)
        page.run("document.getElementById('theme').click()")
        assert page.run(paper) != light
        page.open((tmp_path / "report.html").as_uri(), 390, 800)
        assert page.run("document.documentElement.scrollWidth") == 390


def test_only_what_scrolls_is_a_stop_of_the_tab_key_and_the_first_skips_to_the_verdict(
    browser: ModuleType, tmp_path: Path
) -> None:
    build(make(tmp_path / "artifacts"), tmp_path)
    with browser.started() as page:
        for width in (1280, 390):
            page.open((tmp_path / "report.html").as_uri(), width, 900)
            page.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            wrong = (
                "[...document.querySelectorAll('.scroll')].filter(box => (box.tabIndex === 0) !== scrolls(box)).length"
            )
            scrolls = "box => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight"
            assert page.run(f"scrolls = {scrolls}; {wrong}") == 0
            assert page.run("document.documentElement.scrollWidth") == width
        first = page.run("[...document.querySelectorAll('a, button')].find(one => one.tabIndex === 0).hash")
        assert first == "#verdict"


def test_paper_cuts_no_table(browser: ModuleType, tmp_path: Path) -> None:
    build(make(tmp_path / "artifacts"), tmp_path)
    with browser.started() as page:
        page.open((tmp_path / "report.html").as_uri(), 703, 1017, media="print")
        ends = "[...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().right)"
        assert page.run(f"Math.max(...{ends})") <= 703, "an A4 page less its margins"


def test_a_picture_of_the_window_does_not_lay_the_page_out_anew(browser: ModuleType, tmp_path: Path) -> None:
    """Charts that follow the size of the page would be caught empty."""
    page_file = tmp_path / "page.html"
    page_file.write_text("<body style='height: 3000px'><script>n = 0; addEventListener('resize', () => n++)</script>")
    with browser.started() as page:
        page.open(page_file.as_uri(), 800, 600)
        page.picture(tmp_path / "window.png", (0, 0, 800, 600))
        assert page.run("new Promise(done => setTimeout(() => done(n), 500))") == 0
