"""The document as one HTML page, as Markdown, and its figures as files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hisac_lab.report.document import Figures, Section
from hisac_lab.report.drawing import DARK, plain, strip, themed

_CODE = re.compile(r"`([^`]*)`")
_SHARE = re.compile(r"(\d) %")
_LONG_NAME = re.compile(r"\w{16,}")
_MARKUP = re.compile(r"[\\*|]|~~|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
"""What Markdown would take for markup."""
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def to_html(sections: Sequence[Section], **page: Any) -> str:
    """One page that needs nothing but itself.

    Args:
        sections: The report.
        page: What the page's head shows: title, question, mark, fingerprint.
    """
    return _environment(escaped=True).get_template("report.html.j2").render(sections=sections, **page)


def to_markdown(sections: Sequence[Section], **page: Any) -> str:
    """The twin: the same sections, numbers in place of charts."""
    return _environment(escaped=False).get_template("report.md.j2").render(sections=sections, **page)


def to_figures(sections: Sequence[Section]) -> dict[str, str]:
    """Each figure by its name, as an SVG file that stands alone."""
    figures = [
        figure
        for section in sections
        for block in section.blocks
        if isinstance(block, Figures)
        for figure in block.figures
    ]
    return {figure.name: plain(figure.svg.replace("<svg", f"<svg {_NAMESPACES}", 1)) for figure in figures}


def _environment(escaped: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("hisac_lab.report"),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose if escaped else _markdown
    environment.filters["whisker"] = strip
    environment.filters["themed"] = themed
    environment.globals["dark"] = DARK
    return environment


def _prose(text: str) -> Markup:
    """Plain text with `code` as HTML; long names may break after an underscore."""
    joined = _SHARE.sub("\\1\u00a0%", str(escape(text)))
    broken = _LONG_NAME.sub(lambda name: name[0].replace("_", "_<wbr>"), joined)
    return Markup(_CODE.sub(r"<code>\1</code>", broken))


def _markdown(text: str) -> str:
    """Plain text with `code` as Markdown on one line, fit for the cell of a table."""
    pieces = _CODE.split(" ".join(text.split()))
    for place in range(0, len(pieces), 2):
        safe = pieces[place].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        pieces[place] = _MARKUP.sub(lambda match: "\\" + match[0], safe)
    pieces[1::2] = ["`" + part.replace("|", "\\|") + "`" for part in pieces[1::2]]
    return "".join(pieces)
