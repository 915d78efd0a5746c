"""Anchors of Markdown files, as GitHub makes them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def anchors(text: str) -> list[str]:
    """Anchors of all headings of a Markdown text, in order; fenced and indented code has none."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,6} +(.+?) *$", prose, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def resolves(reference: str) -> bool:
    """Whether `path/to/file.md#heading`, seen from the root of the repository, is there; the heading may be missing."""
    path, _, anchor = reference.partition("#")
    file = ROOT / path
    return file.is_file() and (not anchor or anchor in anchors(file.read_text()))


def sections(path: Path) -> dict[str, str]:
    """Text under each heading of a Markdown file, up to the next one, by anchor."""
    text = path.read_text()
    bodies = re.split(r"^#{1,6} +.+$", text, flags=re.MULTILINE)[1:]
    return dict(zip(anchors(text), bodies, strict=True))
