"""`make screenshots`: pictures of the report and of documentation pages, into docs/pictures.

Needs Debian's chromium, a finished run and a built site (`make demo docs`). A picture more is a line in `SHOTS`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import browser

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
REPORT, SITE = "reports/report.html", "site"
LARGEST = 300 * 1024
"""Bytes of a picture at most."""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: Of its file.
        page: A file below the repository, or an address.
        size: Width and height in CSS pixels; a width below 600 is a phone's.
        at: A CSS selector of what stands at its top; empty: the page's top.
        dark: Whether the user prefers dark colors.
        media: screen or print.
    """

    name: str
    page: str
    size: tuple[int, int]
    at: str = ""
    dark: bool = False
    media: str = "screen"


SHOTS = (
    Shot("report", REPORT, (1280, 1180)),
    Shot("report-dark", REPORT, (1280, 1180), dark=True),
    Shot("report-phone", REPORT, (390, 1000)),
    Shot("report-phone-history", REPORT, (390, 900), "#history"),
    Shot("report-print", REPORT, (794, 1123), media="print"),
    Shot("report-history", REPORT, (1280, 900), "#history"),
    Shot("report-cost", REPORT, (1280, 900), "#cost"),
    Shot("report-codebook", REPORT, (1280, 820), "[aria-label^='The first-level nodes']"),
    Shot("report-user", REPORT, (1280, 1860), "#user"),
    Shot("report-sweep", REPORT, (1280, 1000), "#sweep"),
    Shot("docs-start", f"{SITE}/index.html", (1280, 900)),
    Shot("docs-tutorial", f"{SITE}/tutorials/own_log/index.html", (1280, 900)),
    Shot("docs-phone", f"{SITE}/index.html", (390, 800)),
)


def take(shots: tuple[Shot, ...], root: Path, out: Path) -> None:
    """Takes the pictures.

    Args:
        shots: Which.
        root: Where their pages lie.
        out: The folder of pictures.

    Raises:
        RuntimeError: A page is missing, or a picture is too large.
    """
    for shot in shots:
        if "://" not in shot.page and not (root / shot.page).exists():
            raise RuntimeError(f"{root / shot.page} does not exist: `make demo docs` makes it")
    out.mkdir(parents=True, exist_ok=True)
    with browser.started() as page:
        for shot in shots:
            address = shot.page if "://" in shot.page else (root / shot.page).absolute().as_uri()
            page.open(address, *shot.size, dark=shot.dark, media=shot.media)
            place = f"document.querySelector({shot.at!r})?.getBoundingClientRect().top + scrollY - 16"
            top = float(page.run(place) or 0) if shot.at else 0.0
            path = out / f"{shot.name}.png"
            page.picture(path, (0, max(0.0, top), *shot.size))
            if path.stat().st_size > LARGEST:
                raise RuntimeError(f"{path} has {path.stat().st_size:,} bytes, {LARGEST:,} is the limit: crop it")
            print(f"{path}: {path.stat().st_size:,} bytes")


def main(names: list[str]) -> None:
    """Takes all pictures, or those named."""
    unknown = sorted(set(names) - {shot.name for shot in SHOTS})
    if unknown:
        sys.exit(
            f"screenshots: no picture is called {', '.join(unknown)}; there are {', '.join(s.name for s in SHOTS)}"
        )
    try:
        take(tuple(shot for shot in SHOTS if not names or shot.name in names), ROOT, PICTURES)
    except RuntimeError as error:
        sys.exit(f"screenshots: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
